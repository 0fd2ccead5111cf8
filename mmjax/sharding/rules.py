"""Where stored arrays live: ordered path rules, one table for parameters, optimizer state, EMA and extra.

A rule's value is one of
  "fsdp"    split the largest free dimension that divides by the fsdp axis;
  "whole"   a copy on each device;
  a list    mesh axes (or null) for the trailing dimensions, e.g. ["fsdp", "model"] for a Dense kernel.
The layer axis of a stacked module (the first axis of a path with a part named "blocks") is never split.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.core import tree
from mmjax.core.errors import UserError
from mmjax.sharding.mesh import AnyMesh

Leaf = jax.Array | jax.ShapeDtypeStruct
# Leaves with fewer elements (a layer) stay whole: splitting a bias saves nothing and costs a gather.
SMALL = 2**14


@dataclasses.dataclass(frozen=True)
class Placement:
    """How one leaf is stored: its spec, the rule that said so, and a remark where the rule could not be kept."""

    spec: PartitionSpec
    rule: str
    note: str = ""


def place(
    rules: tree.Rules, abstract: Any, mesh: AnyMesh, *, where: str = "sharding", beside: Any = None
) -> dict[str, Placement]:
    """The placement of every leaf of `abstract` (nested dict of arrays or ShapeDtypeStructs), by path.

    Args:
      beside: what else the rules are for (a task's queues, see `follow`): a rule that covers only leaves of it is no typo.

    Raises:
      UserError: a leaf that no rule covers, a rule that covers no leaf (but the last), or a split that does not divide.
    """
    flat = tree.flatten(abstract)
    indexed = [(pattern, (pattern, value)) for pattern, value in rules]
    paths = [*flat, *tree.flatten(beside or {})]
    hits = tree.resolve(indexed[:-1], paths, what=where, default=indexed[-1][1]) if indexed else {}
    if not indexed or indexed[-1][0] != ".*":
        raise UserError(f"{where}: end the rules with ['.*', 'fsdp'] or ['.*', 'whole'], so that every leaf has a place")
    return {path: _placement(path, leaf, *hits[path], mesh, where) for path, leaf in flat.items()}


def shardings(placements: dict[str, Placement], like: Any, mesh: AnyMesh) -> Any:
    """NamedShardings in the structure of `like`, from placements by path."""
    return tree.map_with_path(lambda path, _: NamedSharding(mesh, placements[path].spec), like)


def follow(
    rules: tree.Rules, params: dict[str, Placement], abstract_params: Any, other: Any, mesh: AnyMesh
) -> dict[str, Placement]:
    """Placements of what mirrors the parameters (optimizer state, EMA, momentum copies) and of what does not (queues).

    A leaf whose path ends in a parameter's path and has its shape lies where the parameter lies. A moment of another
    shape (adafactor's factors) falls to the last rule; anything else goes through the table under its own path.
    """
    shapes = {path: leaf.shape for path, leaf in tree.flatten(abstract_params).items()}
    result = {}
    for path, leaf in tree.flatten(other).items():
        parts = path.split("/")
        twin = next((p for i in range(len(parts)) if (p := "/".join(parts[i:])) in shapes), None)
        if twin is not None and shapes[twin] == leaf.shape:
            result[path] = params[twin]
        elif twin is not None:
            result[path] = _placement(path, leaf, *rules[-1], mesh, "sharding")
        else:
            hit = tree.resolve([(p, (p, v)) for p, v in rules], [path], what="sharding", must_hit=False)[path]
            result[path] = _placement(path, leaf, *hit, mesh, "sharding")
    return result


def bytes_a_device(placements: dict[str, Placement], abstract: Any, mesh: AnyMesh) -> dict[str, int]:
    """Bytes that each leaf takes on one device."""
    return {
        path: math.prod(NamedSharding(mesh, placements[path].spec).shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for path, leaf in tree.flatten(abstract).items()
    }


def _placement(path: str, leaf: Leaf, rule: str, value: Any, mesh: AnyMesh, where: str) -> Placement:
    shape, first_free = leaf.shape, int("blocks" in path.split("/"))
    if value == "whole" or not shape:
        return Placement(PartitionSpec(), rule)
    if value == "fsdp":
        return _largest(leaf, first_free, mesh.shape["fsdp"], rule)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UserError(f"{where}: rule {rule!r}: {value!r} is not 'fsdp', 'whole' or a list of mesh axes")
    if len(value) > len(shape) - first_free:
        raise UserError(f"{where}: rule {rule!r} names {len(value)} dimensions and {path} has shape {shape}")
    spec = [None] * (len(shape) - len(value)) + [tuple(axis) if isinstance(axis, list) else axis for axis in value]
    seen: list[str] = []
    for size, axis in zip(shape, spec, strict=True):
        names = (axis,) if isinstance(axis, str) else axis or ()
        seen += names
        if bad := [name for name in names if name not in mesh.shape]:
            raise UserError(f"{where}: rule {rule!r}: unknown mesh axis {bad[0]!r}; the axes are: {', '.join(mesh.shape)}")
        if size % math.prod(mesh.shape[name] for name in names):
            raise UserError(
                f"{where}: rule {rule!r}: {path} {shape} does not divide over {axis!r}: change the rule or the mesh"
            )
    if twice := [name for name in seen if seen.count(name) > 1]:
        raise UserError(f"{where}: rule {rule!r} uses mesh axis {twice[0]!r} twice")
    return Placement(PartitionSpec(*spec), rule)


def _largest(leaf: Leaf, first_free: int, parts: int, rule: str) -> Placement:
    """Splits the largest divisible dimension over fsdp."""
    if parts == 1 or math.prod(leaf.shape[first_free:]) < SMALL:
        return Placement(PartitionSpec(), rule, "small" if parts > 1 else "")
    free = [i for i in range(first_free, len(leaf.shape)) if leaf.shape[i] % parts == 0]
    if not free:
        return Placement(PartitionSpec(), rule, f"stays whole: no dimension of {leaf.shape} divides by fsdp {parts}")
    axis = max(free, key=lambda i: leaf.shape[i])
    return Placement(PartitionSpec(*(["fsdp" if i == axis else None for i in range(axis + 1)])), rule)
