"""From pixels and token ids to vectors."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mmjax.core.errors import UserError


class PatchEmbedding(nnx.Module):
    """Non-overlapping patches of `patch` x `patch` pixels, each mapped linearly to D: a strided convolution."""

    def __init__(self, patch: int, width: int, *, bias: bool = True, dtype: str = "float32", rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            3, width, (patch, patch), (patch, patch), padding="VALID", use_bias=bias, dtype=jnp.dtype(dtype), rngs=rngs
        )
        self.patch = patch

    def __call__(self, images: Float[Array, "B height width 3"], train: bool = False) -> Float[Array, "B rows columns D"]:
        """Raises UserError unless height and width are multiples of the patch; `train` makes no difference."""
        grid(images.shape[1], self.patch)
        grid(images.shape[2], self.patch)
        return self.conv(images)


def grid(size: int, patch: int) -> int:
    """Patches along a side of `size` pixels. Raises UserError unless `patch` divides it."""
    if size % patch or not size:
        below, above = size // patch * patch, (size // patch + 1) * patch
        mend = f"use size {below} or {above}" if below else f"use size {above}"
        raise UserError(f"size {size} is not divisible by patch {patch}: {mend}, or another patch")
    return size // patch


class TokenEmbedding(nnx.Module):
    """A table of V vectors, normal with standard deviation `std` at the start."""

    def __init__(self, vocab: int, width: int, *, std: float, dtype: str = "float32", rngs: nnx.Rngs):
        self.embedding = nnx.Param(nnx.initializers.normal(std)(rngs.params(), (vocab, width), jnp.float32))
        self.dtype = dtype

    def __call__(self, ids: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """The rows of `ids`; an id outside the vocabulary gives NaN, so that it is noticed."""
        return jnp.take(self.embedding[...], ids, axis=0).astype(self.dtype)
