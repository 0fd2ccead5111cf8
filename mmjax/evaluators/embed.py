"""Runs a task's towers over an evaluation set: the part that all evaluators share."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mmjax.core import pin
from mmjax.core.module import Model
from mmjax.sharding import place
from mmjax.sharding.mesh import PINS
from mmjax.tasks.task import Binder


class Embedder:
    """One jitted program for one tower: rows of a batch -> embeddings, in inference mode.

    Args:
      tower: a task's method (bind, params, rows) -> (B, D).
    """

    def __init__(self, model: Model, tower: Callable[..., jax.Array], mesh: Mesh):
        self._mesh = mesh

        def embed(params: dict, stats: dict, rows: dict[str, jax.Array]) -> jax.Array:
            with pin.on(mesh, PINS):
                return tower(Binder(model, stats), params, rows)

        self._embed = jax.jit(embed)

    def __call__(self, params: dict, stats: dict, batches: Iterable[dict[str, np.ndarray]]) -> np.ndarray:
        """Embeddings (n, D) float32 of every unpadded row of `batches`, in order, on every host."""
        parts = []
        for rows in batches:
            z = self._embed(params, stats, place.batch({k: v for k, v in rows.items() if k != "mask"}, self._mesh))
            parts.append(_whole(z)[_whole(rows["mask"])])
        return np.concatenate(parts).astype(np.float32)


def gather(batches: Iterable[dict[str, np.ndarray]], field: str) -> np.ndarray:
    """An integer field of every unpadded row, in the order of the embeddings, on every host."""
    return np.concatenate([_whole(rows[field].astype(np.int32))[_whole(rows["mask"])] for rows in batches])


def hosts() -> dict[str, int]:
    """This process's share, as the data room asks for it."""
    return {"host": jax.process_index(), "hosts": jax.process_count()}


def _whole(x: Any) -> np.ndarray:
    """The rows of all hosts, in host order."""
    if jax.process_count() == 1:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
