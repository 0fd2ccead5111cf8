"""The dual encoder: a picture and a text, or a sound and a text, each to one vector of a shared space (CLIP, SigLIP, LiT)."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key, Shaped

from mmjax.core.errors import UserError, suggest
from mmjax.core.tap import frame
from mmjax.layers.norm import LayerNorm, unit
from mmjax.models.encoders import MODALITIES, towers

PROJECTIONS = ("linear", "bias", "norm", "none")


class DualEncoder(nnx.Module):
    """Two encoders, a projection each, a learned logit scale and, for SigLIP, a logit bias.

    Args:
      dim: D of the shared space.
      image, audio, text: specs of encoders.MODALITIES; two of them, the third None.
      image_projection, audio_projection, text_projection: "linear", "bias" (linear with a bias), "norm" (LayerNorm, then
        linear with a bias: what encoders that were trained apart give is brought to one scale) or "none" (the encoder's width
        is `dim`).
      logit_scale: the scale's initial value (CLIP 1 / 0.07, SigLIP 10); its logarithm is the parameter.
      max_logit_scale: the scale never exceeds it; None for no limit.
      logit_bias: the bias's initial value (SigLIP -10), or None for no bias.
      dtype: that the encoders compute in.
      remat: "none", "dots" or "full", for Transformer blocks.

    Raises:
      UserError: specs that name unknown parts or do not fit together.
    """

    PARTS = MODALITIES

    def __init__(
        self,
        dim: int,
        image: Mapping[str, Any] | None = None,
        audio: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        *,
        image_projection: str = "linear",
        audio_projection: str = "linear",
        text_projection: str = "linear",
        logit_scale: float = 1 / 0.07,
        max_logit_scale: float | None = 100.0,
        logit_bias: float | None = None,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        kinds = {"image": image_projection, "audio": audio_projection, "text": text_projection}
        built = towers({"image": image, "audio": audio, "text": text}, dtype=dtype, remat=remat, rngs=rngs)
        for name, encoder in built.items():
            setattr(self, f"{name}_encoder", encoder)
        for name, encoder in built.items():
            setattr(self, f"{name}_projection", _projection(name, kinds[name], encoder.width, dim, dtype, rngs))
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
            z = self.project("image", self.encode("image", images, key))
        return z, out

    def audio(
        self, mel: Float[Array, "B mels F"], key: Key[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B D"], dict[str, Any]]:
        """Sounds to vectors of length 1 in float32, and the tapped intermediates. A key means training."""
        with frame() as out:
            z = self.project("audio", self.encode("audio", mel, key))
        return z, out

    def text(self, ids: Int[Array, "B T"], key: Key[Array, " B"] | None = None) -> tuple[Float[Array, "B D"], dict[str, Any]]:
        """Texts to vectors of length 1 in float32, and the tapped intermediates. A key means training."""
        with frame() as out:
            z = self.project("text", self.encode("text", ids, key))
        return z, out

    def encode(self, name: str, x: Shaped[Array, "B ..."], key: Key[Array, " B"] | None = None) -> Float[Array, "B _"]:
        """The vector that the encoder of a modality gives, before its projection."""
        return getattr(self, f"{name}_encoder")(x, key)

    def project(self, name: str, x: Float[Array, "B _"]) -> Float[Array, "B D"]:
        """What the encoder of a modality gave, as a vector of length 1 in float32."""
        projection = getattr(self, f"{name}_projection")
        return unit(x if projection is None else projection(x))

    def before(self, name: str, x: Float[Array, "B _"]) -> Float[Array, "B _"]:
        """What a projection's linear map reads: what the encoder gave, normalised where the projection does so."""
        norm = getattr(getattr(self, f"{name}_projection"), "norm", None)
        return x if norm is None else norm(x)

    def scale(self) -> Float[Array, ""]:
        """What cosines are multiplied by."""
        log = self.logit_scale[...]
        return jnp.exp(log if self.max_logit_scale is None else jnp.minimum(log, math.log(self.max_logit_scale)))

    def bias(self) -> Float[Array, ""]:
        """What is added to the scaled cosines; 0 where there is no bias."""
        return jnp.zeros((), jnp.float32) if self.logit_bias is None else self.logit_bias[...]


class NormLinear(nnx.Module):
    """LayerNorm, then a linear map with a bias."""

    def __init__(self, width: int, dim: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.norm = LayerNorm(width, dtype=dtype)
        self.linear = nnx.Linear(width, dim, dtype=jnp.dtype(dtype), rngs=rngs)

    def __call__(self, x: Float[Array, "B _"]) -> Float[Array, "B D"]:
        """(B, width) to (B, dim)."""
        return self.linear(self.norm(x))


def _projection(modality: str, kind: str, width: int, dim: int, dtype: str, rngs: nnx.Rngs) -> nnx.Module | None:
    where = f"model.{modality}_projection"
    if kind not in PROJECTIONS:
        hint = suggest(kind, PROJECTIONS)
        raise UserError(f"{where}: unknown name {kind!r}; choose one of: {', '.join(PROJECTIONS)}.{hint}")
    if kind == "none":
        if width != dim:
            raise UserError(f"{where}: 'none' needs dim {dim} to be the encoder's width {width}: use 'linear' or dim {width}")
        return None
    if kind == "norm":
        return NormLinear(width, dim, dtype=dtype, rngs=rngs)
    return nnx.Linear(width, dim, use_bias=kind == "bias", dtype=jnp.dtype(dtype), rngs=rngs)
