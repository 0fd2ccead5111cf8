"""Runs a task's towers over an evaluation set: the part that all evaluators share."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from mmjax.core import pin
from mmjax.core.module import Model
from mmjax.data.rows import Batch, split
from mmjax.sharding import place
from mmjax.sharding.mesh import PINS, share
from mmjax.tasks.task import Binder


class Embedder:
    """One jitted program: rows of a batch -> embeddings of the towers, in inference mode, on every process.

    Args:
      towers: a task's methods (bind, params, rows) -> (B, D), by name.
    """

    def __init__(self, model: Model, towers: Mapping[str, Callable[..., jax.Array]], mesh: Mesh):
        self._mesh, self._share = mesh, share(mesh)

        def embed(params: dict, stats: dict, rows: dict[str, jax.Array], along: dict[str, jax.Array]) -> dict[str, jax.Array]:
            with pin.on(mesh, PINS):
                bind = Binder(model, stats)
                return {name: jnp.float32(tower(bind, params, rows)) for name, tower in towers.items()} | along

        # Replicated: each process then holds every row, and what goes along is in the order of the embeddings.
        self._embed = jax.jit(embed, out_shardings=NamedSharding(mesh, PINS["whole"]))

    def __call__(self, params: dict, stats: dict, batches: Iterable[Batch], keep: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Embeddings (n, D) float32 by tower, and the integer fields `keep`, of every readable row, on every process.

        Rows are in the order of the set; "row" holds their places in it. A batch is dropped once it is embedded: the set
        need not fit.
        """
        parts: dict[str, list[np.ndarray]] = {}
        for k, batch in enumerate(batches):
            rows = split(batch)[0]
            here = len(rows["mask"])
            rows["row"] = ((k * self._share["hosts"] + self._share["host"]) * here + np.arange(here)).astype(np.int32)
            placed = place.batch(rows, self._mesh)
            along = {name: placed.pop(name) for name in ("mask", "row")} | {name: placed[name] for name in keep}
            found = {name: np.asarray(value) for name, value in self._embed(params, stats, placed, along).items()}
            order = np.argsort(found["row"])
            order = order[found.pop("mask")[order]]
            for name, value in found.items():
                parts.setdefault(name, []).append(value[order])
        return {name: np.concatenate(values) for name, values in parts.items()}
