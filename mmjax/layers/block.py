"""The Transformer block, pre-norm or post-norm, and a stack of it that is scanned."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from mmjax.core import module
from mmjax.core.errors import UserError, suggest
from mmjax.core.pin import pin
from mmjax.core.tap import tap
from mmjax.layers.attention import MultiHeadAttention
from mmjax.layers.drop import dropout, keys
from mmjax.layers.init import Init
from mmjax.layers.init import init as initialisers
from mmjax.layers.norm import LayerNorm


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x sigmoid(1.702 x), the approximation that CLIP's own weights were trained with."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
}


class Mlp(nnx.Module):
    """Two linear maps around an activation, D -> hidden -> D. Raises UserError for an unknown activation."""

    def __init__(self, width: int, hidden: int, *, act: str, init: Init, dtype: str = "float32", rngs: nnx.Rngs):
        if act not in ACTIVATIONS:
            raise UserError(f"act: unknown name {act!r}; choose one of: {', '.join(ACTIVATIONS)}.{suggest(act, ACTIVATIONS)}")
        self.fc1 = nnx.Linear(width, hidden, kernel_init=init.up, dtype=jnp.dtype(dtype), rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, kernel_init=init.down, dtype=jnp.dtype(dtype), rngs=rngs)
        self.act = act

    def __call__(self, x: Float[Array, "*shape D"]) -> Float[Array, "*shape D"]:
        """The same shape as `x`."""

        # The backward pass keeps fc1's output alone and applies the activation again: one array of the hidden width where
        # gelu_tanh would leave six. fc2 is not computed again, for no gradient needs its result.
        @jax.checkpoint
        def down(hidden):
            return self.fc2(ACTIVATIONS[self.act](hidden))

        return down(self.fc1(x))


def add(
    x: Float[Array, "B T D"],
    half: Callable[[Float[Array, "B T D"]], Float[Array, "B T D"]],
    norm: LayerNorm,
    post_norm: bool,
    rate: float = 0.0,
    key: Key[Array, " B"] | None = None,
    scale: nnx.Param | None = None,
) -> Float[Array, "B T D"]:
    """Half a block: x + half(norm(x)), or norm(x + half(x)) with `post_norm`; what is added is scaled and dropped first."""
    y = half(x if post_norm else norm(x))
    x = x + dropout(y if scale is None else y * scale[...].astype(y.dtype), rate, key)
    return norm(x) if post_norm else x


class Block(nnx.Module):
    """x + attention(ln1(x)), then x + mlp(ln2(x)); with `post_norm` ln1(x + attention(x)), then ln2(x + mlp(x)).

    With `cross` there is a third half between the two: attention to another sequence (the first Transformer's decoder,
    ALBEF's multimodal layers).

    Args:
      width, heads, mlp: D, N and the MLP's hidden width.
      act: a row of ACTIVATIONS.
      norm_eps: LayerNorm's epsilon (CLIP 1e-5, SigLIP 1e-6).
      dropout: rate on attention probabilities and on what each half adds to the residual.
      attention: "plain" or "fused".
      init: initialisers.
      post_norm: the order of the first Transformer, and of BERT.
      layer_scale: whether each half is multiplied by a learned vector before it is added (Touvron et al. 2021, CaiT); not
        the cross half.
      key_bias: see MultiHeadAttention.
      cross: whether the block has the cross half.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: int,
        *,
        act: str,
        norm_eps: float,
        dropout: float,
        attention: str,
        init: Init,
        post_norm: bool = False,
        layer_scale: bool = False,
        key_bias: bool = True,
        cross: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        shared = {"dropout": dropout, "key_bias": key_bias, "implementation": attention, "dtype": dtype, "rngs": rngs}
        self.ln1 = LayerNorm(width, eps=norm_eps, dtype=dtype)
        self.attn = MultiHeadAttention(width, heads, init=init, **shared)
        self.ln_cross = LayerNorm(width, eps=norm_eps, dtype=dtype) if cross else None
        self.cross = MultiHeadAttention(width, heads, init=init, **shared) if cross else None
        self.ln2 = LayerNorm(width, eps=norm_eps, dtype=dtype)
        self.mlp = Mlp(width, mlp, act=act, init=init, dtype=dtype, rngs=rngs)
        self.dropout, self.post_norm = dropout, post_norm
        self.scale1, self.scale2 = (nnx.Param(jnp.ones(width, jnp.float32)) if layer_scale else None for _ in range(2))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        mask: Bool[Array, "#B 1 #T T"] | None = None,
        key: Key[Array, " B"] | None = None,
        kv: Float[Array, "B S D"] | None = None,
        kv_mask: Bool[Array, "#B 1 #T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Taps "attention", "cross_attention" (plain attention only) and "output".

        `kv` is what the cross half looks at; without it that half is passed over.
        """
        x, crosses = pin(x), self.cross is not None and kv is not None
        inside, first, second, *crossing = keys(key, 5 if crosses else 3, self.dropout)
        x = self._add(x, lambda y: self.attn(y, mask=mask, key=inside), self.ln1, first, self.scale1)
        if crosses:
            x = self._add(x, lambda y: self.cross(y, kv, kv_mask, crossing[0], "cross_attention"), self.ln_cross, crossing[1])
        return tap("output", self._add(x, self.mlp, self.ln2, second, self.scale2))

    def _add(self, x, half, norm, key, scale=None):
        return add(x, half, norm, self.post_norm, self.dropout, key, scale)


def stacked(block: Callable[..., nnx.Module], depth: int, width: int, init: str, remat: str, rngs: nnx.Rngs) -> Any:
    """`depth` of block(init=..., rngs=...) whose parameters have a leading layer axis; None where there is none.

    Raises UserError for an unknown `remat` or `init`.
    """
    if remat not in module.REMAT:
        raise UserError(f"remat: unknown {remat!r}; choose one of: {', '.join(module.REMAT)}")
    scheme = initialisers(init, width, depth)
    return module.stack(lambda rngs: block(init=scheme, rngs=rngs), depth, rngs) if depth else None


class Stack(nnx.Module):
    """`depth` blocks whose parameters have a leading layer axis, run as a scan.

    Args:
      depth: number of blocks; 0 passes its input through.
      remat: what the backward pass recomputes: "none", "dots" (all but matrix products) or "full".
      init: a row of layers.init.INITS.
      others: see Block.

    Raises:
      UserError: an unknown `remat` or `init`, or what Block raises.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        heads: int,
        mlp: int,
        *,
        act: str = "gelu",
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
        attention: str = "plain",
        init: str = "xavier",
        post_norm: bool = False,
        layer_scale: bool = False,
        key_bias: bool = True,
        cross: bool = False,
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        options = {"act": act, "norm_eps": norm_eps, "dropout": dropout, "attention": attention, "post_norm": post_norm}
        options |= {"layer_scale": layer_scale, "key_bias": key_bias, "cross": cross, "dtype": dtype}
        self.blocks = stacked(partial(Block, width, heads, mlp, **options), depth, width, init, remat, rngs)
        self.depth, self.dropout, self.remat = depth, dropout, remat

    def __call__(
        self,
        x: Float[Array, "B T D"],
        mask: Bool[Array, "#B 1 #T T"] | None = None,
        key: Key[Array, " B"] | None = None,
        kv: Float[Array, "B S D"] | None = None,
        kv_mask: Bool[Array, "#B 1 #T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Taps "blocks": {"attention": (depth, B, N, T, T), "output": (depth, B, T, D)}, and "cross_attention" with `cross`.

        `kv` and `kv_mask` are the same for all blocks.
        """
        if self.blocks is None:
            return x
        xs = keys(key, self.depth, self.dropout) if key is not None and self.dropout else None
        return module.scan(self.blocks, lambda block, x, key: block(x, mask, key, kv, kv_mask), x, xs, remat=self.remat)
