"""Programs for others to run: each tower of a checkpoint as StableHLO (jax.export) or ONNX, any batch size in one artifact."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.convert import save
from mmjax.convert.table import Tensor
from mmjax.core import tree
from mmjax.core.errors import UserError, suggest

FORMATS = ("stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")


@dataclasses.dataclass(frozen=True)
class Tower:
    """One function of a checkpoint.

    Attributes:
      call: (weights by path, rows) -> vectors of length 1, float32.
      weights: that it needs, by path, none of them read yet.
      row: shape and dtype of one row of its input.
    """

    call: Callable[[Mapping[str, Any], Any], jax.Array]
    weights: dict[str, Tensor]
    row: jax.ShapeDtypeStruct


def write(towers: Mapping[str, Tower], meta: Mapping[str, Any], to: str, format: str) -> list[str]:
    """Writes one program a tower and what its input has to go through; returns the files' names.

    Raises:
      UserError: an unknown format, or a library that is not installed.
    """
    if format not in FORMATS:
        raise UserError(f"--format={format}: choose one of: {', '.join(FORMATS)}.{suggest(format, FORMATS)}")
    with save.whole(to) as draft:
        for name, tower in towers.items():
            {"stablehlo": stablehlo, "onnx": onnx}[format](tower, draft, name)
        about = {"preprocessing": meta["preprocessing"], "towers": {}}
        for name, tower in towers.items():
            about["towers"][name] = {"row": list(tower.row.shape), "dtype": str(tower.row.dtype), "format": format}
        (draft / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if meta["tokenizer"] is not None:
            (draft / "tokenizer.json").write_text(meta["tokenizer"], encoding="utf-8")
        return sorted(path.name for path in draft.iterdir())


def stablehlo(tower: Tower, folder: Path, name: str) -> None:
    """NAME.stablehlo, a program for PLATFORMS of (weights, rows), and NAME.npz, its weights. docs/export.md reads them."""
    from jax import export

    (batch,) = export.symbolic_shape("batch")
    rows = jax.ShapeDtypeStruct((batch, *tower.row.shape), tower.row.dtype)
    weights = {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in tower.weights.items()}
    program = export.export(jax.jit(tower.call), platforms=PLATFORMS)(weights, rows)
    (folder / f"{name}.stablehlo").write_bytes(program.serialize())
    np.savez(folder / f"{name}.npz", **{path: np.asarray(x.read()) for path, x in tower.weights.items()})


def onnx(tower: Tower, folder: Path, name: str) -> None:
    """NAME.onnx, with NAME.onnx.data beside it for weights of more than a megabyte.

    Raises:
      UserError: jax2onnx is not installed.
    """
    for library in ("jax2onnx", "onnx_ir"):  # which say what they have not found and do not need, with a traceback each
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        from jax2onnx import to_onnx
    except ImportError:
        raise UserError("--format=onnx needs jax2onnx, which docs/export.md says how to install") from None
    weights = {path: jnp.asarray(x.read()) for path, x in tower.weights.items()}
    rows = jax.ShapeDtypeStruct(("batch", *tower.row.shape), tower.row.dtype)
    # jax2onnx 0.17.1 does not know jax 0.12's form of a jit within a program; without any, it is asked nothing about one.
    with jax.disable_jit():
        path = str(folder / f"{name}.onnx")
        to_onnx(lambda rows: tower.call(weights, rows), inputs=[rows], return_mode="file", output_path=path)
    for file in folder.glob(f"{name}.onnx*"):
        file.chmod(0o644)  # the weights' file is the owner's alone


def tower(method: Callable, leaves: Mapping[str, Tensor], field: str, row: Any) -> Tower:
    """One tower, with no weight that it does not need.

    Args:
      method: (params, stats, rows) -> vectors.
      leaves: params/... and stats/... by path, as save.load gives them.
      field: of the rows.
      row: [shape, dtype], as config.batch has it.
    """
    shape = jax.ShapeDtypeStruct(tuple(row[0]), jnp.dtype(row[1]))

    def call(weights: Mapping[str, Any], rows: Any) -> jax.Array:
        # What this tower does not need is put back as zeros, which the compiler drops: views of one number, without memory.
        rest = {p: np.broadcast_to(np.zeros((), x.dtype), x.shape) for p, x in leaves.items() if p not in weights}
        nested = {"params": {}, "stats": {}} | tree.unflatten({**weights, **rest})
        return method(nested["params"], nested["stats"], {field: rows}).astype(jnp.float32)

    one = jax.ShapeDtypeStruct((1, *shape.shape), shape.dtype)
    paths = sorted(leaves)
    jaxpr = jax.make_jaxpr(call)({path: jax.ShapeDtypeStruct(leaves[path].shape, leaves[path].dtype) for path in paths}, one)
    needed = _read(jaxpr.jaxpr)
    used = {path: leaves[path] for path, variable in zip(paths, jaxpr.jaxpr.invars, strict=False) if variable in needed}
    return Tower(call, used, shape)


def _read(jaxpr: Any) -> set[Any]:
    """Variables that the result of a program depends on."""
    needed = {v for v in jaxpr.outvars if not hasattr(v, "val")}
    for equation in reversed(jaxpr.eqns):
        if any(v in needed for v in equation.outvars):
            needed |= {v for v in equation.invars if not hasattr(v, "val")}
    return needed
