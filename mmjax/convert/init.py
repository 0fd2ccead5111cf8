"""A run that starts from weights: the config key `init`.

    init = {"from": "path", "map": [["image_encoder/(.*)", "encoder/\\\\1"], [".*", None]]}

`from` is a checkpoint of mmjax or whatever `mmjax convert` reads. A rule [own path regex, source path template] says where a
parameter comes from, the first that matches its whole path wins, and without rules each comes from its own name. A third
item [first, end] takes layers first to end - 1 of a stack: BERT's first six may be a text encoder's and its last six a
fusion encoder's. Parameters
that nothing fills, and those of the source that nothing takes, are an error unless a rule allows them: [own regex, None] and
[None, source regex]. A list of such dicts fills a model from several sources, one tower each.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmjax.convert import save
from mmjax.convert.recognise import recognise
from mmjax.convert.table import Tensor
from mmjax.core import tree
from mmjax.core.errors import UserError

KEYS = ("from", "map", "like")


class Init:
    """What fills a fresh model, checked against its shapes before anything is read.

    Args:
      spec: config.init: a dict, or a list of them.
      abstract: {"params": ..., "stats": ...} of the model.

    Attributes:
      taken: own path (params/..., stats/...) -> (its source's number, path there).
      lines: what was mapped, to be printed.

    Raises:
      UserError: a source that cannot be read, a rule that covers nothing, a parameter that is unfilled or unused and that no
        rule allows, or one of another shape.
    """

    def __init__(self, spec: Any, abstract: Mapping[str, Any]):
        own = tree.flatten(abstract)
        specs = spec if isinstance(spec, list) else [spec]
        self._sources = [_source(one, f"init[{i}]" if len(specs) > 1 else "init") for i, one in enumerate(specs)]
        self.taken: dict[str, tuple[int, str]] = {}
        self._layers: dict[str, slice] = {}
        self.lines: list[str] = []
        allowed: set[str] = set()
        for i, (one, source) in enumerate(zip(specs, self._sources, strict=True)):
            where = f"init[{i}]" if len(specs) > 1 else "init"
            taken, fresh, unused, layers = _match(one.get("map") or [["(.*)", r"\1"]], own, source, where)
            self._layers |= layers
            for path, other in taken.items():
                if path in self.taken:
                    raise UserError(f"{where}: {path} is filled by an earlier source already")
                self.taken[path] = (i, other)
            allowed |= fresh
            self.lines.append(
                f"{where}: {len(taken)} of {len(own)} leaves from {one['from']}; {len(unused)} of its own not used"
            )
        if unfilled := [path for path in own if path not in self.taken and path not in allowed]:
            raise UserError(f"init: {_some(unfilled)} filled by nothing: give a source, or allow it by a rule [regex, None]")
        wrong = [
            f"{path} {own[path].shape} from {other} {self._shape(path)}"
            for path, (_, other) in self.taken.items()
            if tuple(own[path].shape) != self._shape(path)
        ]
        if wrong:
            raise UserError(f"init: of another shape: {'; '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}")

    def __call__(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """{"params": ..., "stats": ...} with what is taken put in its place, each device's part by itself, leaf by leaf.

        Args:
          arrays: the fresh ones, placed; they say dtype and sharding.
        """

        def fill(path: str, old: jax.Array) -> jax.Array:
            if path not in self.taken:
                return old
            i, other = self.taken[path]
            # One leaf at a time is on this host, and of a memory-mapped file no more than the devices' parts are copied.
            whole = self._sources[i][other].read()
            whole = whole[self._layers[path]] if path in self._layers else whole
            return jax.make_array_from_callback(old.shape, old.sharding, lambda part: np.asarray(whole[part], old.dtype))

        return tree.map_with_path(fill, dict(arrays))

    def _shape(self, path: str) -> tuple[int, ...]:
        """Of what a parameter is filled with."""
        i, other = self.taken[path]
        shape = tuple(self._sources[i][other].shape)
        if path not in self._layers or not shape:
            return shape
        return len(range(shape[0])[self._layers[path]]), *shape[1:]


def _source(spec: Any, where: str) -> dict[str, Tensor]:
    if not isinstance(spec, Mapping) or "from" not in spec:
        raise UserError(f"{where}: write {{'from': path, 'map': [[own regex, source path], ...]}}, not {spec!r}")
    if unknown := [key for key in spec if key not in KEYS]:
        raise UserError(f"{where} has no key {unknown[0]!r}; it has: {', '.join(KEYS)}")
    if not save.is_checkpoint(spec["from"]):
        return recognise(spec["from"], spec.get("like")).leaves
    return save.load(spec["from"])[1]


def _match(
    rules: Sequence[Sequence[Any]], own: Mapping[str, Any], source: Mapping[str, Tensor], where: str
) -> tuple[dict[str, str], set[str], list[str], dict[str, slice]]:
    """(own path -> source path, own paths allowed to stay fresh, source paths unused, own path -> layers of the source).

    Rules see no params/ and stats/.
    """
    for rule in rules:
        if not _is_rule(rule):
            raise UserError(
                f"{where}.map: {rule!r} is not [own regex, source path], [own regex, source path, [first, end]], "
                f"[own regex, None] or [None, source regex]"
            )
    taken, fresh, hit, layers = {}, set(), set(), {}
    forward = [(i, _compile(rule[0], where), rule[1]) for i, rule in enumerate(rules) if rule[0] is not None]
    for path in own:
        kind, _, name = path.partition("/")
        for i, pattern, target in forward:
            if (match := pattern.fullmatch(name)) is None:
                continue
            hit.add(i)
            if target is None:
                fresh.add(path)
            else:
                other = f"{kind}/{match.expand(target)}"
                if other not in source:
                    raise UserError(
                        f"{where}.map: {rules[i]!r} takes {name} from {other.partition('/')[2]!r}, which is not in the source"
                    )
                taken[path] = other
                if len(rules[i]) == 3:
                    layers[path] = slice(*rules[i][2])
            break
    left = [path for path in source if path not in taken.values()]
    for i, rule in enumerate(rules):
        if rule[0] is None:
            allowed = [path for path in left if _compile(rule[1], where).fullmatch(path.partition("/")[2])]
            hit |= {i} if allowed else set()
            left = [path for path in left if path not in allowed]
    if left:
        raise UserError(f"{where}: {_some(left)} not used: take it, or allow it by a rule [None, regex]")
    if idle := [rule for i, rule in enumerate(rules) if i not in hit]:
        raise UserError(f"{where}.map: the rule {idle[0]!r} covers nothing")
    return taken, fresh, [path for path in source if path not in taken.values()], layers


def _is_rule(rule: Sequence[Any]) -> bool:
    if len(rule) == 3:
        ends = rule[2]
        return None not in rule[:2] and isinstance(ends, list | tuple) and [type(end) for end in ends] == [int, int]
    return len(rule) == 2 and not (rule[0] is None and rule[1] is None)


def _compile(pattern: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{where}.map: {pattern!r} is not a regular expression: {error}") from None


def _some(paths: Sequence[str]) -> str:
    names = [path.partition("/")[2] for path in paths]
    return (
        f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''} {'are' if len(names) > 1 else 'is'}"
    )
