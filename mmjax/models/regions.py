"""Region features of an object detector with their boxes, and LXMERT's encoder of them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from mmjax.core.errors import UserError
from mmjax.core.tap import tap
from mmjax.layers.block import Stack
from mmjax.layers.drop import dropout, keys
from mmjax.layers.norm import LayerNorm

Visual = Mapping[str, jax.Array]


def present(boxes: Float[Array, "B S 4"]) -> Bool[Array, "B S"]:
    """Which boxes (x1, y1, x2, y2) have an area; the others are padding."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def regions(visual: Visual, features: int) -> tuple[Float[Array, "B S F"], Float[Array, "B S 4"]]:
    """The features and the boxes of `visual`.

    Raises:
      UserError: they are missing, not `features` wide, or not one box of four numbers a region.
    """
    if missing := [name for name in ("regions", "boxes") if name not in visual]:
        raise UserError(f"the model reads region features, and the batch has no {missing[0]!r}; it has: {', '.join(visual)}")
    x, boxes = visual["regions"], visual["boxes"]
    if x.shape[-1] != features:
        raise UserError(f"region features are {x.shape[-1]} wide and the model reads {features}: mend its config or the data")
    if boxes.shape != (*x.shape[:2], 4):
        raise UserError(
            f"{list(x.shape[:2])} regions have boxes of {list(boxes.shape)}: give each four numbers, x1, y1, x2, y2"
        )
    return x, boxes


def picture(visual: Visual) -> Float[Array, "B height width 3"]:
    """The picture of `visual`. Raises UserError where it is missing."""
    if "image" not in visual:
        raise UserError(f"the model reads pictures, and the batch has no 'image'; it has: {', '.join(visual)}")
    return visual["image"]


class RegionEncoder(nnx.Module):
    """LXMERT's object-relationship encoder (Tan and Bansal 2019, section 2.1): (ln(W f) + ln(U box)) / 2, then blocks.

    Args:
      features: F, the width of region features.
      width, depth, heads, mlp: of the blocks, which are post-norm; depth 0 needs neither heads nor mlp.
      act, dropout, attention: see layers.block.Block.
      norm_eps: of every LayerNorm.
      remat: "none", "dots" or "full".

    Attributes:
      width: of the output.

    Raises:
      UserError: blocks without heads or mlp.
    """

    def __init__(
        self,
        features: int,
        width: int,
        depth: int = 0,
        heads: int = 0,
        mlp: int = 0,
        *,
        act: str = "gelu",
        norm_eps: float = 1e-12,
        dropout: float = 0.0,
        attention: str = "plain",
        remat: str = "none",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if depth and not (heads and mlp):
            raise UserError(f"regions of depth {depth} need heads and mlp, which are {heads} and {mlp}: set both, or depth 0")
        self.width, self.features, self.dropout, self.dtype = width, features, dropout, dtype
        self.fc = nnx.Linear(features, width, dtype=jnp.dtype(dtype), rngs=rngs)
        self.ln = LayerNorm(width, eps=norm_eps, dtype=dtype)
        self.box = nnx.Linear(4, width, dtype=jnp.dtype(dtype), rngs=rngs)
        self.ln_box = LayerNorm(width, eps=norm_eps, dtype=dtype)
        options = {"act": act, "norm_eps": norm_eps, "dropout": dropout, "attention": attention, "post_norm": True}
        self.stack = Stack(depth, width, heads, mlp, remat=remat, dtype=dtype, rngs=rngs, **options)

    def tokens(self, visual: Visual, key: Key[Array, " B"] | None = None) -> Float[Array, "B S D"]:
        """Every region after the last block, from {"regions": (B, S, F), "boxes": (B, S, 4)}; see `regions` and `present`."""
        x, boxes = regions(visual, self.features)
        first, key = keys(key, 2, self.dropout)
        x = (self.ln(self.fc(x.astype(self.dtype))) + self.ln_box(self.box(boxes.astype(self.dtype)))) / 2
        return tap("tokens", self.stack(dropout(x, self.dropout, first), present(boxes)[:, None, None, :], key))
