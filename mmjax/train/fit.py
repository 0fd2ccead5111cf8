"""Projections that begin where a closed form puts them, computed from the cached vectors of frozen encoders: config.fit."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from mmjax.core import registry, tree
from mmjax.core.errors import UserError
from mmjax.sharding import place
from mmjax.sharding.mesh import PINS
from mmjax.tasks import towers
from mmjax.tasks.task import Binder
from mmjax.train.state import Plan

Vectors = Float[np.ndarray, "N _"]
Map = tuple[np.ndarray, np.ndarray]  # a kernel (width, D) and a bias (D,)


def cca(moments: Mapping[str, np.ndarray], dim: int, *, ridge: float = 0.3, power: float = 0.5) -> tuple[Map, Map]:
    """The two linear maps under which pairs of vectors correlate most (Hotelling 1936), regularised.

    With covariances Cxx, Cyy and Cxy, to whose diagonals `ridge` times their mean is added (Hardoon, Szedmak and Shawe-Taylor
    2004), and the singular value decomposition Cxx^-1/2 Cxy Cyy^-1/2 = U S V': kernels Cxx^-1/2 U S^power and
    Cyy^-1/2 V S^power, of the first `dim` directions, and biases that centre both. With a power above 0 directions count by
    how well they correlate (Gong et al. 2014, arXiv 1212.4522). As cosines are compared, each map is brought to the scale of
    a fresh one, 1 / sqrt(width) in the root mean square.

    Args:
      moments: of float: "x" (X,) and "y" (Y,), the means; "xx", "yy" and "xy", the covariances.
      dim: D, at most the smaller of X and Y.
      ridge: of the mean variance.
      power: of the canonical correlations.

    Returns:
      ((X, D) kernel, (D,) bias) of x and likewise of y.
    """

    def white(covariance: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(covariance)
        return vectors * (values + ridge * values.mean()) ** -0.5 @ vectors.T

    def scaled(kernel: np.ndarray, mean: np.ndarray) -> Map:
        kernel = kernel * strengths / np.sqrt(len(kernel) * np.square(kernel * strengths).mean())
        return kernel, -mean @ kernel

    m = {name: np.asarray(value, np.float64) for name, value in moments.items()}
    wx, wy = white(m["xx"]), white(m["yy"])
    u, s, v = np.linalg.svd(wx @ m["xy"] @ wy, full_matrices=False)
    strengths = s[:dim] ** power
    return scaled(wx @ u[:, :dim], m["x"]), scaled(wy @ v[:dim].T, m["y"])


FITS = {"cca": cca}


def check(config: Mapping[str, Any], params: Mapping[str, Any], rows: Mapping[str, Any]) -> None:
    """Raises UserError unless `config.fit` names one of FITS, and model and rows (of a step) have what it takes."""
    if not (spec := config.get("fit")):
        return
    registry.check(FITS, spec, "fit", filled=2)
    if len([name for name in rows if name.endswith(towers.ENCODED)]) != 2:
        raise UserError("fit reads the cached vectors of two frozen encoders: freeze both and set cache, or set fit None")
    flat = tree.flatten(params)
    kernels = [flat[f"{path}/kernel"].shape for path in _maps(flat, rows)]
    if len(kernels) != 2:
        raise UserError("fit centres what both projections read, which takes a bias in each: choose 'bias' or 'norm'")
    if (least := min(width for width, _ in kernels)) < kernels[0][1]:
        raise UserError(f"fit: model.dim {kernels[0][1]} is more than the narrower encoder's width: at most {least}")


def fit(spec: Mapping[str, Any], plan: Plan, rows: Mapping[str, np.ndarray], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """{"params": ..., "stats": ...} with both projections' linear maps in place of the fresh ones.

    Args:
      spec: config.fit.
      plan: of the run.
      rows: this host's of the cache; the maps are those of all hosts' rows.
      arrays: {"params": ..., "stats": ...}, placed.
    """
    flat = tree.flatten(arrays["params"])
    paths = _maps(flat, rows)

    def statistics(params: dict, stats: dict, x: dict[str, jax.Array]) -> dict[str, jax.Array]:
        model = Binder(plan.model, stats)(params)
        return moments(*(model.before(name, x[name + towers.ENCODED]) for name in towers.present(x)))

    kept = {name: value for name, value in rows.items() if name.endswith(towers.ENCODED)}
    whole = NamedSharding(plan.mesh, PINS["whole"])
    found = jax.jit(statistics, out_shardings=whole)(arrays["params"], arrays["stats"], place.batch(kept, plan.mesh))
    dim = flat[f"{paths[0]}/bias"].shape[0]
    for path, values in zip(paths, registry.build(FITS, spec, jax.device_get(found), dim, where="fit"), strict=True):
        for name, value in zip(("kernel", "bias"), values, strict=True):
            old = flat[f"{path}/{name}"]
            flat[f"{path}/{name}"] = jax.device_put(np.asarray(value, old.dtype), old.sharding)
    return {"params": tree.unflatten(flat), "stats": arrays["stats"]}


def moments(x: Float[Array, "N X"], y: Float[Array, "N Y"]) -> dict[str, jax.Array]:
    """Means and covariances of pairs, in float32: what `cca` reads."""
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    means = x.mean(0), y.mean(0)
    x, y = x - means[0], y - means[1]
    return {"x": means[0], "y": means[1]} | {
        name: a.T @ b / len(a) for name, a, b in (("xx", x, x), ("yy", y, y), ("xy", x, y))
    }


def _maps(flat: Mapping[str, Any], fields: Mapping[str, Any]) -> list[str]:
    """Paths of the projections' linear maps that have a bias, in the order of the modalities."""
    paths = [f"{name}_projection{inner}" for name in towers.present(fields) for inner in ("/linear", "")]
    return [path for path in paths if f"{path}/kernel" in flat and f"{path}/bias" in flat]
