"""The cross-modal encoder of the textbooks: two encoders whose outputs look at each other, and one vector of both."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from mmjax.core import keys as random
from mmjax.core.errors import UserError, suggest
from mmjax.core.tap import frame, tap, under
from mmjax.layers import pool
from mmjax.layers.cross import CrossStack
from mmjax.models.bert import Bert
from mmjax.models.encoders import IMAGE_ENCODERS, TEXT_ENCODERS
from mmjax.models.encoders import build as encoder
from mmjax.models.heads import NORMAL, Headed
from mmjax.models.regions import RegionEncoder, Visual, picture, present
from mmjax.models.tiles import Tiles

# Pictures whole or in tiles, or region features.
VISUAL_ENCODERS = {**IMAGE_ENCODERS, "tiles": Tiles, "regions": RegionEncoder}
CROSS = {"co_attention": CrossStack}
JOINTS = ("both", "text")


class CrossEncoder(Headed):
    """Each modality through its own encoder, then cross-attention both ways, then a joint vector H_m for the heads.

    The generic cross-modal encoder of textbooks. A direction is softmax(Q K^T / sqrt(d)) V with Q of one modality and K, V
    of the other, then residual and LayerNorm; see layers.cross.CrossBlock. They leave open how both streams become H_m;
    here, with p the mean over positions that are not padding, H_m = tanh(W [p(H_text); p(H_image)] + b).

    Args:
      image: a spec of VISUAL_ENCODERS: {"name": "regions", ...} reads region features, all others pictures.
      text: a spec of encoders.TEXT_ENCODERS.
      cross: a spec of CROSS; its width is D, and an encoder of another width is mapped to it linearly.
      joint: "both", as above; "text": tanh(W H_text[0] + b), BERT's pooler.
      heads: see models.heads.Headed.
      dtype: that all is computed in.
      remat: "none", "dots" or "full", for Transformer blocks.

    Raises:
      UserError: specs that name unknown parts or do not fit together.
    """

    PARTS = {"image": VISUAL_ENCODERS, "text": TEXT_ENCODERS, "cross": CROSS}

    def __init__(
        self,
        image: Mapping[str, Any],
        text: Mapping[str, Any],
        cross: Mapping[str, Any],
        *,
        joint: str = "both",
        heads: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        if joint not in JOINTS:
            raise UserError(f"model.joint: unknown {joint!r}; choose one of: {', '.join(JOINTS)}.{suggest(joint, JOINTS)}")
        shared = {"dtype": dtype, "remat": remat, "rngs": rngs}
        self.image_encoder = encoder(VISUAL_ENCODERS, image, where="model.image", **shared)
        self.text_encoder = encoder(TEXT_ENCODERS, text, where="model.text", **shared)
        self.cross = encoder(CROSS, cross, where="model.cross", **shared)
        width = cross["width"]

        def mapped(part: nnx.Module) -> nnx.Linear | None:
            return None if part.width == width else nnx.Linear(part.width, width, dtype=jnp.dtype(dtype), rngs=rngs)

        self.image_map, self.text_map = mapped(self.image_encoder), mapped(self.text_encoder)
        streams = 2 if joint == "both" else 1
        self.pooler = nnx.Linear(streams * width, width, kernel_init=NORMAL, dtype=jnp.dtype(dtype), rngs=rngs)
        self.joint = joint
        options = {name: cross[name] for name in ("act", "norm_eps") if name in cross}
        self.add_heads(heads, width, dtype=dtype, rngs=rngs, **options)

    def fuse(
        self,
        visual: Visual,
        text: Int[Array, "B T"],
        key: Key[Array, " B"] | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> tuple[dict[str, Float[Array, "B ..."]], dict[str, Any]]:
        """Both modalities as they see each other, and the tapped intermediates. A key means training.

        Args:
          visual: {"image": (B, height, width, 3)}, or {"regions": (B, S, F), "boxes": (B, S, 4)} with x1, y1, x2, y2 as
            shares of the picture; a box without area is padding.
          text: token ids; padding is looked at by nothing.
          segments: numbers of the texts of a pair.

        Returns:
          {"joint": (B, D), "text": (B, T, D), "visual": (B, S, D)}. Taps "text", "visual" (what the encoders tap),
          "cross" (CrossStack's) and "joint".

        Raises:
          UserError: what `visual` lacks or has too wide, too long a text, or segments for an encoder without.
        """
        text_key, image_key, key = [None] * 3 if key is None else random.split(key, 3)
        with frame() as out:
            with under("text"):
                x, text_valid = self._read(text, text_key, segments)
            with under("visual"):
                y, visual_valid = self._look(visual, image_key)
            with under("cross"):
                x, y = self.cross(x, y, text_valid, visual_valid, key)
            if self.joint == "text":
                pooled = x[:, 0]
            else:
                pooled = jnp.concatenate([pool.mean(x, text_valid), pool.mean(y, visual_valid)], axis=-1)
            joint = tap("joint", jnp.tanh(self.pooler(pooled)))
        return {"joint": joint, "text": x, "visual": y}, out

    def table(self) -> Float[jax.Array, "V E"]:
        return self.text_encoder.embed.embedding[...]

    def _read(self, ids, key, segments) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"] | None]:
        if segments is None:
            x = self.text_encoder.tokens(ids, key)
        elif isinstance(self.text_encoder, Bert):
            x = self.text_encoder.tokens(ids, key, segments)
        else:
            raise UserError("segments were given, and the text encoder has none: use the text encoder 'bert', or give none")
        return x if self.text_map is None else self.text_map(x), self.text_encoder.valid(ids)

    def _look(self, visual, key) -> tuple[Float[Array, "B S D"], Bool[Array, "B S"] | None]:
        if isinstance(self.image_encoder, RegionEncoder):
            y, valid = self.image_encoder.tokens(visual, key), present(visual["boxes"])
        else:
            y, valid = self.image_encoder.tokens(picture(visual), key), None
        return y if self.image_map is None else self.image_map(y), valid
