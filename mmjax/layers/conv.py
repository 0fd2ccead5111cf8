"""Convolutions with the padding of PyTorch, and their normalisation."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmjax.core.errors import UserError
from mmjax.layers.norm import BatchNorm, GroupNorm


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
