"""Contrastive losses over the global batch, multi-positive by group.

The formulas are here in their dense form, which holds all B x B logits; `form` chooses others that are equal and hold
none (losses.walk, losses.tiles).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmjax.core.errors import UserError, suggest
from mmjax.core.pin import pin
from mmjax.losses import tiles
from mmjax.losses.walk import TILE, choose

Terms = dict[str, tuple[Float[Array, ""], Float[Array, ""]]]
SIDES = {"both": ("i2t", "t2i"), "i2t": ("i2t",), "t2i": ("t2i",)}


def positives(group: Int[Array, " B"]) -> Bool[Array, "B B"]:
    """Which (row, column) pairs belong together: equal groups, the diagonal always among them."""
    return group[:, None] == group[None, :]


def logits(
    image: Float[Array, "B D"], text: Float[Array, "B D"], scale: Float[Array, ""], bias: Float[Array, ""]
) -> Float[Array, "B B"]:
    """scale * image @ text.T + bias, accumulated in float32; rows (images) stay split over the data axes."""
    return pin(scale * tiles.products(pin(image), text) + bias)


def softmax(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    group: Int[Array, " B"],
    *,
    direction: str = "both",
    form: str = "auto",
    tile: int = TILE,
    dtype: str | None = None,
) -> Terms:
    """InfoNCE (CLIP, arXiv 2103.00020, fig. 3), with the mean over positives where a row has several (UniCL, 2204.03610).

    Row i of "i2t" costs -(1/|P(i)|) sum over j in P(i) of log softmax(logits[i])[j]; "t2i" likewise by columns.

    Args:
      image, text: L2-normalised embeddings.
      scale: multiplies the cosine (not its logarithm).
      bias: added to every logit; softmax does not see it, so its gradient is zero.
      group: equal numbers are positives.
      direction: "both", "i2t" or "t2i".
      form: "dense"; "tiled", whose memory is linear in B; "ring", tiled, over the devices that the batch is split over,
        whose texts travel and are never gathered; or "auto": dense while a device would hold few logits.
      tile: rows and columns of a block at most, of "tiled" and "ring".
      dtype: that embeddings are multiplied and travel in ("bfloat16"), or None for their own; logits are float32. At a
        batch of 2,048 bfloat16 moves gradients by 2.5e-3 of their norm, float32 by 2e-6 (tests/benchmarks/contrastive.py
        --precision).

    Returns:
      {"contrastive": (sum, count)}; the count is B a direction, so sum / count is CLIP's mean of both. Beside it
      "accuracy/i2t" and "accuracy/t2i": in how many of B rows (columns) no negative scores as high as the best positive.

    Raises:
      UserError: an unknown direction, form or tile.
    """
    if direction not in SIDES:
        hint = suggest(direction, SIDES)
        raise UserError(f"task.loss: direction {direction!r} is not one of: {', '.join(SIDES)}.{hint}")
    walk, sides = choose(form, tile, dtype, len(image)), SIDES[direction]
    if walk is not None:
        return _terms(len(image), len(sides), *tiles.softmax(walk, sides, image, text, scale, bias, group))
    table, same = logits(*_cast(dtype, image, text), scale, bias), positives(group)
    total = jnp.zeros((), table.dtype)
    for side in sides:
        axis = 1 if side == "i2t" else 0
        logp = jax.nn.log_softmax(table, axis=axis)
        total -= (jnp.where(same, logp, 0).sum(axis) / same.sum(axis)).sum()
    return _terms(len(image), len(sides), total, _hits(table, same))


def sigmoid(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    group: Int[Array, " B"],
    *,
    form: str = "auto",
    tile: int = TILE,
    dtype: str | None = None,
) -> Terms:
    """Pairwise sigmoid loss (SigLIP, arXiv 2303.15343, eq. 1): every pair of the batch is one yes-or-no question.

    -(1/B) sum over i, j of log sigmoid(y_ij * logits_ij), y = 1 for positives and -1 for the rest. Arguments as of
    `softmax`.

    Returns:
      {"contrastive": (sum over all pairs, B)}: the paper divides by the batch, not by its pairs. Beside it the accuracies
      of `softmax`.

    Raises:
      UserError: an unknown form or tile.
    """
    walk = choose(form, tile, dtype, len(image))
    if walk is not None:
        return _terms(len(image), 1, *tiles.sigmoid(walk, image, text, scale, bias, group))
    table, same = logits(*_cast(dtype, image, text), scale, bias), positives(group)
    sign = jnp.where(same, 1, -1).astype(table.dtype)
    return _terms(len(image), 1, -jax.nn.log_sigmoid(sign * table).sum(), _hits(table, same))


def _cast(dtype: str | None, *embeddings: jax.Array) -> list[jax.Array]:
    return [x if dtype is None else x.astype(dtype) for x in embeddings]


def _hits(table: Float[Array, "B B"], same: Bool[Array, "B B"]) -> dict[str, Float[Array, ""]]:
    best = jax.lax.stop_gradient(table)
    return {
        side: (jnp.where(same, best, -jnp.inf).max(axis) > jnp.where(same, -jnp.inf, best).max(axis)).sum(dtype=table.dtype)
        for side, axis in (("i2t", 1), ("t2i", 0))
    }


def _terms(batch: int, ways: int, total: Float[Array, ""], hits: dict[str, Float[Array, ""]]) -> Terms:
    accuracy = {f"accuracy/{side}": (right, jnp.asarray(batch, total.dtype)) for side, right in hits.items()}
    return {"contrastive": (total, jnp.asarray(ways * batch, total.dtype)), **accuracy}
