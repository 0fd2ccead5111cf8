"""EfficientNet-Lite (Tan and Le 2019, in its form for phones: no squeeze-and-excitation, ReLU6 throughout)."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from mmjax.core.pin import pin
from mmjax.core.tap import tap
from mmjax.layers import pool
from mmjax.layers.conv import depthwise as filter_channels
from mmjax.layers.norm import BatchNorm

# repeats, kernel, stride of the first, expansion, output channels: Lite0.
LITE0 = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Conv(nnx.Module):
    """A convolution with TensorFlow's SAME padding, BatchNorm (epsilon 1e-3), and ReLU6 where `act`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        depthwise: bool = False,
        act: bool = True,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        shifts = {"feature_group_count": inputs, "conv_general_dilated": filter_channels} if depthwise else {}
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (kernel, kernel),
            (stride, stride),
            padding="SAME",
            use_bias=False,
            **shifts,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=jnp.dtype(dtype),
            rngs=rngs,
        )
        self.norm = BatchNorm(outputs, eps=1e-3, momentum=0.01, dtype=dtype)
        self.act = act

    def __call__(self, x: Float[Array, "B h w inputs"], train: bool) -> Float[Array, "B _ _ outputs"]:
        """`train`: see layers.norm.BatchNorm."""
        y = self.norm(self.conv(x), train)
        return jnp.clip(y, 0, 6) if self.act else y


class Inverted(nnx.Module):
    """Expand by a 1x1, filter each channel by itself, project by a 1x1; the input is added where shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int, *, dtype: str, rngs: nnx.Rngs):
        wide, shared = inputs * expand, {"dtype": dtype, "rngs": rngs}
        self.expand = None if expand == 1 else Conv(inputs, wide, 1, **shared)
        self.depthwise = Conv(wide, wide, kernel, stride, depthwise=True, **shared)
        self.project = Conv(wide, outputs, 1, act=False, **shared)
        self.adds = stride == 1 and inputs == outputs

    def __call__(self, x: Float[Array, "B h w inputs"], train: bool) -> Float[Array, "B _ _ outputs"]:
        """`train`: see layers.norm.BatchNorm."""
        x = pin(x)
        y = x if self.expand is None else self.expand(x, train)
        y = self.project(self.depthwise(y, train), train)
        return x + y if self.adds else y


class EfficientNetLite(nnx.Module):
    """Stem, inverted residuals, a 1x1 to the output's width, global average pooling.

    Args:
      size: pixels a side that it is meant for; any other works too.
      stages: of (repeats, kernel, stride, expansion, channels); Lite0's by default.
      stem: channels of the first convolution.
      width: D of the output.

    Attributes:
      width: of the output.
    """

    def __init__(
        self,
        size: int = 224,
        stages: Sequence[Sequence[int]] = LITE0,
        stem: int = 32,
        width: int = 1280,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        shared = {"dtype": dtype, "rngs": rngs}
        self.width, self.dtype = width, dtype
        self.stem = Conv(3, stem, 3, 2, **shared)
        self.layers, inputs = nnx.List(), stem
        for repeats, kernel, stride, expand, outputs in stages:
            for i in range(repeats):
                self.layers.append(Inverted(inputs, outputs, kernel, 1 if i else stride, expand, **shared))
                inputs = outputs
        self.last = Conv(inputs, width, 1, **shared)

    def __call__(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled picture; taps "tokens" and "pooled". A key means training."""
        return tap("pooled", pool.mean(self.tokens(images, key)))

    def tokens(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B S D"]:
        """The last map, row by row."""
        train = key is not None
        x = self.stem(images.astype(self.dtype), train)
        for layer in self.layers:
            x = layer(x, train)
        x = self.last(x, train)
        return tap("tokens", x.reshape(x.shape[0], -1, x.shape[-1]))
