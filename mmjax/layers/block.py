"""The Transformer block, pre-norm or post-norm, and a stack of it that is scanned."""

from functools import partial

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


class Block(nnx.Module):
    """x + attention(ln1(x)), then x + mlp(ln2(x)); with `post_norm` ln1(x + attention(x)), then ln2(x + mlp(x)).

    Args:
      width, heads, mlp: D, N and the MLP's hidden width.
      act: a row of ACTIVATIONS.
      norm_eps: LayerNorm's epsilon (CLIP 1e-5, SigLIP 1e-6).
      dropout: rate on attention probabilities and on what each half adds to the residual.
      attention: "plain" or "fused".
      init: initialisers.
      post_norm: the order of the first Transformer, and of BERT.
      layer_scale: whether each half is multiplied by a learned vector before it is added (Touvron et al. 2021, CaiT).
      key_bias: see MultiHeadAttention.
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
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.ln1 = LayerNorm(width, eps=norm_eps, dtype=dtype)
        self.attn = MultiHeadAttention(
            width, heads, init=init, dropout=dropout, key_bias=key_bias, implementation=attention, dtype=dtype, rngs=rngs
        )
        self.ln2 = LayerNorm(width, eps=norm_eps, dtype=dtype)
        self.mlp = Mlp(width, mlp, act=act, init=init, dtype=dtype, rngs=rngs)
        self.dropout, self.post_norm = dropout, post_norm
        self.scale1, self.scale2 = (nnx.Param(jnp.ones(width, jnp.float32)) if layer_scale else None for _ in range(2))

    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "#B 1 #T T"] | None = None, key: Key[Array, " B"] | None = None
    ) -> Float[Array, "B T D"]:
        """Taps "attention" (plain attention only) and "output"."""
        x = pin(x)
        inside, first, second = keys(key, 3, self.dropout)
        x = self._add(x, lambda y: self.attn(y, mask=mask, key=inside), self.ln1, self.scale1, first)
        return tap("output", self._add(x, self.mlp, self.ln2, self.scale2, second))

    def _add(self, x, half, norm, scale, key):
        y = half(x if self.post_norm else norm(x))
        x = x + dropout(y if scale is None else y * scale[...].astype(y.dtype), self.dropout, key)
        return norm(x) if self.post_norm else x


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
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if remat not in module.REMAT:
            raise UserError(f"remat: unknown {remat!r}; choose one of: {', '.join(module.REMAT)}")
        scheme = initialisers(init, width, depth)

        def make(rngs: nnx.Rngs) -> Block:
            return Block(
                width,
                heads,
                mlp,
                act=act,
                norm_eps=norm_eps,
                dropout=dropout,
                attention=attention,
                init=scheme,
                post_norm=post_norm,
                layer_scale=layer_scale,
                key_bias=key_bias,
                dtype=dtype,
                rngs=rngs,
            )

        self.blocks = module.stack(make, depth, rngs) if depth else None
        self.depth, self.dropout, self.remat = depth, dropout, remat

    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "#B 1 #T T"] | None = None, key: Key[Array, " B"] | None = None
    ) -> Float[Array, "B T D"]:
        """Taps "blocks": {"attention": (depth, B, N, T, T), "output": (depth, B, T, D)}."""
        if self.blocks is None:
            return x
        xs = keys(key, self.depth, self.dropout) if key is not None and self.dropout else None
        return module.scan(self.blocks, lambda block, x, key: block(x, mask, key), x, xs, remat=self.remat)
