"""The seam: the only place where batch, model and loss meet.

A contrastive loss needs the whole batch while encoders do not, so a task has three parts, and the step composes them, at
once or in chunks, without the task knowing:

    encode(bind, params, rows, key) -> z             per example; leaves lead with the batch axis
    relate(bind, params, z, extra) -> terms, aux     the whole global batch at once
    read(bind, params, z, aux, key) -> terms         per example again

`bind(params)` gives the live model; `key` holds one key an example, and None means inference. `terms` is {name: (sum,
count)}; those named in `weights` add up to the loss, the others are only logged.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mmjax.core.module import Model

Rows = Mapping[str, jax.Array]
Terms = dict[str, tuple[jax.Array, jax.Array]]


class Binder:
    """`bind` for one trace: the same parameters give the same live module, so that statistics gather in it."""

    def __init__(self, model: Model, stats: dict):
        self._model, self._stats, self._live = model, stats, []

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

    @property
    def relates(self) -> bool:
        """Whether examples of a batch meet in the loss."""
        return type(self).relate is not Task.relate

    def extra(self, params: dict) -> dict:
        """What training carries beside parameters at step 0: momentum copies, queues."""
        return {}

    def encoded(self, bind: Callable, params: dict, rows: Rows, frozen: Collection[str]) -> Rows:
        """Rows in which a frozen encoder's input is replaced by its vector, which `encode` takes as well: see train/cache.py.

        Args:
          frozen: paths of parameters.
        """
        return rows

    def encode(self, bind: Callable, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> Any:
        """Per example: whatever `relate` and `read` need; leaves lead with the batch axis."""
        return dict(rows)

    def relate(self, bind: Callable, params: dict, z: Any, extra: dict) -> tuple[Terms, Any]:
        """The global batch at once: (terms, aux); leaves of aux lead with the batch axis."""
        return {}, {}

    def read(self, bind: Callable, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        """Per example again: matching, masked tokens, accuracies."""
        return {}

    def total(self, terms: Terms) -> jax.Array:
        """The loss: weighted means of the terms that have a weight. A count is data: no gradient flows through it."""
        counts = {name: jax.lax.stop_gradient(divisor(terms[name][1])) for name in self.weights}
        return sum(weight * terms[name][0] / counts[name] for name, weight in self.weights.items())


def divisor(count: jax.Array) -> jax.Array:
    """The count, and 1 where nothing was counted: the mean of a batch without a label is then 0, not 0 / 0."""
    return jnp.where(count == 0, 1, count)
