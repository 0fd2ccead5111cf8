"""Runs a task's towers over an evaluation set: the part that all evaluators share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mmjax.core import pin
from mmjax.core.module import Model
from mmjax.data.rows import Batch, split
from mmjax.sharding import place
from mmjax.sharding.mesh import PINS
from mmjax.tasks.task import Binder


class Embedder:
    """One jitted program: rows of a batch -> embeddings of the towers, in inference mode.

    Args:
      towers: a task's methods (bind, params, rows) -> (B, D), by name.
    """

    def __init__(self, model: Model, towers: Mapping[str, Callable[..., jax.Array]], mesh: Mesh):
        self._mesh = mesh

        def embed(params: dict, stats: dict, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
            with pin.on(mesh, PINS):
                bind = Binder(model, stats)
                return {name: tower(bind, params, rows) for name, tower in towers.items()}

        self._embed = jax.jit(embed)

    def __call__(self, params: dict, stats: dict, batches: Iterable[Batch], keep: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Embeddings (n, D) float32 by tower, and the integer fields `keep`, of every readable row, on every host.

        "row" holds the places of those rows in the set. A batch is dropped once it is embedded: the set need not fit.
        """
        parts: dict[str, list[np.ndarray]] = {}
        seen = 0
        for batch in batches:
            rows = split(batch)[0]
            mask = _whole(rows.pop("mask"))
            found = {name: _whole(z).astype(np.float32) for name, z in self._embed(params, stats, self._place(rows)).items()}
            found |= {name: _whole(rows[name]) for name in keep} | {"row": seen + np.arange(len(mask))}
            for name, value in found.items():
                parts.setdefault(name, []).append(value[mask])
            seen += len(mask)
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _place(self, rows: Batch) -> dict[str, jax.Array]:
        return place.batch(rows, self._mesh)


def hosts() -> dict[str, int]:
    """This process's share, as the data room asks for it."""
    return {"host": jax.process_index(), "hosts": jax.process_count()}


def _whole(x: Any) -> np.ndarray:
    """The rows of all hosts, in host order."""
    if jax.process_count() == 1:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
