"""Masked tokens: which of V tokens stood there."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmjax.core.pin import pin
from mmjax.losses.contrastive import Terms


def masked_tokens(
    logits: Float[Array, "B T V"],
    labels: Int[Array, "B T"],
    teacher: Float[Array, "B T V"] | None = None,
    alpha: float | Float[Array, ""] | None = None,
) -> Terms:
    """Cross-entropy where a token was hidden (Devlin et al. 2019), with a momentum teacher as ALBEF has it (2107.07651, eq. 7).

    A hidden position costs (1 - alpha) * -log p[label] - alpha * sum over v of q[v] log p[v], where q is the teacher's softmax.
    (The paper's KL divergence less the teacher's own entropy, which has no gradient; so does its code.)

    Args:
      logits: of the model; computed with in float32 at least.
      labels: the hidden token, -1 where none was hidden.
      teacher: the momentum model's logits, through which no gradient flows; None for labels alone.
      alpha: the teacher's share, between 0 and 1; it may grow over steps.

    Returns:
      {"masked_tokens": (sum, count)} over hidden positions, and "accuracy/masked_tokens" by the labels.

    Raises:
      ValueError: a teacher without alpha, or alpha without a teacher.
    """
    if (teacher is None) != (alpha is None):
        raise ValueError("masked_tokens needs the teacher's logits and its share alpha, or neither")
    logits = _wide(pin(logits))
    hidden = labels >= 0
    logp = jax.nn.log_softmax(logits)
    # A label beyond the vocabulary gives NaN, so that it is noticed.
    cost = -jnp.take_along_axis(logp, jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    if teacher is not None:
        target = jax.lax.stop_gradient(jax.nn.softmax(_wide(teacher)))
        cost = (1 - alpha) * cost - alpha * (target * logp).sum(-1)
    count = hidden.sum(dtype=cost.dtype)
    right = hidden & (logits.argmax(-1) == labels)
    return {
        "masked_tokens": (jnp.where(hidden, cost, 0).sum(), count),
        "accuracy/masked_tokens": (right.sum(dtype=cost.dtype), count),
    }


def _wide(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
