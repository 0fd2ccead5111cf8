"""Where an activation lives on the mesh.

Models call `pin(x)` at a block's entry and losses at theirs. The step opens `on(mesh, rules)`; outside it there is no
mesh and pin does nothing. Inside it, a kind without a rule is an error: sharding is asserted, never assumed.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

AnyMesh = Mesh | AbstractMesh
_MESH: contextvars.ContextVar[tuple[AnyMesh, Mapping[str, PartitionSpec]] | None] = contextvars.ContextVar("pin", default=None)


@contextlib.contextmanager
def on(mesh: AnyMesh | None, rules: Mapping[str, PartitionSpec]) -> Iterator[None]:
    """Makes `pin` place activations on `mesh`: `rules` maps a kind ("rows", "whole") to a PartitionSpec."""
    token = _MESH.set(None if mesh is None else (mesh, rules))
    try:
        yield
    finally:
        _MESH.reset(token)


def mesh() -> AnyMesh | None:
    """The mesh that is open, for what must know how many parts the batch is in."""
    current = _MESH.get()
    return None if current is None else current[0]


def pin(x: Any, kind: str = "rows") -> Any:
    """Constrains `x` (an array or a pytree of arrays) to the placement of `kind`.

    "rows" splits the leading axis over the data axes of the mesh; "whole" replicates.

    Raises:
      ValueError: there is a mesh and it has no rule for `kind`.
    """
    current = _MESH.get()
    if current is None:
        return x
    mesh, rules = current
    if kind not in rules:
        raise ValueError(f"pin: the mesh has no rule for {kind!r}; it has: {', '.join(rules)}")
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, rules[kind]))
