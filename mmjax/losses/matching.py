"""Image-text matching: does this text belong to this picture, yes or no."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.core.pin import pin
from mmjax.losses.contrastive import Terms


def matching(logits: Float[Array, "B 2"], match: Bool[Array, " B"], weight: Float[Array, " B"] | None = None) -> Terms:
    """Cross-entropy of two classes, a pair at a time (ALBEF, arXiv 2107.07651, eq. 4; UNITER, 1909.11740, section 3.2).

    Args:
      logits: [no, yes]; computed with in float32 at least.
      match: whether the pair belongs together.
      weight: what each pair counts; 0 for a pair that is none, such as an example that has no negative. None: 1 each.

    Returns:
      {"matching": (weighted sum, sum of weights)} and "accuracy/matching" likewise; of equal logits "no" is the answer.
    """
    logits = pin(logits).astype(jnp.promote_types(logits.dtype, jnp.float32))
    weight = jnp.ones(len(logits), logits.dtype) if weight is None else weight.astype(logits.dtype)
    cost = -jnp.take_along_axis(jax.nn.log_softmax(logits), match[:, None].astype(jnp.int32), axis=1)[:, 0]
    right = (logits[:, 1] > logits[:, 0]) == match
    return {"matching": ((weight * cost).sum(), weight.sum()), "accuracy/matching": ((weight * right).sum(), weight.sum())}
