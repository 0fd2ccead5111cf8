"""One encoder or two, and a linear head: classifiers, and encoders as they are published on their own."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, Shaped

from mmjax.core.tap import frame, tap
from mmjax.layers.norm import LayerNorm, unit, wide
from mmjax.models.encoders import AUDIO_ENCODERS, IMAGE_ENCODERS, MODALITIES, TEXT_ENCODERS, towers
from mmjax.models.encoders import build as encoder

ENCODERS = {**IMAGE_ENCODERS, **TEXT_ENCODERS, **AUDIO_ENCODERS}


def modality(spec: Mapping[str, Any]) -> str:
    """ "image", "text" or "audio": what an encoder's spec reads."""
    return next(name for name, table in MODALITIES.items() if spec["name"] in table)


class Classifier(nnx.Module):
    """An encoder of any modality and a linear map from its vector to class logits.

    Args:
      encoder: a spec of encoders.IMAGE_ENCODERS, TEXT_ENCODERS or AUDIO_ENCODERS.
      classes: number of logits; None for no head.
      dtype: that the encoder computes in.
      remat: "none", "dots" or "full", for Transformer blocks.
    """

    PARTS = {"encoder": ENCODERS}

    def __init__(
        self,
        encoder: Mapping[str, Any],
        classes: int | None = None,
        *,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        self.encoder = build_encoder(encoder, dtype, remat, rngs)
        self.head = None if classes is None else nnx.Linear(self.encoder.width, classes, dtype=jnp.dtype(dtype), rngs=rngs)

    def embed(
        self, x: Shaped[Array, "B ..."], key: Key[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B D"], dict[str, Any]]:
        """Vectors of length 1 in float32 at least, and the tapped intermediates. A key means training."""
        with frame() as out:
            z = unit(self.encoder(x, key))
        return z, out

    def logits(
        self, x: Shaped[Array, "B ..."], key: Key[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B classes"], dict[str, Any]]:
        """Class logits (the encoder's vector where there is no head), taps "logits"."""
        with frame() as out:
            y = self.decide({"": self.encode("", x, key)})
        return y, out

    def encode(self, name: str, x: Shaped[Array, "B ..."], key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """The encoder's vector, before the head; it reads one modality, so `name` makes no difference."""
        return self.encoder(x, key)

    def decide(self, vectors: Mapping[str, Float[Array, "B D"]]) -> Float[Array, "B classes"]:
        """Class logits of the encoder's vector, taps "logits"."""
        (y,) = vectors.values()
        return wide(tap("logits", y if self.head is None else self.head(y)))


class DualClassifier(nnx.Module):
    """Two encoders, and a linear map from their vectors, side by side, to class logits (late fusion).

    Each vector is normalised (LayerNorm) before: encoders that were trained apart differ in scale, and the louder one would be
    heard alone.

    Args:
      classes: number of logits.
      image, audio, text: specs of encoders.MODALITIES; two of them, the third None.
      dtype, remat: as Classifier's.
    """

    PARTS = MODALITIES

    def __init__(
        self,
        classes: int,
        image: Mapping[str, Any] | None = None,
        audio: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        *,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        built = towers({"image": image, "audio": audio, "text": text}, dtype=dtype, remat=remat, rngs=rngs)
        for name, part in built.items():
            setattr(self, f"{name}_encoder", part)
            setattr(self, f"{name}_norm", LayerNorm(part.width, dtype=dtype))
        self.head = nnx.Linear(sum(part.width for part in built.values()), classes, dtype=jnp.dtype(dtype), rngs=rngs)

    def encode(self, name: str, x: Shaped[Array, "B ..."], key: Key[Array, " B"] | None = None) -> Float[Array, "B _"]:
        """The vector that the encoder of a modality gives."""
        return getattr(self, f"{name}_encoder")(x, key)

    def decide(self, vectors: Mapping[str, Float[Array, "B _"]]) -> Float[Array, "B classes"]:
        """Class logits of both encoders' vectors by modality, in the order of MODALITIES; taps "logits"."""
        y = jnp.concatenate([getattr(self, f"{name}_norm")(x) for name, x in vectors.items()], -1)
        return wide(tap("logits", self.head(y)))


def build_encoder(spec: Mapping[str, Any], dtype: str, remat: str, rngs: nnx.Rngs) -> nnx.Module:
    """The encoder of a spec, of whichever table has its name."""
    return encoder(ENCODERS, spec, where="model.encoder", dtype=dtype, remat=remat, rngs=rngs)
