"""The contrastive losses along a Walk: sums over all pairs with their gradients, logits never held.

Softmax meets all pairs twice: once for the logarithm of each row's and column's sum of exponentials, gathered online
(Milakov and Gimelshein 2018), and, in the backward pass, once more for the gradient, which needs them. The sigmoid's
gradient at a pair needs nothing but the pair, so that one walk gives value and gradient. In both, gradients of scale and
bias come from the rows' accumulators, at one reduction in all: differentiating a ring instead would cost one a step.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.core.flops import again
from mmjax.losses.walk import Walk

Hits = dict[str, jax.Array]


def products(rows: jax.Array, columns: jax.Array) -> jax.Array:
    """rows @ columns.T, accumulated in float32 at least."""
    return jnp.einsum("id,jd->ij", rows, columns, preferred_element_type=jnp.promote_types(rows.dtype, jnp.float32))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def softmax(walk: Walk, sides: tuple[str, ...], image, text, scale, bias, group) -> tuple[jax.Array, Hits]:
    """The sum that losses.contrastive.softmax has, and how many rows of each way are right; see there."""
    return _softmax_forward(walk, sides, image, text, scale, bias, group)[0]


def _softmax_forward(walk, sides, image, text, scale, bias, group):
    rows, columns, wide = _ends(walk, image, text, group)
    found = {side: _online(len(image), wide) for side in ("i2t", "t2i")}
    found["i2t"] |= {"sum": jnp.zeros(len(image), wide), "count": jnp.zeros(len(image), wide)}
    found["i2t"], found["t2i"] = walk(_gather_pairs, (scale, bias), rows, columns, found["i2t"], found["t2i"])
    # Positives of a row and of a column of one number are the same examples: their counts and, in all, their logits.
    mean = (found["i2t"]["sum"] / found["i2t"]["count"]).sum()
    logsum = {side: _top(found[side]) + jnp.log(found[side]["total"]) for side in sides}
    total = sum(logsum[side].sum() - mean for side in sides)
    return (total, _hits(found)), (image, text, scale, bias, group, logsum, 1 / found["i2t"]["count"])


def _softmax_backward(walk, sides, saved, cotangents):
    image, text, scale, bias, group, logsum, share = saved
    rows, columns, wide = _ends(walk, image, text, group)
    rows |= {"share": len(sides) * share} | ({"logsum": logsum["i2t"]} if "i2t" in sides else {})
    columns |= {"logsum": logsum["t2i"]} if "t2i" in sides else {}
    by_row, by_column = (jnp.zeros(x.shape, wide) for x in (image, text))
    by_row, by_column = walk(_softmax_slope, (scale, bias), rows, columns, by_row, by_column)
    # Each row's probabilities and each column's sum to 1, as its targets do: the bias moves nothing.
    return _gradients(cotangents[0], image, text, scale, rows["x"], by_row, by_column, jnp.zeros_like(bias))


softmax.defvjp(_softmax_forward, _softmax_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def sigmoid(walk: Walk, image, text, scale, bias, group) -> tuple[jax.Array, Hits]:
    """The sum that losses.contrastive.sigmoid has, and how many rows of each way are right; see there."""
    rows, columns, wide = _ends(walk, image, text, group)
    sums = _best(len(image), wide)
    by_row, by_column = walk(_sigmoid_value, (scale, bias), rows, columns, sums | {"value": jnp.zeros(len(image), wide)}, sums)
    return by_row["value"].sum(), _hits({"i2t": by_row, "t2i": by_column})


def _sigmoid_forward(walk, image, text, scale, bias, group):
    rows, columns, wide = _ends(walk, image, text, group)
    sums = _best(len(image), wide) | {"x": jnp.zeros(image.shape, wide)}
    more = {name: jnp.zeros(len(image), wide) for name in ("value", "slope")}
    by_row, by_column = walk(_sigmoid_both, (scale, bias), rows, columns, sums | more, sums)
    moved = (by_row["x"], by_column["x"], by_row["slope"].sum())
    return (by_row["value"].sum(), _hits({"i2t": by_row, "t2i": by_column})), (image, text, scale, bias, *moved)


def _sigmoid_backward(walk, saved, cotangents):
    image, text, scale, bias, by_row, by_column, slope = saved
    x = _ends(walk, image, text, None)[0]["x"]
    return _gradients(cotangents[0], image, text, scale, x, by_row, by_column, slope.astype(bias.dtype))


sigmoid.defvjp(_sigmoid_forward, _sigmoid_backward)


def _gather_pairs(shared, rows, columns, by_row, by_column, real):
    table, same = pairs(shared, rows, columns, real)
    sums = {
        "sum": by_row["sum"] + jnp.where(same, table, 0).sum(1),
        "count": by_row["count"] + same.sum(1, dtype=by_row["count"].dtype),
    }
    return _gather(by_row, table, same, 1) | sums, _gather(by_column, table, same, 0)


def _softmax_slope(shared, rows, columns, by_row, by_column, real):
    table, same = pairs(shared, rows, columns, real, again(products))
    slope = jnp.where(same, -rows["share"][:, None], 0)
    if "logsum" in rows:
        slope += jnp.exp(table - rows["logsum"][:, None])
    if "logsum" in columns:
        slope += jnp.exp(table - columns["logsum"])
    return _add(slope, rows, columns, by_row, by_column)


def _sigmoid_value(shared, rows, columns, by_row, by_column, real):
    table, same = pairs(shared, rows, columns, real)
    value = by_row["value"] + jax.nn.softplus(jnp.where(same, -table, table)).sum(1)
    return _nearest(by_row, table, same, 1) | {"value": value}, _nearest(by_column, table, same, 0)


def _sigmoid_both(shared, rows, columns, by_row, by_column, real):
    table, same = pairs(shared, rows, columns, real)
    wrong = jnp.where(same, -table, table)  # the pair costs log(1 + exp(wrong))
    small = jnp.exp(-jnp.abs(wrong))
    slope = jnp.where(same, -1, 1) * jnp.where(wrong > 0, 1, small) / (1 + small)
    x, y = _add(slope, rows, columns, by_row["x"], by_column["x"])
    sums = {
        "value": by_row["value"] + (jnp.maximum(wrong, 0) + jnp.log1p(small)).sum(1),
        "slope": by_row["slope"] + slope.sum(1),
    }
    return _nearest(by_row, table, same, 1) | sums | {"x": x}, _nearest(by_column, table, same, 0) | {"x": y}


def pairs(shared: Any, rows: Any, columns: Any, real: jax.Array | None, multiply=products) -> tuple[jax.Array, jax.Array]:
    """(logits, which are of positives) of a block; pairs with padding are -inf and no positives."""
    scale, bias = shared
    table, same = scale * multiply(rows["x"], columns["x"]) + bias, rows["group"][:, None] == columns["group"]
    return (table, same) if real is None else (jnp.where(real, table, -jnp.inf), same & real)


def _ends(walk: Walk, image: jax.Array, text: jax.Array, group: Any) -> tuple[dict, dict, Any]:
    """What rows and columns bring along, and the dtype of sums."""
    wide, dtype = jnp.promote_types(image.dtype, jnp.float32), walk.dtype or image.dtype
    return {"x": image.astype(dtype), "group": group}, {"x": text.astype(dtype), "group": group}, wide


def _best(count: int, wide: Any) -> dict[str, jax.Array]:
    # Finite, for exp(-inf - -inf) is not a number.
    return {name: jnp.full(count, jnp.finfo(wide).min, wide) for name in ("positive", "negative")}


def _online(count: int, wide: Any) -> dict[str, jax.Array]:
    return _best(count, wide) | {"total": jnp.zeros(count, wide)}


def _top(sums: dict[str, jax.Array]) -> jax.Array:
    return jnp.maximum(sums["positive"], sums["negative"])


def _nearest(sums: dict, table: jax.Array, same: jax.Array, axis: int) -> dict[str, jax.Array]:
    """The best positive's and the best negative's logit so far."""
    return {
        "positive": jnp.maximum(sums["positive"], jnp.where(same, table, -jnp.inf).max(axis)),
        "negative": jnp.maximum(sums["negative"], jnp.where(same, -jnp.inf, table).max(axis)),
    }


def _gather(sums: dict, table: jax.Array, same: jax.Array, axis: int) -> dict[str, jax.Array]:
    """Adds a block to the sums of exponentials, which are relative to the largest logit so far."""
    best = _nearest(sums, table, same, axis)
    top = _top(best)
    return best | {
        "total": sums["total"] * jnp.exp(_top(sums) - top) + jnp.exp(table - jnp.expand_dims(top, axis)).sum(axis),
    }


def _add(slope, rows, columns, by_row, by_column):
    """Adds slope @ columns to the rows' sums and slope.T @ rows to the columns'."""
    return (
        by_row + jnp.einsum("ij,jd->id", slope, columns["x"], preferred_element_type=slope.dtype),
        by_column + jnp.einsum("ij,id->jd", slope, rows["x"], preferred_element_type=slope.dtype),
    )


def _hits(found: dict[str, dict]) -> Hits:
    """In how many rows each way every negative scores below the best positive."""
    return {side: (sums["positive"] > sums["negative"]).sum(dtype=sums["positive"].dtype) for side, sums in found.items()}


def _gradients(by, image, text, scale, x, by_row, by_column, slope):
    """Gradients of (image, text, scale, bias, group) from sums of slopes, for a cotangent `by` of the total."""
    of_scale = (x * by_row).sum()  # the sum over pairs of slope times cosine
    moved = ((by * scale * sums).astype(like.dtype) for sums, like in ((by_row, image), (by_column, text)))
    return *moved, (by * of_scale).astype(scale.dtype), by * slope, None
