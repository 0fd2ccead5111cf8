"""A picture read tile by tile: regions, each described by the words that a dual encoder has for it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from mmjax.core import keys as random
from mmjax.core import registry
from mmjax.core.errors import UserError
from mmjax.core.tap import tap
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.regions import RegionEncoder


class Tiles(nnx.Module):
    """A region's feature is how likely each word is of its tile, which with its place then goes through a RegionEncoder.

    What a detector's labels are to bottom-up attention (Anderson et al. 2018, arXiv 1707.07998), without boxes to be found:
    softmax over the vocabulary of scale * cosine(tile, word), as a dual encoder classifies with no training for it (CLIP,
    Radford et al. 2021), each word a text of one token. The dual encoder may begin with the weights of another run, frozen or
    not.

    Args:
      eye: a DualEncoder's keywords: of one tile, and of words; V is its text encoder's "vocab".
      side: tiles a side; the picture is side * side of them, row by row.
      regions: RegionEncoder's keywords but "features".

    Attributes:
      width: of the output.

    Raises:
      UserError: specs that do not fit together.
    """

    PARTS = {"eye": DualEncoder, "regions": RegionEncoder}

    def __init__(
        self,
        eye: Mapping[str, Any],
        side: int,
        regions: Mapping[str, Any],
        *,
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        def built(name: str, spec: Mapping[str, Any]) -> nnx.Module:
            spec = {**spec, "name": name}
            registry.complete(self.PARTS, spec, name, "rngs")
            return registry.build(self.PARTS, spec, where=name, remat=remat, dtype=dtype, rngs=rngs)

        self.eye = built("eye", eye)
        self.words = eye["text"]["vocab"]
        self.regions = built("regions", {**regions, "features": self.words})
        self.side, self.width = side, self.regions.width

    def tokens(self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None) -> Float[Array, "B S D"]:
        """Every tile after the last block, row by row; taps "words" (B, S, V), of each tile how likely each word is,
        and "eye", what the dual encoder taps of (B * S) tiles.

        Raises:
          UserError: height or width is not a multiple of side.
        """
        batch, height, width, channels = images.shape
        side, count = self.side, self.side**2
        if height % side or width % side:
            raise UserError(f"pictures of {height} x {width} do not divide into {side} x {side} tiles: resize them")
        first, second = (None, None) if key is None else random.split(key, 2)
        each = None if first is None else random.split(first, count).T.reshape(-1)
        tiles = images.reshape(batch, side, height // side, side, width // side, channels).swapaxes(2, 3)
        z, seen = self.eye.image(tiles.reshape(batch * count, height // side, width // side, channels), each)
        tap("eye", seen)
        names, _ = self.eye.text(jnp.arange(self.words)[:, None])
        likely = jax.nn.softmax(self.eye.scale() * z @ names.T)
        likely = tap("words", likely.reshape(batch, count, -1))
        row, column = jnp.divmod(jnp.arange(count), side)
        boxes = jnp.stack([column, row, column + 1, row + 1], axis=1) / side  # x1, y1, x2, y2, as shares of the picture
        return self.regions.tokens({"regions": likely, "boxes": jnp.broadcast_to(boxes, (batch, count, 4))}, second)
