"""Hard negatives within the batch: for each example one of the others that is mistaken for its pair."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from mmjax.core import pin
from mmjax.losses import tiles
from mmjax.losses.walk import TILE, Walk, choose
from mmjax.sharding.mesh import ROWS, AnyMesh, row_parts

NONE = -1


def hard_negatives(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    scale: Float[Array, ""],
    group: Int[Array, " B"],
    key: Key[Array, " B"] | None = None,
    *,
    form: str = "auto",
    tile: int = TILE,
    dtype: str | None = None,
) -> dict[str, Int[Array, " B"]]:
    """Which text each image is to be told apart from, and which image each text (ALBEF, arXiv 2107.07651, section 3.2).

    A pair is drawn in proportion to exp(scale * cosine) among the negatives, by the largest of logit + Gumbel noise, so
    that one walk over the pairs draws it in every form. Noise is a hash of the example's own seed and the other's place in
    the batch: the same in every form, tile and mesh. No gradient flows.

    Args:
      image, text, scale, group, form, tile, dtype: as of losses.contrastive.softmax.
      key: one an example; None takes the negative that scores highest (of equal ones the first).

    Returns:
      {"i2t", "t2i"}: places in the batch; -1 where an example has no negative.

    Raises:
      UserError: an unknown form or tile.
    """
    image, text, scale = jax.lax.stop_gradient((image, text, scale))
    walk, count = choose(form, tile, dtype, len(image)), len(image)
    # Dense is one tile of all pairs.
    walk = Walk(count, dtype) if walk is None else walk
    end = {"group": group, "place": pin.pin(jnp.arange(count, dtype=jnp.int32))}
    if key is not None:
        end["seed"] = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(key)
    kind = walk.dtype or image.dtype
    wide = jnp.promote_types(image.dtype, jnp.float32)
    none = {"score": jnp.full(count, -jnp.inf, wide), "place": jnp.full(count, NONE, jnp.int32)}
    ends = ({"x": x.astype(kind), **end} for x in (image, text))
    by_row, by_column = walk(_pick, (scale, jnp.zeros_like(scale)), *ends, none, none)
    return {"i2t": by_row["place"], "t2i": by_column["place"]}


def fetch(x: Any, places: Int[Array, " B"]) -> Any:
    """The rows of the global batch at `places`, x[places]; zeros where a place is negative.

    Where the batch is split over devices its blocks travel around the ring, and each device keeps the rows that it asked
    for: one more block is held at a time, and the whole batch nowhere. Gradients travel back.

    Args:
      x: a pytree whose leaves lead with the batch axis.
    """
    mesh = pin.mesh()
    if mesh is None or row_parts(mesh.shape) == 1:
        return jax.tree.map(lambda x: _keep(places >= 0, x[places], jnp.zeros_like(x)), x)
    around = jax.shard_map(lambda x, places: _ring(x, places, mesh), mesh=mesh, in_specs=(ROWS, ROWS), out_specs=ROWS)
    return around(x, places)


def _ring(x: Any, places: Int[Array, " b"], mesh: AnyMesh) -> Any:
    """fetch on one device, whose places are of the global batch; its block is that of its number on the data axes."""
    parts, axes = row_parts(mesh.shape), ROWS[0]
    owner, here = jnp.where(places < 0, -1, places // len(places)), places % len(places)

    def keep(kept, block, hops):
        mine = owner == (jax.lax.axis_index(axes) - hops) % parts
        return jax.tree.map(lambda kept, block: _keep(mine, block[here], kept), kept, block)

    def stop(carry, hops):
        kept, block = carry
        block = jax.tree.map(lambda x: jax.lax.ppermute(x, axes, [(i, (i + 1) % parts) for i in range(parts)]), block)
        return (keep(kept, block, hops), block), None

    kept = keep(jax.tree.map(jnp.zeros_like, x), x, 0)
    return jax.lax.scan(stop, (kept, x), jnp.arange(1, parts))[0][0]


def _keep(which: Bool[Array, " b"], new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(which.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _pick(shared, rows, columns, by_row, by_column, real):
    table, same = tiles.pairs(shared, rows, columns, real)
    table = jnp.where(same, -jnp.inf, table)
    scores = (table, table.T)
    if "seed" in rows:
        scores = (
            table + gumbel(rows["seed"][:, 0], columns["place"]).astype(table.dtype),
            table.T + gumbel(columns["seed"][:, 1], rows["place"]).astype(table.dtype),
        )
    return _best(by_row, scores[0], columns["place"]), _best(by_column, scores[1], rows["place"])


def _best(best: dict, scores: Float[Array, "n m"], place: Int[Array, " m"]) -> dict[str, jax.Array]:
    at = jnp.argmax(scores, axis=1)
    score, place = jnp.take_along_axis(scores, at[:, None], 1)[:, 0], place[at]
    # Around a ring blocks come in another order: of equal scores the first place wins, whoever came first.
    better = (score > best["score"]) | ((score == best["score"]) & (score > -jnp.inf) & (place < best["place"]))
    return {"score": jnp.where(better, score, best["score"]), "place": jnp.where(better, place, best["place"])}


def gumbel(seed: UInt32[Array, " n"], place: Int[Array, " m"]) -> Float[Array, "n m"]:
    """Standard Gumbel noise for each seed at each place: -log(-log(u)).

    u comes from a 32-bit mixing function (multiply and shift, constants of C. Wellons' hash prospector, "lowbias32"): 8
    operations a pair where threefry takes 100, for draws whose only use is to choose among a batch.
    """
    x = seed[:, None] + place[None, :].astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    uniform = ((x ^ (x >> 16)) >> 8).astype(jnp.float32) * 2**-24 + 2**-25
    return -jnp.log(-jnp.log(uniform))
