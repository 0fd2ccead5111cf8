"""What frozen encoders make of the data, kept: they read so many batches once, and training draws from their vectors."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from mmjax.core import keys, pin
from mmjax.core.errors import UserError
from mmjax.data.rows import Batch, split
from mmjax.data.stream import Stream
from mmjax.sharding import place
from mmjax.sharding.mesh import PINS, ROWS
from mmjax.tasks.task import Binder
from mmjax.train.state import Plan


class Cache:
    """The first `batches` batches of a stream, frozen encoders' vectors in place of their inputs, drawn from without an end.

    Pass n over them is in an order that is a function of (seed, n) alone, so that resuming takes nothing but the step, and the
    same encodings made anew. Vectors are those of inference mode: a frozen encoder's dropout is left out.

    Args:
      stream: of this host's rows; each host keeps its own.
      plan: whose frozen encoders are run.
      params, stats: of the model.
      batches: how many are kept.

    Attributes:
      rows: all that is kept on this host, by field.

    Raises:
      UserError: no encoder is frozen as a whole.
    """

    def __init__(self, stream: Stream, plan: Plan, params: dict, stats: dict, batches: int):
        self._seed, self._batches = plan.seed, batches

        def pinned(*state_and_rows):
            with pin.on(plan.mesh, PINS):
                return encoded(plan, *state_and_rows)

        encode = jax.jit(pinned, out_shardings=NamedSharding(plan.mesh, ROWS))
        parts: list[Batch] = []
        for k, batch in stream.batches(0):
            rows, strings = split(batch)
            found = encode(params, stats, place.batch(rows, plan.mesh))
            parts.append({name: _own(value) for name, value in found.items()} | strings)
            if k + 1 == batches:
                break
        self.rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._size = len(self.rows["id"]) // batches

    def batches(self, start: int = 0) -> Iterator[tuple[int, Batch]]:
        """(k, batch k) for k = start, start + 1 ..."""
        k = start
        while True:
            yield k, self.batch_at(k)
            k += 1

    def batch_at(self, k: int) -> Batch:
        """This host's rows of batch k."""
        around, at = divmod(k, self._batches)
        order = keys.rng(self._seed, "cache", around).permutation(self._size * self._batches)
        chosen = order[at * self._size : (at + 1) * self._size]
        return {name: value[chosen] for name, value in self.rows.items()}


def encoded(plan: Plan, params: dict, stats: dict, rows: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Rows with the vectors of frozen encoders in place of their inputs.

    Raises:
      UserError: no encoder is frozen as a whole.
    """
    found = plan.task.encoded(Binder(plan.model, stats), params, rows, plan.frozen)
    if found.keys() == rows.keys():
        raise UserError("cache keeps what frozen encoders make of the data, and none is frozen: freeze one, or set cache None")
    return dict(found)


def _own(value: jax.Array) -> np.ndarray:
    """This host's rows, in their order."""
    shards = sorted({s.index[0].start or 0: s for s in value.addressable_shards}.items())
    return np.concatenate([np.asarray(shard.data) for _, shard in shards])
