"""One encoder, with or without a linear head: classifiers, and encoders as they are published on their own."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, Shaped

from mmjax.core.tap import frame, tap
from mmjax.layers.norm import unit, wide
from mmjax.models.encoders import AUDIO_ENCODERS, IMAGE_ENCODERS, TEXT_ENCODERS
from mmjax.models.encoders import build as encoder

ENCODERS = {**IMAGE_ENCODERS, **TEXT_ENCODERS, **AUDIO_ENCODERS}


def modality(spec: Mapping[str, Any]) -> str:
    """ "image", "text" or "audio": what an encoder's spec reads."""
    tables = {"image": IMAGE_ENCODERS, "text": TEXT_ENCODERS, "audio": AUDIO_ENCODERS}
    return next(name for name, table in tables.items() if spec["name"] in table)


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
            y = self.encoder(x, key)
            y = tap("logits", y if self.head is None else self.head(y))
        return wide(y), out


def build_encoder(spec: Mapping[str, Any], dtype: str, remat: str, rngs: nnx.Rngs) -> nnx.Module:
    """The encoder of a spec, of whichever table has its name."""
    return encoder(ENCODERS, spec, where="model.encoder", dtype=dtype, remat=remat, rngs=rngs)
