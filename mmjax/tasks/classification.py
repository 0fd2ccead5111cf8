"""Classification of pictures, texts or sounds, or of two of them together."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mmjax.tasks import towers
from mmjax.tasks.normalise import Pixels, constants
from mmjax.tasks.task import Binder, Rows, Task, Terms


class Classification(Task):
    """Softmax cross-entropy of a classifier's logits; a row whose label is -1 counts nothing.

    Rows: label int (B,), and what the model reads of image uint8 (B, height, width, 3), audio (B, mels, F), text int32 (B, T).

    Args:
      pixels: constants of `normalise`, for pictures.
    """

    weights = {"classification": 1.0}

    def __init__(self, pixels: Pixels = "imagenet"):
        constants(pixels)  # an unknown name is an error now, not in the first step
        self._pixels = pixels

    def image(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised vectors of pictures."""
        return bind(params).embed(towers.source(rows, "image", self._pixels), key)[0]

    def text(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised vectors of texts."""
        return bind(params).embed(rows["text"], key)[0]

    def audio(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised vectors of sounds."""
        return bind(params).embed(rows["audio"], key)[0]

    def logits(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B classes"]:
        """Class logits of what the rows have."""
        model = bind(params)
        return model.decide(towers.vectors(model, rows, key, self._pixels))

    def features(self, bind: Binder, params: dict, rows: Rows) -> dict[str, Float[Array, "B _"]]:
        """The encoders' vectors by modality, before the head."""
        return towers.vectors(bind(params), rows, None, self._pixels)

    def encoded(self, bind: Binder, params: dict, rows: Rows, frozen: Collection[str]) -> Rows:
        return towers.encoded(bind(params), params, rows, frozen, self._pixels)

    def encode(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> dict[str, jax.Array]:
        return {"logits": self.logits(bind, params, rows, key), "label": rows["label"]}

    def read(self, bind: Binder, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        labelled = z["label"] >= 0
        log = jax.nn.log_softmax(z["logits"])
        right = jnp.take_along_axis(log, jnp.maximum(z["label"], 0)[:, None], axis=1)[:, 0]
        count = labelled.sum().astype(jnp.float32)
        correct = (labelled & (z["logits"].argmax(1) == z["label"])).sum().astype(jnp.float32)
        loss = -jnp.where(labelled, right, 0).sum()
        return {"classification": (loss, count), "accuracy": (correct, count)}
