"""Parts chosen by name: `build(table, {"name": "vit", "depth": 12})`.

A table is a plain dict from names to classes or functions, written out where the parts live. There are no import
strings and no decorators: what can be chosen is what the table says.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mmjax.core.errors import UserError, suggest

Table = Mapping[str, Callable[..., Any]]


def check(table: Table, spec: Mapping[str, Any], where: str = "", filled: int = 0) -> None:
    """Raises UserError unless `spec` names a row of `table` and has only keywords that the row accepts.

    Args:
      table: name -> callable.
      spec: `{"name": ..., **keywords}`.
      where: the spec's place in the config, for the message.
      filled: how many leading arguments the caller passes itself; the spec may not set them.
    """
    at = f"{where}: " if where else ""
    if "name" not in spec:
        raise UserError(f"{at}needs a 'name', one of: {', '.join(sorted(table))}")
    name = spec["name"]
    if name not in table:
        raise UserError(f"{at}unknown name {name!r}; choose one of: {', '.join(sorted(table))}.{suggest(name, table)}")
    accepted = list(parameters(table[name]))[filled:]
    for key in spec:
        if key != "name" and key not in accepted:
            raise UserError(f"{at}{name!r} takes no keyword {key!r}; it takes: {', '.join(accepted)}.{suggest(key, accepted)}")


def complete(table: Table, spec: Mapping[str, Any], where: str, given: str) -> None:
    """`check`, and raises UserError too where `spec` lacks a keyword that its row needs; `given` is the caller's to fill in."""
    check(table, spec, where)
    needed = (p.name for p in parameters(table[spec["name"]]).values() if p.default is p.empty)
    if missing := [name for name in needed if name not in (*spec, given)]:
        raise UserError(f"{where}: {spec['name']!r} needs {', '.join(map(repr, missing))}")


def parameters(row: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keywords that a class or function takes."""
    # The metaclass of flax.nnx modules hides the constructor's signature behind (*args, **kwargs).
    signature = inspect.signature(row.__init__ if inspect.isclass(row) else row)
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in signature.parameters.items() if p.kind in keywords and name != "self"}


def build(table: Table, spec: Mapping[str, Any], *args: Any, where: str = "", **extra: Any) -> Any:
    """Calls the row of `table` that `spec` names with `args`, the spec's keywords and `extra`.

    Keywords of the spec win over `extra`, which holds what the caller knows (a dtype, random keys).
    """
    check(table, spec, where, filled=len(args))
    keywords = {k: v for k, v in spec.items() if k != "name"}
    return table[spec["name"]](*args, **{**extra, **keywords})
