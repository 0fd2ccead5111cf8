"""Resolves a config and tells what it makes, from shapes alone: no data, no compilation."""

from collections.abc import Mapping
from typing import Any

from mmjax.core import tree
from mmjax.sharding import mesh as meshes
from mmjax.sharding.mesh import AnyMesh
from mmjax.sharding.rules import Placement, bytes_a_device
from mmjax.tasks import build as tasks
from mmjax.train import state as states
from mmjax.train.loop import model_flops


def describe(config: Mapping[str, Any], mesh: AnyMesh) -> str:
    """The parameter table, the state's bytes a device, and the flops of a step, as text.

    Raises:
      UserError: whatever in the config cannot work.
    """
    meshes.check_batch(config["batch_size"], mesh.shape)
    tasks.check(config)
    model, task = tasks.build(config)
    plan = states.plan(config, model, task, mesh)
    state, places = tree.flatten(plan.abstract()), plan.placements()
    params = {path: leaf for path, leaf in state.items() if path.startswith("params/")}
    here = bytes_a_device(places, state, mesh)
    rows = [
        _row(path, leaf, places[path], here[path], path.removeprefix("params/") in plan.frozen) for path, leaf in params.items()
    ]
    lines = [_table([("parameter", "shape", "dtype", "placement", "bytes/device", "rule", ""), *rows])]
    total = sum(leaf.size for leaf in params.values())
    trained = sum(leaf.size for path, leaf in params.items() if path.removeprefix("params/") not in plan.frozen)
    lines.append(f"\n{total:,} parameters, {trained:,} trained; compute in {config['compute_dtype']}, remat {config['remat']}")
    for part in ("params", "stats", "ema", "opt", "extra"):
        leaves = {path: leaf for path, leaf in state.items() if path.split("/")[0] == part}
        if leaves:
            total, share = sum(map(tree.size_bytes, leaves.values())), sum(here[path] for path in leaves)
            lines.append(f"{part:7}{_size(total):>12} in all{_size(share):>12} a device")
    flops = model_flops(config, plan)
    shape = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    lines.append(f"mesh {shape}; batch {config['batch_size']:,} = {config['batch_size'] // mesh.size:,} a device")
    lines.append(f"{flops:.4g} flops a step, {flops / config['batch_size']:.4g} an example (forward and backward)")
    return "\n".join(lines)


def _row(path: str, leaf: Any, place: Placement, size: int, frozen: bool) -> tuple[str, ...]:
    remark = ", ".join(filter(None, ("frozen" if frozen else "", place.note if place.note != "small" else "")))
    split = str(tuple(place.spec)) if any(place.spec) else "whole"
    return path.removeprefix("params/"), str(tuple(leaf.shape)), str(leaf.dtype), split, f"{size:,}", place.rule, remark


def _size(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} GiB"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
