"""ResNet (He et al. 2016) in its v1.5 form, stride in the 3x3 convolution, as torchvision and transformers have it.

ResNet-50 is the default. A small tower for 32-pixel pictures: stages (1, 1, 1, 1), widths (32, 64, 128, 256), block
"basic", norm "group", groups 8, stem "small", stem_width 32.
"""

from collections.abc import Sequence

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from mmjax.core.errors import UserError, suggest
from mmjax.core.pin import pin
from mmjax.core.tap import tap
from mmjax.layers import pool
from mmjax.layers.conv import ConvNorm

BLOCKS = {"basic": (3, 3), "bottleneck": (1, 3, 1)}  # kernel sizes; the first 3 takes the stride
STEMS = {"imagenet": (7, 2), "small": (3, 1)}  # kernel size and stride
NORMS = ("batch", "group")


class Residual(nnx.Module):
    """relu(shortcut(x) + the convolutions of x), each with its norm and, but for the last, a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, *, block: str, stride: int, groups: int, dtype: str = "float32", rngs: nnx.Rngs
    ):
        shared = {"groups": groups, "dtype": dtype, "rngs": rngs}
        kernels = BLOCKS[block]
        inner = outputs // 4 if block == "bottleneck" else outputs
        widths = [inputs, *[inner] * (len(kernels) - 1), outputs]
        strided = kernels.index(3)
        self.convs = nnx.List(
            ConvNorm(widths[i], widths[i + 1], kernel, stride=stride if i == strided else 1, **shared)
            for i, kernel in enumerate(kernels)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else ConvNorm(inputs, outputs, 1, stride=stride, **shared)

    def __call__(self, x: Float[Array, "B h w inputs"], train: bool) -> Float[Array, "B _ _ outputs"]:
        """`train`: see layers.norm.BatchNorm."""
        x = pin(x)
        y = x
        for i, conv in enumerate(self.convs):
            y = conv(y if i == 0 else jax.nn.relu(y), train)
        return jax.nn.relu(y + (x if self.shortcut is None else self.shortcut(x, train)))


class ResNet(nnx.Module):
    """Stem, stages of residual blocks, global average pooling.

    Args:
      stages: blocks of each stage; every stage but the first halves the picture.
      widths: output channels of each stage.
      block: "bottleneck" (1x1, 3x3, 1x1 at a quarter of the width) or "basic" (3x3, 3x3).
      norm: "batch" or "group".
      groups: of GroupNorm.
      stem: "imagenet" (7x7 with stride 2, then a 3x3 maximum with stride 2) or "small" (3x3).
      stem_width: channels of the stem.

    Attributes:
      width: of the output.

    Raises:
      UserError: an unknown name, as many widths as stages not given, or groups that do not divide a width.
    """

    def __init__(
        self,
        stages: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (256, 512, 1024, 2048),
        *,
        block: str = "bottleneck",
        norm: str = "batch",
        groups: int = 32,
        stem: str = "imagenet",
        stem_width: int = 64,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        for option, value, choices in (("block", block, BLOCKS), ("norm", norm, NORMS), ("stem", stem, STEMS)):
            if value not in choices:
                hint = suggest(value, choices)
                raise UserError(f"{option}: unknown name {value!r}; choose one of: {', '.join(choices)}.{hint}")
        if len(stages) != len(widths):
            raise UserError(f"stages {tuple(stages)} and widths {tuple(widths)} differ in length: give one width a stage")
        shared = {"groups": groups if norm == "group" else 0, "dtype": dtype, "rngs": rngs}
        kernel, stride = STEMS[stem]
        self.stem = ConvNorm(3, stem_width, kernel, stride=stride, **shared)
        self.max_pool, self.dtype = stem == "imagenet", dtype
        self.stages, inputs = nnx.List(), stem_width
        for i, (depth, self.width) in enumerate(zip(stages, widths, strict=True)):
            blocks = nnx.List()
            for j in range(depth):
                stride = 2 if i and not j else 1
                blocks.append(Residual(inputs, self.width, block=block, stride=stride, **shared))
                inputs = self.width
            self.stages.append(blocks)

    def __call__(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled picture; taps "stage1", ..., "tokens" and "pooled". A key means training."""
        return tap("pooled", pool.mean(self.tokens(images, key)))

    def tokens(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B S D"]:
        """The last stage's map, row by row."""
        train = key is not None
        x = jax.nn.relu(self.stem(images.astype(self.dtype), train))
        if self.max_pool:
            x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for i, blocks in enumerate(self.stages):
            for block in blocks:
                x = block(x, train)
            x = tap(f"stage{i + 1}", x)
        return tap("tokens", x.reshape(x.shape[0], -1, x.shape[-1]))
