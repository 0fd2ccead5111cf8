"""Contrast against momentum features, of this batch and of a queue, with targets that a momentum teacher softens (ALBEF)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmjax.core.pin import pin
from mmjax.losses.contrastive import Terms
from mmjax.losses.tiles import products

Pair = Mapping[str, Float[Array, "*shape D"]]
SIDES = {"i2t": ("image", "text"), "t2i": ("text", "image")}


def distilled(
    student: Pair,
    teacher: Pair,
    scale: Float[Array, ""],
    group: Int[Array, " B"],
    alpha: float | Float[Array, ""],
    queue: Mapping[str, Array] | None = None,
    filled: int | Int[Array, ""] = 0,
) -> Terms:
    """Contrastive loss with momentum distillation (ALBEF, arXiv 2107.07651, eq. 1, 2 and 6).

    A row's logits are scale * its cosines with the teacher's features of the other modality, of this batch and of the queue's
    filled slots. It costs -sum over j of t[j] log softmax(logits)[j], where t = (1 - alpha) y + alpha q: y is spread evenly
    over the columns of the row's group, q is the softmax of the teacher's own logits for the row. (The paper's KL divergence
    less the teacher's entropy, which has no gradient; so does its code.) No gradient flows through teacher and queue.

    Columns are (1 + slots, B), split over devices as a batch is, and so are the logits: of the queue nothing travels, only
    the rows' own features and one sum a row.

    Args:
      student, teacher: {"image", "text"}: (B, D), L2-normalised.
      scale: 1 / temperature.
      group: equal numbers are positives, in the batch and in the queue.
      alpha: the teacher's share of the targets, between 0 and 1; it may grow over steps.
      queue: {"image", "text"} (slots, B, D) and "group" (slots, B), of earlier batches.
      filled: slots from the first on that hold something; the others count nothing.

    Returns:
      {"contrastive": (sum over both ways, 2 B)}, and "accuracy/i2t" and "accuracy/t2i": in how many of B rows no negative of
      batch and queue scores as high as the best positive.
    """
    teacher = jax.lax.stop_gradient(dict(teacher))
    batch = len(group)
    groups, live = group[None], jnp.ones((1, batch), bool)
    if queue is not None:
        groups = jnp.concatenate([groups, queue["group"]])
        slots = jnp.broadcast_to((jnp.arange(len(queue["group"])) < filled)[:, None], queue["group"].shape)
        live = jnp.concatenate([live, slots])
    # (columns' slot, column, row): the second axis is split.
    live = live[:, :, None]
    same = pin((groups[:, :, None] == group) & live, "chunks")
    total, hits = jnp.zeros((), jnp.promote_types(scale.dtype, jnp.float32)), {}
    for side, (rows, columns) in SIDES.items():
        against = teacher[columns][None]
        if queue is not None:
            against = jnp.concatenate([against, jax.lax.stop_gradient(queue[columns]).astype(against.dtype)])
        table = _table(student[rows], against, scale, live)
        soft = jax.nn.softmax(_table(teacher[rows], against, jax.lax.stop_gradient(scale), live), axis=(0, 1))
        hard = same / same.sum((0, 1))
        target = alpha * soft + (1 - alpha) * hard
        logp = table - jax.nn.logsumexp(table, axis=(0, 1))
        total -= jnp.where(live, target * logp, 0).sum()
        best = jax.lax.stop_gradient(table)
        right = jnp.where(same, best, -jnp.inf).max((0, 1)) > jnp.where(same, -jnp.inf, best).max((0, 1))
        hits[f"accuracy/{side}"] = (right.sum(dtype=total.dtype), jnp.asarray(batch, total.dtype))
    return {"contrastive": (total, jnp.asarray(2 * batch, total.dtype)), **hits}


def _table(rows: Float[Array, "B D"], columns: Float[Array, "slots B D"], scale, live) -> Float[Array, "slots B B"]:
    """Logits, each slot's columns by rows; those of slots without content are the lowest number (-inf would make 0 * -inf)."""
    found = jax.vmap(products, (0, None))(pin(columns, "chunks"), pin(rows, "whole"))
    return jnp.where(live, pin(scale * found, "chunks"), jnp.finfo(found.dtype).min)
