"""Classification with one encoder, of pictures, texts or sounds."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mmjax.tasks.normalise import Pixels, constants, normalise
from mmjax.tasks.task import Binder, Rows, Task, Terms


class Classification(Task):
    """Softmax cross-entropy of a classifier's logits; a row whose label is -1 counts nothing.

    Rows: label int (B,), and image uint8 (B, height, width, 3), text int32 (B, T) or audio (B, mels, F).

    Args:
      pixels: constants of `normalise`, for pictures.
    """

    weights = {"classification": 1.0}

    def __init__(self, pixels: Pixels = "imagenet"):
        constants(pixels)  # an unknown name is an error now, not in the first step
        self._pixels = pixels

    def image(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised vectors of pictures."""
        return bind(params).embed(normalise(rows["image"], self._pixels), key)[0]

    def text(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised vectors of texts."""
        return bind(params).embed(rows["text"], key)[0]

    def audio(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised vectors of sounds."""
        return bind(params).embed(rows["audio"], key)[0]

    def logits(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B classes"]:
        """Class logits of whichever modality the rows have."""
        if "image" in rows:
            return bind(params).logits(normalise(rows["image"], self._pixels), key)[0]
        return bind(params).logits(rows["text"] if "text" in rows else rows["audio"], key)[0]

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
