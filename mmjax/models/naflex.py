"""SigLIP 2's NaFlex tower (Tschannen et al. 2025): pictures of any aspect as a row of patches that know their places.

After FlexiViT (Beyer et al. 2023), whose positions follow the picture's grid, and NaViT (Dehghani et al. 2023), which keeps
the aspect ratio.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from mmjax.core.errors import UserError
from mmjax.core.tap import tap
from mmjax.layers import pool as pooling
from mmjax.layers.block import Stack
from mmjax.layers.norm import LayerNorm, wide

PLACE = 3  # columns behind a patch's pixels: 1 where there is a patch and 0 where there is none, its row, its column


class NaFlexViT(nnx.Module):
    """Patches mapped linearly, positions interpolated to each picture's own grid, pre-norm blocks, attention pooling.

    Args:
      patch: pixels of a patch's side.
      grid: positions along a side of the learned table.
      width, depth, heads, mlp: of the blocks; `mlp` is the hidden width.
      act: a row of layers.block.ACTIVATIONS.
      norm_eps: of every LayerNorm.
      dropout: see layers.block.Block.
      attention: "plain" or "fused".
      init: "xavier" or "clip".
      remat: "none", "dots" or "full".

    Attributes:
      width: of the output.
    """

    def __init__(
        self,
        patch: int,
        grid: int,
        width: int,
        depth: int,
        heads: int,
        mlp: int,
        *,
        act: str = "gelu_tanh",
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
        attention: str = "plain",
        init: str = "xavier",
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.patch, self.grid, self.width, self.dtype, self.dropout = patch, grid, width, dtype, dropout
        self.patches = nnx.Linear(patch * patch * 3, width, dtype=jnp.dtype(dtype), rngs=rngs)
        self.positions = nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), (grid**2, width), jnp.float32))
        shared = {"act": act, "norm_eps": norm_eps, "attention": attention, "dtype": dtype, "rngs": rngs}
        self.stack = Stack(depth, width, heads, mlp, dropout=dropout, init=init, remat=remat, **shared)
        self.ln_post = LayerNorm(width, eps=norm_eps, dtype=dtype)
        self.map = pooling.MapPool(width, heads, mlp, **shared)

    def __call__(self, images: Float[Array, "B S C"], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The pooled picture; taps "tokens", "pooled" and what the blocks tap."""
        return tap("pooled", self.map(self.tokens(images, key), self.valid(images)))

    def tokens(self, images: Float[Array, "B S C"], key: Key[Array, " B"] | None = None) -> Float[Array, "B S D"]:
        """All positions after the final LayerNorm, those without a patch too.

        Args:
          images: C = patch x patch x 3 pixels (rows, columns, channels), normalised, and PLACE columns.

        Raises:
          UserError: patches of another size.
        """
        pixels = self.patch**2 * 3
        if images.shape[2] != pixels + PLACE:
            raise UserError(f"patches of {images.shape[2]} columns, and patch {self.patch} makes {pixels} + {PLACE}")
        x = self.patches(images[..., :pixels].astype(self.dtype)) + self._positions(images).astype(self.dtype)
        mask = self.valid(images)[:, None, None, :]
        return tap("tokens", self.ln_post(self.stack(x, mask, key)))

    def valid(self, images: Float[Array, "B S C"]) -> Bool[Array, "B S"]:
        """Where there is a patch."""
        return images[..., -PLACE] > 0

    def _positions(self, images: Float[Array, "B S C"]) -> Float[Array, "B S D"]:
        table = wide(self.positions[...])
        rows, columns = (_weights(images[..., axis].astype(table.dtype), self.grid) for axis in (-2, -1))
        weights = rows[..., :, None] * columns[..., None, :]
        return weights.reshape(*weights.shape[:2], -1) @ table


def _weights(place: Float[Array, "B S"], grid: int) -> Float[Array, "B S grid"]:
    """What each of `grid` learned places counts at `place` of max(place) + 1: linear, widened where the grid shrinks."""
    step = grid / (place.max(1)[:, None, None] + 1)
    centre = (place[..., None] + 0.5) * step
    weights = jnp.maximum(0, 1 - jnp.abs(jnp.arange(grid) + 0.5 - centre) / jnp.maximum(step, 1))
    return weights / weights.sum(-1, keepdims=True)
