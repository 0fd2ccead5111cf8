"""Multi-head attention (Vaswani et al. 2017), self or cross."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from mmjax.core.errors import UserError, suggest
from mmjax.core.tap import tap
from mmjax.layers.drop import dropout
from mmjax.layers.init import Init

IMPLEMENTATIONS = ("plain", "fused")


class MultiHeadAttention(nnx.Module):
    """softmax(q k / sqrt(H)) v over `heads` heads of H = width / heads, with biases on the projections.

    Args:
      width: D of queries, keys, values and output.
      heads: N.
      kv_width: of what is looked at, where it is another.
      init: initialisers of the kernels.
      dropout: rate on the probabilities.
      key_bias: whether keys have a bias; no output depends on it, but files may lack it (Whisper's).
      implementation: "plain" taps its probabilities; "fused" (jax.nn.dot_product_attention; cuDNN's kernel on a GPU in half
        precision) has none to tap or to drop.

    Raises:
      UserError: width not divisible by heads, an unknown implementation, or dropout with "fused".
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        init: Init,
        dropout: float = 0.0,
        key_bias: bool = True,
        kv_width: int | None = None,
        implementation: str = "plain",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if width % heads:
            below, above = width // heads * heads, (width // heads + 1) * heads
            mend = f"use width {below} or {above}" if below else f"use width {above}"
            raise UserError(f"width {width} is not divisible by heads {heads}: {mend}, or other heads")
        if implementation not in IMPLEMENTATIONS:
            hint = suggest(implementation, IMPLEMENTATIONS)
            raise UserError(f"attention {implementation!r} is unknown: choose one of: {', '.join(IMPLEMENTATIONS)}.{hint}")
        if implementation == "fused" and dropout:
            raise UserError(f"attention 'fused' has no dropout, which is {dropout}: use attention 'plain' or dropout 0")

        def linear(kernel: nnx.Initializer, bias: bool = True, inside: int = width) -> nnx.Linear:
            return nnx.Linear(inside, width, use_bias=bias, kernel_init=kernel, dtype=jnp.dtype(dtype), rngs=rngs)

        seen = kv_width or width
        self.query = linear(init.qkv)
        self.key, self.value = linear(init.qkv, key_bias, seen), linear(init.qkv, inside=seen)
        self.out = linear(init.out)
        self.heads, self.dropout, self.implementation = heads, dropout, implementation

    def __call__(
        self,
        x: Float[Array, "B T D"],
        kv: Float[Array, "B S _"] | None = None,
        mask: Bool[Array, "#B #N #T #S"] | None = None,
        key: Key[Array, " B"] | None = None,
        name: str = "attention",
    ) -> Float[Array, "B T D"]:
        """Attends from `x` to `kv` (to `x` itself where None).

        Args:
          x: what asks.
          kv: what is looked at.
          mask: True where a query may look at a key; a query that may look at none gets zeros from its values.
          key: for dropout, one an example.
          name: of the tapped probabilities (B, N, T, S).
        """
        kv = x if kv is None else kv
        q, k, v = (
            linear(y).reshape(*y.shape[:2], self.heads, -1) for linear, y in ((self.query, x), (self.key, kv), (self.value, kv))
        )
        if self.implementation == "fused":
            y = fused(q, k, v, mask)
            # It averages the values of a query that may look at none.
            y = y if mask is None else jnp.where(mask.any(-1).swapaxes(1, 2)[..., None], y, 0)
        else:
            y = self._plain(q, k, v, mask, key, name)
        return self.out(y.reshape(x.shape))

    def _plain(self, q, k, v, mask, key, name):
        dtype = jnp.promote_types(q.dtype, jnp.float32)
        logits = jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=dtype) * q.shape[-1] ** -0.5
        if mask is not None:
            logits = jnp.where(mask, logits, jnp.finfo(dtype).min)
        probabilities = jax.nn.softmax(logits)
        if mask is not None:
            probabilities = jnp.where(mask, probabilities, 0)
        probabilities = tap(name, probabilities.astype(v.dtype))
        return jnp.einsum("bnts,bsnh->btnh", dropout(probabilities, self.dropout, key), v)


def fused(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S N H"],
    v: Float[Array, "B S N H"],
    mask: Bool[Array, "#B #N #T #S"] | None = None,
) -> Float[Array, "B T N H"]:
    """Attention that keeps no probabilities: cuDNN's on a GPU in half precision, elsewhere what jax has."""
    if jax.default_backend() == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16):
        return padded(q, k, v, mask, "cudnn")
    return jax.nn.dot_product_attention(q, k, v, mask=mask)


def padded(q, k, v, mask, implementation: str | None, multiple: int = 8):
    """The same over T and S filled up to a `multiple`: in training cuDNN's kernel takes no odd length. What is filled in is
    not looked at."""
    t, s = q.shape[1], k.shape[1]
    more, lengths = (-t % multiple, -s % multiple), {}
    if mask is not None:
        # cuDNN adds it to the logits and wants it for all of them. A query that is filled in looks at every key, lest its
        # softmax be one of nothing.
        mask = jnp.broadcast_to(mask, (*mask.shape[:2], t, s))
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, more[0]), (0, 0)), constant_values=True)
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, 0), (0, more[1])))
    elif any(more):
        lengths = {"query_seq_lengths": t, "key_value_seq_lengths": s}
        lengths = {name: jnp.full(len(q), length, jnp.int32) for name, length in lengths.items()}

    def fill(x, count):
        return jnp.pad(x, ((0, 0), (0, count), (0, 0), (0, 0)))

    q, k, v = fill(q, more[0]), fill(k, more[1]), fill(v, more[1])
    return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation=implementation, **lengths)[:, :t]
