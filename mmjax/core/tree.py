"""Paths of nested dicts, and ordered rules over them.

Everything that travels between rooms (parameters, statistics, optimizer state, batches) is a nested dict of arrays; a
leaf's path is its keys joined by "/". A rule table is a list of `(regex, value)`; the first regex that matches the
whole path wins.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from mmjax.core.errors import UserError, suggest

Rules = Sequence[Sequence[Any]]


def flatten(tree: Any) -> dict[str, Any]:
    """`{"a": {"b": x}}` -> `{"a/b": x}`, in the order of jax.tree; any pytree, named by dict keys, fields and indices."""
    return {_path(keys): leaf for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten` for nested dicts: `{"a/b": x}` -> `{"a": {"b": x}}`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = leaf
    return tree


def map_with_path(fn: Callable[[str, Any], Any], tree: Any) -> Any:
    """Applies `fn(path, leaf)` to every leaf of `tree` and keeps the structure."""
    return jax.tree_util.tree_map_with_path(lambda keys, leaf: fn(_path(keys), leaf), tree)


def resolve(rules: Rules, paths: Iterable[str], *, what: str, default: Any = None, must_hit: bool = True) -> dict[str, Any]:
    """The value of the first rule that matches each path.

    Args:
      rules: ordered (regex, value); a regex must match the whole path.
      paths: leaf paths.
      what: the table's name in the config, for messages.
      default: value of a path that no rule covers; None makes such a path an error.
      must_hit: whether a rule that covers no path is an error (a user's rule that does nothing is a typo).

    Raises:
      UserError: a rule that is no pair, a bad regex, an uncovered path, or a rule that covers nothing.
    """
    for rule in rules:
        if isinstance(rule, str) or len(rule) != 2:
            raise UserError(f"{what}: a rule is [pattern, value], not {rule!r}")
    compiled = [(_compile(pattern, what), pattern, value) for pattern, value in rules]
    used, result = set(), {}
    for path in paths:
        for regex, _, value in compiled:
            if regex.fullmatch(path):
                # A rule hidden behind an earlier one still covers leaves: only one that matches nothing is a typo.
                result[path] = value
                break
        else:
            if default is None:
                raise UserError(f"{what}: no rule covers {path!r}: end the rules with ('.*', ...)")
            result[path] = default
        used.update(index for index, (regex, _, _) in enumerate(compiled) if regex.fullmatch(path))
    if must_hit:
        for index, (_, pattern, _) in enumerate(compiled):
            if index not in used:
                raise UserError(f"{what}: rule {pattern!r} covers no leaf; there is {_some(result)}.{suggest(pattern, result)}")
    return result


def size_bytes(leaf: Any) -> int:
    """Bytes of an array or of a ShapeDtypeStruct."""
    return int(leaf.size) * leaf.dtype.itemsize


def _compile(pattern: str, what: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{what}: {pattern!r} is not a regular expression: {error}") from None


def _some(paths: Mapping[str, Any], n: int = 4) -> str:
    names = list(paths)
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def _path(keys: Sequence[Any]) -> str:
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in keys)
