"""The dual encoder: a picture and a text, each to one vector of a shared space (CLIP, SigLIP, LiT, VSE++)."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from mmjax.core.errors import UserError, suggest
from mmjax.core.tap import frame
from mmjax.layers.norm import unit
from mmjax.models.encoders import IMAGE_ENCODERS, TEXT_ENCODERS
from mmjax.models.encoders import build as encoder

PROJECTIONS = ("linear", "bias", "none")


class DualEncoder(nnx.Module):
    """Two encoders, a projection each, a learned logit scale and, for SigLIP, a logit bias.

    Args:
      image, text: specs of encoders.IMAGE_ENCODERS and TEXT_ENCODERS.
      dim: D of the shared space.
      image_projection, text_projection: "linear", "bias" (linear with a bias) or "none" (the encoder's width is `dim`).
      logit_scale: the scale's initial value (CLIP 1 / 0.07, SigLIP 10); its logarithm is the parameter.
      max_logit_scale: the scale never exceeds it; None for no limit.
      logit_bias: the bias's initial value (SigLIP -10), or None for no bias.
      dtype: that the encoders compute in.
      remat: "none", "dots" or "full", for Transformer blocks.

    Raises:
      UserError: specs that name unknown parts or do not fit together.
    """

    PARTS = {"image": IMAGE_ENCODERS, "text": TEXT_ENCODERS}

    def __init__(
        self,
        image: Mapping[str, Any],
        text: Mapping[str, Any],
        dim: int,
        *,
        image_projection: str = "linear",
        text_projection: str = "linear",
        logit_scale: float = 1 / 0.07,
        max_logit_scale: float | None = 100.0,
        logit_bias: float | None = None,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        shared = {"dtype": dtype, "remat": remat, "rngs": rngs}
        self.image_encoder = encoder(IMAGE_ENCODERS, image, where="model.image", **shared)
        self.text_encoder = encoder(TEXT_ENCODERS, text, where="model.text", **shared)
        self.image_projection = _projection("image", image_projection, self.image_encoder.width, dim, dtype, rngs)
        self.text_projection = _projection("text", text_projection, self.text_encoder.width, dim, dtype, rngs)
        self.logit_scale = nnx.Param(jnp.full((), math.log(logit_scale), jnp.float32))
        self.logit_bias = None if logit_bias is None else nnx.Param(jnp.full((), logit_bias, jnp.float32))
        self.max_logit_scale = max_logit_scale

    def image(
        self, images: Float[Array, "B height width 3"] | Float[Array, "B S C"], key: Key[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B D"], dict[str, Any]]:
        """Pictures (of a "naflex" encoder patches) to vectors of length 1 in float32, and the tapped intermediates.

        A key means training.
        """
        with frame() as out:
            z = _embed(self.image_encoder(images, key), self.image_projection)
        return z, out

    def text(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> tuple[Float[Array, "B D"], dict[str, Any]]:
        """Texts to vectors of length 1 in float32, and the tapped intermediates. A key means training."""
        with frame() as out:
            z = _embed(self.text_encoder(ids, key), self.text_projection)
        return z, out

    def scale(self) -> Float[Array, ""]:
        """What cosines are multiplied by."""
        log = self.logit_scale[...]
        return jnp.exp(log if self.max_logit_scale is None else jnp.minimum(log, math.log(self.max_logit_scale)))

    def bias(self) -> Float[Array, ""]:
        """What is added to the scaled cosines; 0 where there is no bias."""
        return jnp.zeros((), jnp.float32) if self.logit_bias is None else self.logit_bias[...]


def _projection(modality: str, kind: str, width: int, dim: int, dtype: str, rngs: nnx.Rngs) -> nnx.Linear | None:
    where = f"model.{modality}_projection"
    if kind not in PROJECTIONS:
        hint = suggest(kind, PROJECTIONS)
        raise UserError(f"{where}: unknown name {kind!r}; choose one of: {', '.join(PROJECTIONS)}.{hint}")
    if kind == "none":
        if width != dim:
            raise UserError(f"{where}: 'none' needs dim {dim} to be the encoder's width {width}: use 'linear' or dim {width}")
        return None
    return nnx.Linear(width, dim, use_bias=kind == "bias", dtype=jnp.dtype(dtype), rngs=rngs)


def _embed(x: Float[Array, "B _"], projection: nnx.Linear | None) -> Float[Array, "B D"]:
    return unit(x if projection is None else projection(x))
