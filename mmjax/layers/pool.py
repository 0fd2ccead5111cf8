"""From one vector a position to one vector an example."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mmjax.layers.attention import MultiHeadAttention
from mmjax.layers.block import Mlp
from mmjax.layers.init import xavier
from mmjax.layers.norm import LayerNorm, wide


def mean(x: Float[Array, "B T D"], mask: Bool[Array, "B T"] | None = None) -> Float[Array, "B D"]:
    """The average over positions, or over those where `mask` is True (zero where there are none)."""
    y = wide(x)
    if mask is None:
        return y.mean(1).astype(x.dtype)
    total = jnp.where(mask[:, :, None], y, 0).sum(1)
    return (total / jnp.maximum(mask.sum(1), 1)[:, None].astype(y.dtype)).astype(x.dtype)


def last(x: Float[Array, "B T D"], mask: Bool[Array, "B T"] | None = None) -> Float[Array, "B D"]:
    """The last position, or the last where `mask` is True (the very last where there are none)."""
    if mask is None:
        return x[:, -1]
    return _pick(x, x.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1))


def eos(x: Float[Array, "B T D"], ids: Int[Array, "B T"], eos_id: int) -> Float[Array, "B D"]:
    """The position of the first `eos_id`; the last position of a text that has none."""
    found = ids == eos_id
    return _pick(x, jnp.where(found.any(1), jnp.argmax(found, axis=1), x.shape[1] - 1))


def _pick(x, index):
    return jnp.take_along_axis(x, index[:, None, None], axis=1)[:, 0]


class MapPool(nnx.Module):
    """Multi-head attention pooling: a learned probe attends to all positions, then x + mlp(ln(x)).

    As in SigLIP (Zhai et al. 2023), after Lee et al. 2019 (Set Transformer).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: int,
        *,
        act: str = "gelu",
        norm_eps: float = 1e-6,
        attention: str = "plain",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        init = xavier(width, 1)
        self.probe = nnx.Param(nnx.initializers.xavier_uniform()(rngs.params(), (1, width), jnp.float32))
        self.attn = MultiHeadAttention(width, heads, init=init, implementation=attention, dtype=dtype, rngs=rngs)
        self.ln = LayerNorm(width, eps=norm_eps, dtype=dtype)
        self.mlp = Mlp(width, mlp, act=act, init=init, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B S D"], mask: Bool[Array, "B S"] | None = None) -> Float[Array, "B D"]:
        """Taps "pool_attention" (B, N, 1, S); positions where `mask` is False are not looked at."""
        probe = jnp.broadcast_to(self.probe[...].astype(x.dtype), (x.shape[0], 1, x.shape[2]))
        y = self.attn(probe, x, None if mask is None else mask[:, None, None, :], name="pool_attention")
        return (y + self.mlp(self.ln(y)))[:, 0]


class QueryPool(nnx.Module):
    """Learned queries attend to all positions: CoCa's attentional pooler (Yu et al. 2022, section 3.2), as open_clip has it.

    Args:
      width: D of what is looked at.
      queries, dim, heads: number of queries, their width and the attention's heads.
    """

    def __init__(
        self,
        width: int,
        queries: int,
        dim: int,
        heads: int,
        *,
        norm_eps: float = 1e-6,
        attention: str = "plain",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.queries = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (queries, dim), jnp.float32))
        shared = {"implementation": attention, "dtype": dtype, "rngs": rngs}
        self.attn = MultiHeadAttention(dim, heads, init=xavier(dim, 1), kv_width=width, **shared)
        self.ln_query, self.ln_key = LayerNorm(dim, eps=norm_eps, dtype=dtype), LayerNorm(width, eps=norm_eps, dtype=dtype)

    def __call__(self, x: Float[Array, "B S D"]) -> Float[Array, "B queries dim"]:
        """Taps "pool_attention" (B, N, queries, S)."""
        queries = self.ln_query(self.queries[...].astype(x.dtype))
        queries = jnp.broadcast_to(queries, (x.shape[0], *queries.shape))
        return self.attn(queries, self.ln_key(x), name="pool_attention")
