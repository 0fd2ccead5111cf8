"""Contrastive losses over the global batch, multi-positive by group."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmjax.core.errors import UserError
from mmjax.core.pin import pin

Terms = dict[str, tuple[Float[Array, ""], Float[Array, ""]]]


def positives(group: Int[Array, " B"]) -> Bool[Array, "B B"]:
    """Which (row, column) pairs belong together: equal groups, the diagonal always among them."""
    return group[:, None] == group[None, :]


def logits(
    image: Float[Array, "B D"], text: Float[Array, "B D"], scale: Float[Array, ""], bias: Float[Array, ""]
) -> Float[Array, "B B"]:
    """scale * image @ text.T + bias, accumulated in float32; rows (images) stay split over the data axes."""
    products = jnp.einsum("id,jd->ij", pin(image), text, preferred_element_type=jnp.promote_types(image.dtype, jnp.float32))
    return pin(scale * products + bias)


def softmax(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    group: Int[Array, " B"],
    *,
    direction: str = "both",
) -> Terms:
    """InfoNCE (CLIP, arXiv 2103.00020, fig. 3), with the mean over positives where a row has several (UniCL, 2204.03610).

    Row i of "i2t" costs -(1/|P(i)|) sum over j in P(i) of log softmax(logits[i])[j]; "t2i" likewise by columns.

    Args:
      image, text: L2-normalised embeddings.
      scale: multiplies the cosine (not its logarithm).
      bias: added to every logit; softmax does not see it, so its gradient is zero.
      group: equal numbers are positives.
      direction: "both", "i2t" or "t2i".

    Returns:
      {"contrastive": (sum, count)}; the count is B a direction, so sum / count is CLIP's mean of both.

    Raises:
      UserError: an unknown direction.
    """
    sides = {"both": (0, 1), "i2t": (0,), "t2i": (1,)}
    if direction not in sides:
        raise UserError(f"task.loss: direction {direction!r} is not one of: {', '.join(sides)}")
    table, same = logits(image, text, scale, bias), positives(group)
    total = jnp.zeros((), table.dtype)
    for axis in sides[direction]:
        logp = jax.nn.log_softmax(table, axis=1 - axis)
        per_row = jnp.where(same, logp, 0).sum(1 - axis) / same.sum(1 - axis)
        total -= per_row.sum()
    return {"contrastive": (total, jnp.asarray(len(sides[direction]) * image.shape[0], table.dtype))}


def sigmoid(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    group: Int[Array, " B"],
) -> Terms:
    """Pairwise sigmoid loss (SigLIP, arXiv 2303.15343, eq. 1): every pair of the batch is one yes-or-no question.

    -(1/B) sum over i, j of log sigmoid(y_ij * logits_ij), y = 1 for positives and -1 for the rest.

    Returns:
      {"contrastive": (sum over all pairs, B)}: the paper divides by the batch, not by its pairs.
    """
    table = logits(image, text, scale, bias)
    sign = jnp.where(positives(group), 1, -1).astype(table.dtype)
    return {"contrastive": (-jax.nn.log_sigmoid(sign * table).sum(), jnp.asarray(image.shape[0], table.dtype))}


def positive_ranks(
    image: Float[Array, "B D"], text: Float[Array, "B D"], group: Int[Array, " B"]
) -> tuple[Int[Array, " B"], Int[Array, " B"]]:
    """For each image, how many negatives of the batch score at least as high as its best positive text; and for each text.

    Zero means that the right one is first: in-batch accuracy counts the zeros. No gradient flows.
    """
    table = jax.lax.stop_gradient(logits(image, text, jnp.ones((), image.dtype), jnp.zeros((), image.dtype)))
    same = positives(group)
    ranks = []
    for axis in (1, 0):
        best = jnp.where(same, table, -jnp.inf).max(axis, keepdims=True)
        ranks.append((~same & (table >= best)).sum(axis))
    return ranks[0], ranks[1]
