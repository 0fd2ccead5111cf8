"""CLIP's ResNet (Radford et al. 2021, section 2.4): three stem convolutions, blurred strides, attention pooling."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from mmjax.core.errors import UserError
from mmjax.core.pin import pin
from mmjax.core.tap import tap
from mmjax.layers.conv import ConvNorm


def _halve(x: Float[Array, "B h w D"]) -> Float[Array, "B _ _ D"]:
    return nnx.avg_pool(x, (2, 2), (2, 2))


class Bottleneck(nnx.Module):
    """1x1, 3x3, 1x1 to four times the width; a stride is an average over 2x2 before the last, and before the shortcut."""

    def __init__(self, inputs: int, inner: int, stride: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        shared = {"dtype": dtype, "rngs": rngs}
        widths = ((inputs, inner, 1), (inner, inner, 3), (inner, 4 * inner, 1))
        self.convs = nnx.List(ConvNorm(*width, **shared) for width in widths)
        self.shortcut = ConvNorm(inputs, 4 * inner, 1, **shared) if stride > 1 or inputs != 4 * inner else None
        self.stride = stride

    def __call__(self, x: Float[Array, "B h w inputs"], train: bool) -> Float[Array, "B _ _ outputs"]:
        """`train`: see layers.norm.BatchNorm."""
        x = pin(x)
        y = jax.nn.relu(self.convs[1](jax.nn.relu(self.convs[0](x, train)), train))
        if self.stride > 1:
            x, y = _halve(x), _halve(y)
        y = self.convs[2](y, train)
        return jax.nn.relu(y + (x if self.shortcut is None else self.shortcut(x, train)))


class CLIPResNet(nnx.Module):
    """Stem, four stages, and attention from the mean of all positions to them and itself; what attends is the output.

    The output's linear map belongs to the assembly: a dual encoder with image_projection "bias".

    Args:
      size: pixels a side; a multiple of 32.
      stages: blocks of each stage.
      width: channels of the stem.
      heads: of the pooling; the output's width / 64 as published.

    Attributes:
      width: of the output, 32 times the stem's.
    """

    def __init__(
        self,
        size: int = 224,
        stages: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        heads: int = 32,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        reduction = 4 * 2 ** (len(stages) - 1)
        if size % reduction:
            raise UserError(f"size {size} is not divisible by {reduction}, by which the picture is reduced")
        shared = {"dtype": dtype, "rngs": rngs}
        stem = ((3, width // 2, 3), (width // 2, width // 2, 3), (width // 2, width, 3))
        self.stem = nnx.List(ConvNorm(*one, stride=1 if i else 2, **shared) for i, one in enumerate(stem))
        self.stages, inputs = nnx.List(), width
        for i, depth in enumerate(stages):
            blocks = nnx.List()
            for j in range(depth):
                blocks.append(Bottleneck(inputs, width * 2**i, 2 if i and not j else 1, **shared))
                inputs = 4 * width * 2**i
            self.stages.append(blocks)
        if inputs % heads:
            raise UserError(f"width {inputs} is not divisible by heads {heads}")
        self.width, self.heads, self.dtype, self.size = inputs, heads, dtype, size
        normal = nnx.initializers.normal(inputs**-0.5)
        self.positions = nnx.Param(normal(rngs.params(), ((size // reduction) ** 2 + 1, inputs), jnp.float32))
        self.query, self.key, self.value = (
            nnx.Linear(inputs, inputs, kernel_init=normal, dtype=jnp.dtype(dtype), rngs=rngs) for _ in range(3)
        )

    def __call__(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled picture; taps "tokens", "pool_attention" and "pooled". A key means training."""
        x = self.tokens(images, key)
        x = jnp.concatenate([x.mean(1, keepdims=True), x], axis=1)
        if x.shape[1] != self.positions.shape[0]:
            raise UserError(
                f"pictures of {images.shape[1]} x {images.shape[2]} pixels, and the pool's positions are for {self.size}"
            )
        x = x + self.positions[...].astype(x.dtype)
        inputs = ((self.query, x[:, :1]), (self.key, x), (self.value, x))
        q, k, v = (part(y).reshape(*y.shape[:2], self.heads, -1) for part, y in inputs)
        wide = jnp.promote_types(q.dtype, jnp.float32)
        logits = jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=wide) * q.shape[-1] ** -0.5
        probabilities = tap("pool_attention", jax.nn.softmax(logits).astype(v.dtype))
        return tap("pooled", jnp.einsum("bnts,bsnh->btnh", probabilities, v).reshape(x.shape[0], -1))

    def tokens(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B S D"]:
        """The last stage's map, row by row."""
        train = key is not None
        x = images.astype(self.dtype)
        for conv in self.stem:
            x = jax.nn.relu(conv(x, train))
        x = _halve(x)
        for blocks in self.stages:
            for block in blocks:
                x = block(x, train)
        return tap("tokens", x.reshape(x.shape[0], -1, x.shape[-1]))
