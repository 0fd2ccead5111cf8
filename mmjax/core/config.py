"""Reads a config: `FILE.py[:arg]`, then `a.b=value` overrides, then locked.

A config file defines `get_config(arg: str) -> ml_collections.ConfigDict` and imports neither jax nor mmjax. An
unknown key and a value of another type are errors at once. A part that is chosen by name (a dict with "name") may be
overridden whole, `model.image={"name": "resnet"}`, or key by key, and is checked later against its table.
"""

import ast
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mmjax.core.errors import UserError, suggest


def load(spec: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """The locked config of `FILE.py[:arg]` (or of a resolved `config.json`) with overrides `a.b=value` applied.

    Raises:
      UserError: no such file, no get_config, an argument that it refuses, an unknown key, or a wrong type.
    """
    path, _, arg = spec.partition(":")
    if not Path(path).is_file():
        raise UserError(f"--config: there is no file {path!r}: give FILE.py or FILE.py:arg, for example configs/quickstart.py")
    if path.endswith(".json"):
        config = ConfigDict(json.loads(Path(path).read_text()))
    else:
        config = _get_config(Path(path))(arg)
    return override(config, overrides)


def override(config: ConfigDict, overrides: Iterable[str]) -> ConfigDict:
    """Locks the config and applies overrides `a.b=value` to it; returns it.

    Raises:
      UserError: an unknown key or a value of another type.
    """
    config.lock()
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--config.{text}: write --config.{text}=VALUE")
        _set(config, key, value, text)
    return config


def plain(config: Any) -> Any:
    """The config as plain dicts and lists: what json can hold and registry.build takes."""
    if isinstance(config, ConfigDict | Mapping):
        return {k: plain(v) for k, v in config.items()}
    return [plain(v) for v in config] if isinstance(config, list | tuple) else config


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lines `a.b: 1 -> 2` for each place where two plain configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in dict.fromkeys([*old, *new]):
            here = f"{path}.{key}" if path else key
            lines += differences(old.get(key, "(absent)"), new.get(key, "(absent)"), here)
        return lines
    return [] if old == new else [f"{path}: {old!r} -> {new!r}"]


def _get_config(path: Path):
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(module_spec)
    sys.path.insert(0, str(path.parent.absolute()))  # recipes start from the base.py beside them
    try:
        module_spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    if not hasattr(module, "get_config"):
        raise UserError(f"--config: {path} defines no get_config(arg)")
    return lambda arg: _call(module.get_config, arg, path)


def _call(get_config, arg: str, path: Path) -> ConfigDict:
    try:
        return get_config(arg)
    except ValueError as error:  # a recipe's own word on an argument it does not know
        raise UserError(f"--config={path}:{arg}: {error}") from None


def _parse(text: str) -> Any:
    """A Python or JSON literal (1e-3, true, null, [1, 2], {"name": ...}), or none; anything else is a string."""
    if text == "none":
        return None
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError):  # TypeError: an unhashable key
            continue
    return text


def _set(config: ConfigDict, key: str, text: str, override: str) -> None:
    node, names = config, key.split(".")
    for depth, name in enumerate(names):
        here = ".".join(names[:depth]) or "the config"
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            choices = range(len(node))
            name = int(name)
        elif isinstance(node, ConfigDict | dict):
            choices = list(node)
        else:
            raise UserError(f"--config.{override}: {here} is {node!r}, which has no part {name!r}")
        # A part chosen by name may take a keyword that its spec leaves to the default: its table checks it later.
        if name not in choices and not (depth == len(names) - 1 and "name" in node):
            raise UserError(
                f"--config.{override}: {here} has no key {name!r}; it has: {', '.join(map(str, choices))}."
                f"{suggest(name, map(str, choices))}"
            )
        if depth < len(names) - 1:
            node = node[name]
    last = names[-1] if not isinstance(node, list) else int(names[-1])
    old = node[last] if isinstance(node, list) or last in node else None
    # Where the setting is a word, none is one of its choices (remat, positions).
    value = _typed(old, text if text == "none" and isinstance(old, str) else _parse(text), override)
    if isinstance(node, ConfigDict):
        with node.unlocked():
            node[last] = ConfigDict(value) if isinstance(value, dict) else value
    else:
        node[last] = value


def _typed(old: Any, value: Any, override: str) -> Any:
    """`value` as the type of `old`; None fits and is fitted by anything; an int is a float; a list is a tuple."""
    if old is None or value is None:
        return value
    if isinstance(old, bool) != isinstance(value, bool):
        fits = False
    elif isinstance(old, float):
        fits = isinstance(value, int | float)
        value = float(value) if fits else value
    elif isinstance(old, ConfigDict | dict):
        fits = isinstance(value, dict)
    elif isinstance(old, list | tuple):
        fits = isinstance(value, list | tuple)
    else:
        fits = isinstance(value, type(old))
    if not fits:
        kind = "dict" if isinstance(old, ConfigDict) else type(old).__name__
        raise UserError(
            f"--config.{override}: needs {'an' if kind == 'int' else 'a'} {kind} such as {plain(old)!r}, not {value!r}"
        )
    return value
