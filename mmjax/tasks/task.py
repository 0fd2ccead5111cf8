"""The seam: the only place where batch, model and loss meet.

A contrastive loss needs the whole batch while encoders do not, so a task has three parts, and the step composes them, at
once or in chunks, without the task knowing:

    encode(bind, params, rows, key) -> z             per example; leaves lead with the batch axis
    relate(bind, params, z) -> terms, aux            the whole global batch at once
    read(bind, params, z, aux, key) -> terms         per example again

`bind(params)` gives the live model, `bind.extra` what training carries beside parameters; `key` holds one key an example,
and None means inference. `terms` is {name: (sum, count)}; those named in `weights` add up to the loss, the others are only
logged. After the update `advance(params, z, extra)` gives the next extra.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mmjax.core.module import Model
from mmjax.core.tree import Rules

Rows = Mapping[str, jax.Array]
Terms = dict[str, tuple[jax.Array, jax.Array]]


class Binder:
    """`bind` for one trace: the same parameters give the same live module, so that statistics gather in it.

    Attributes:
      extra: what training carries beside parameters: momentum copies (which bind as parameters do), queues. Empty where
        nothing is trained.
    """

    def __init__(self, model: Model, stats: dict, extra: dict | None = None):
        self._model, self._stats, self._live = model, stats, []
        self.extra = {} if extra is None else extra

    def __call__(self, params: dict) -> Any:
        for known, module in self._live:
            if known is params:
                return module
        self._live.append((params, self._model.bind(params, self._stats)))
        return self._live[-1][1]

    def stats(self, params: dict) -> dict:
        """The statistics as the forward passes over `params` left them."""
        return self._model.stats(self(params))


class Task:
    """What a task is when it says nothing: rows pass through, no term, no loss."""

    weights: Mapping[str, float] = {}
    # Where its extra lies that mirrors no parameter: rules as of the config's `sharding`, which stand before its last.
    places: Rules = ()

    @property
    def relates(self) -> bool:
        """Whether examples of a batch meet in the loss."""
        return type(self).relate is not Task.relate

    def extra(self, params: dict) -> dict:
        """What training carries beside parameters at step 0: momentum copies, queues."""
        return {}

    def advance(self, params: dict, z: Any, extra: dict) -> dict:
        """The next `extra`, of the updated parameters and of what this batch was encoded to; no gradient flows.

        Only a task with `relate` is given its z whole, so only such a task may need one.
        """
        return extra

    def encoded(self, bind: Binder, params: dict, rows: Rows, frozen: Collection[str]) -> Rows:
        """Rows in which a frozen encoder's input is replaced by its vector, which `encode` takes as well: see train/cache.py.

        Args:
          frozen: paths of parameters.
        """
        return rows

    def encode(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> Any:
        """Per example: whatever `relate` and `read` need; leaves lead with the batch axis."""
        return dict(rows)

    def relate(self, bind: Binder, params: dict, z: Any) -> tuple[Terms, Any]:
        """The global batch at once: (terms, aux); leaves of aux lead with the batch axis."""
        return {}, {}

    def read(self, bind: Binder, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        """Per example again: matching, masked tokens, accuracies."""
        return {}

    def total(self, terms: Terms) -> jax.Array:
        """The loss: weighted means of the terms that have a weight. A count is data: no gradient flows through it."""
        counts = {name: jax.lax.stop_gradient(divisor(terms[name][1])) for name in self.weights}
        return sum(weight * terms[name][0] / counts[name] for name, weight in self.weights.items())


def truncated(rows: Rows, field: str) -> Terms:
    """How many rows had tokens of their text cut off, of how many; nothing where the batch does not say ("text_cut")."""
    cut = rows.get(f"{field}_cut")
    return {} if cut is None else {"truncated": ((cut > 0).sum(dtype=jnp.float32), jnp.float32(len(cut)))}


def divisor(count: jax.Array) -> jax.Array:
    """The count, and 1 where nothing was counted: the mean of a batch without a label is then 0, not 0 / 0."""
    return jnp.where(count == 0, 1, count)
