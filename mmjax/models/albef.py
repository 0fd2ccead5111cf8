"""ALBEF (Li et al. 2021, arXiv 2107.07651): align before fuse."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from mmjax.core.errors import UserError
from mmjax.core.keys import split
from mmjax.core.tap import frame, tap, under
from mmjax.layers.block import Stack
from mmjax.layers.norm import unit
from mmjax.models.bert import Bert
from mmjax.models.encoders import build as encoder
from mmjax.models.heads import Headed
from mmjax.models.regions import Visual, picture
from mmjax.models.vit import ViT

# The paper's code keeps the temperature within these.
COLDEST, WARMEST = 0.001, 0.5
# What the fusion blocks share with the text encoder's.
SHARED = ("act", "dropout", "attention")


class ALBEF(Headed):
    """A picture's and a text's encoder, aligned by contrast of their first tokens, and text layers that look at the picture.

    The text's half is BERT in two: its first layers are `text`, its last the `fusion` layers, which have a cross-attention
    to the picture's tokens between self-attention and MLP. So BERT's and ViT's published weights fill it (configs/albef.py).

    Args:
      image: a spec of ViT, {"name": "vit", ...}, with a class token.
      text: a spec of Bert, {"name": "bert", ...}; its depth is that of the layers before fusion.
      dim: D of the shared space of contrast.
      fusion: number of fusion layers; their width, heads and the like are the text encoder's.
      temperature: its initial value; the temperature is the parameter, and stays between COLDEST and WARMEST.
      heads: see models.heads.Headed.
      dtype: that all is computed in.
      remat: "none", "dots" or "full", for Transformer blocks.

    Raises:
      UserError: specs that name unknown parts or do not fit together.
    """

    PARTS = {"image": {"vit": ViT}, "text": {"bert": Bert}}

    def __init__(
        self,
        image: Mapping[str, Any],
        text: Mapping[str, Any],
        dim: int,
        *,
        fusion: int = 6,
        temperature: float = 0.07,
        heads: Mapping[str, Any] | None = None,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        shared = {"dtype": dtype, "remat": remat, "rngs": rngs}
        self.image_encoder = encoder(self.PARTS["image"], image, where="model.image", **shared)
        self.text_encoder = encoder(self.PARTS["text"], text, where="model.text", **shared)
        width = self.text_encoder.width
        if self.image_encoder.width != width:
            raise UserError(f"model.image.width {self.image_encoder.width} is not model.text.width {width}: let them be equal")
        if not image.get("class_token", True):
            raise UserError("model.image.class_token False: albef reads a picture at its class token")
        if fusion < 1:
            raise UserError(f"model.fusion {fusion}: at least one layer has to look at the picture")
        if not COLDEST <= temperature <= WARMEST:
            raise UserError(f"model.temperature {temperature} is not between {COLDEST} and {WARMEST}")
        options = {name: text[name] for name in SHARED if name in text} | {"norm_eps": text.get("norm_eps", 1e-12)}
        self.fusion = Stack(fusion, width, text["heads"], text["mlp"], post_norm=True, cross=True, **options, **shared)
        project = partial(nnx.Linear, width, dim, dtype=jnp.dtype(dtype), rngs=rngs)
        self.image_projection, self.text_projection = project(), project()
        self.temperature = nnx.Param(jnp.full((), temperature, jnp.float32))
        self.add_heads(heads, width, act=options.get("act", "gelu"), norm_eps=options["norm_eps"], dtype=dtype, rngs=rngs)

    def image_tokens(
        self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B S D"], dict[str, Any]]:
        """A picture's tokens by itself, the class token first, and the tapped intermediates. A key means training."""
        with frame() as out:
            return self.image_encoder.tokens(images, key), out

    def text_tokens(
        self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None, segments: Int[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B T D"], dict[str, Any]]:
        """A text's tokens by itself and the tapped intermediates; `segments` numbers the texts of a pair."""
        with frame() as out:
            return self.text_encoder.tokens(ids, key, segments), out

    def image_embedding(self, tokens: Float[Array, "B S D"]) -> Float[Array, "B E"]:
        """The class token in the shared space, of length 1, in float32 at least."""
        return unit(self.image_projection(tokens[:, 0]))

    def text_embedding(self, tokens: Float[Array, "B T D"]) -> Float[Array, "B E"]:
        """The first token in the shared space, of length 1, in float32 at least."""
        return unit(self.text_projection(tokens[:, 0]))

    def image(
        self, images: Float[Array, "B height width 3"], key: Key[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B E"], dict[str, Any]]:
        """Pictures to vectors of length 1, as a dual encoder's."""
        tokens, out = self.image_tokens(images, key)
        return self.image_embedding(tokens), out

    def text(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> tuple[Float[Array, "B E"], dict[str, Any]]:
        """Texts to vectors of length 1, as a dual encoder's."""
        tokens, out = self.text_tokens(ids, key)
        return self.text_embedding(tokens), out

    def scale(self) -> Float[Array, ""]:
        """What cosines are multiplied by: 1 / temperature."""
        return 1 / _within(self.temperature[...])

    def bias(self) -> Float[Array, ""]:
        """What is added to the scaled cosines: nothing."""
        return jnp.zeros((), jnp.float32)

    def fuse_tokens(
        self,
        image: Float[Array, "B S D"],
        text: Float[Array, "B T D"],
        valid: Bool[Array, "B T"],
        key: Key[Array, " B"] | None = None,
    ) -> tuple[dict[str, Float[Array, "B ..."]], dict[str, Any]]:
        """As `fuse`, of tokens that are there already: a candidate of many pairs is encoded once.

        Args:
          image, text: from `image_tokens` and `text_tokens`.
          valid: which positions of the text are not padding (`valid`).
        """
        with frame() as out:
            x = self.fusion(text, valid[:, None, None, :], key, image)
            joint = tap("joint", x[:, 0])
        return {"joint": joint, "text": x, "visual": image}, out

    def fuse(
        self,
        visual: Visual,
        text: Int[Array, "B T"],
        key: Key[Array, " B"] | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> tuple[dict[str, Float[Array, "B ..."]], dict[str, Any]]:
        """The text as it sees the picture, and the tapped intermediates. A key means training.

        Args:
          visual: {"image": (B, height, width, 3)}, normalised.
          text: token ids; padding is looked at by nothing.
          segments: numbers of the texts of a pair.

        Returns:
          {"joint": (B, D), the text's first token, "text": (B, T, D), "visual": (B, S, D), which has not seen the text}. Taps
          "image", "text" (what the encoders tap), "fusion" and "joint".

        Raises:
          UserError: `visual` has no picture, or the text is too long.
        """
        image_key, text_key, key = [None] * 3 if key is None else split(key, 3)
        with frame() as out:
            with under("image"):
                image = self.image_encoder.tokens(picture(visual), image_key)
            with under("text"):
                words = self.text_encoder.tokens(text, text_key, segments)
            with under("fusion"):
                x = self.fusion(words, self.valid(text)[:, None, None, :], key, image)
            joint = tap("joint", x[:, 0])
        return {"joint": joint, "text": x, "visual": image}, out

    def valid(self, ids: Int[Array, "B T"]) -> Bool[Array, "B T"]:
        """Which positions are not padding."""
        return self.text_encoder.valid(ids)

    def table(self) -> Float[jax.Array, "V E"]:
        return self.text_encoder.embed.embedding[...]


@jax.custom_vjp
def _within(x: Float[Array, ""]) -> Float[Array, ""]:
    """`x` clipped to the temperature's bounds; at a bound only a gradient that leads back inside passes.

    (A clip alone has no gradient beyond: a temperature that came there would stay for ever.)
    """
    return jnp.clip(x, COLDEST, WARMEST)


_within.defvjp(
    lambda x: (_within(x), x),
    lambda x, by: (jnp.where(((x < COLDEST) & (by > 0)) | ((x > WARMEST) & (by < 0)), 0, by),),
)
