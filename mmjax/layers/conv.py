"""Convolutions with the padding of PyTorch, and their normalisation."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmjax.core.errors import UserError
from mmjax.layers.norm import BatchNorm, GroupNorm


def depthwise(
    x: Float[Array, "B h w D"], kernel: Float[Array, "n n 1 D"], strides: tuple[int, int], padding: str, **_
) -> Float[Array, "B _ _ D"]:
    """Each channel filtered by itself, with TensorFlow's SAME padding, as n x n shifted and scaled copies that are added.

    It stands where nnx.Conv calls jax.lax.conv_general_dilated, whose grouped form takes XLA 3 to 9 times as long on a CPU
    (batch 64, kernels of 3 and 5, 96 to 672 channels).
    """
    n, sides, steps = kernel.shape[0], x.shape[1:3], strides
    sizes = [-(-side // step) for side, step in zip(sides, steps, strict=True)]
    extra = [max((size - 1) * step + n - side, 0) for size, step, side in zip(sizes, steps, sides, strict=True)]
    x = jnp.pad(x, ((0, 0), *((pad // 2, pad - pad // 2) for pad in extra), (0, 0)))
    (h, down), (w, right) = ((size, step) for size, step in zip(sizes, steps, strict=True))
    y = jnp.zeros((), x.dtype)
    for i in range(n):
        for j in range(n):
            y = y + x[:, i : i + (h - 1) * down + 1 : down, j : j + (w - 1) * right + 1 : right] * kernel[i, j, 0]
    return y


class ConvNorm(nnx.Module):
    """A square convolution without bias, padded by kernel // 2 on every side, then BatchNorm or GroupNorm.

    Args:
      inputs, outputs: channels.
      kernel, stride: of the convolution.
      groups: of GroupNorm; 0 for BatchNorm.

    Kernels start normal with variance 2 / fan-out (He et al. 2015).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (kernel, kernel),
            (stride, stride),
            padding=((kernel // 2, kernel // 2),) * 2,
            use_bias=False,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=jnp.dtype(dtype),
            rngs=rngs,
        )
        self.norm = GroupNorm(outputs, groups=groups, dtype=dtype) if groups else BatchNorm(outputs, dtype=dtype)

    def __call__(self, x: Float[Array, "B h w inputs"], train: bool) -> Float[Array, "B _ _ outputs"]:
        """`train` makes BatchNorm use and record the batch's statistics."""
        return self.norm(self.conv(x), train)


class ConvStem(nnx.Module):
    """Patches by a few 3x3 convolutions of stride 2 with BatchNorm and ReLU, then a 1x1 (Xiao et al. 2021, 2106.14881).

    Channels double from layer to layer up to `width`; the strides multiply to `patch`, a power of 2.
    """

    def __init__(self, patch: int, width: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        halvings = patch.bit_length() - 1
        if patch != 2**halvings or width % 2**halvings:
            raise UserError(f"stem 'conv' halves {halvings} times: patch {patch} must be a power of 2 and divide width {width}")
        widths = [3, *(width >> i for i in reversed(range(halvings)))]
        self.convs = nnx.List(ConvNorm(widths[i], widths[i + 1], 3, stride=2, dtype=dtype, rngs=rngs) for i in range(halvings))
        self.last = nnx.Conv(width, width, (1, 1), dtype=jnp.dtype(dtype), rngs=rngs)

    def __call__(self, images: Float[Array, "B height width 3"], train: bool) -> Float[Array, "B rows columns D"]:
        """`train` makes BatchNorm use and record the batch's statistics."""
        x = images
        for conv in self.convs:
            x = jax.nn.relu(conv(x, train))
        return self.last(x)
