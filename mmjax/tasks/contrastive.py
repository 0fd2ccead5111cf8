"""Contrastive pretraining of a dual encoder (CLIP, SigLIP)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mmjax.core import keys, registry
from mmjax.losses import CONTRASTIVE
from mmjax.tasks.normalise import Pixels, constants, normalise
from mmjax.tasks.task import Binder, Rows, Task, Terms


class Contrastive(Task):
    """Pulls the two embeddings of a pair together and all others of the global batch apart.

    Rows: image uint8 (B, height, width, 3) or patches (data.transforms.image.Patches), text int32 (B, T), group int (B,).

    Args:
      loss: a row of losses.CONTRASTIVE, e.g. {"name": "softmax"} or {"name": "sigmoid", "form": "ring", "tile": 512}.
      pixels: constants of `normalise`: "openai", "imagenet" or "siglip", or {"mean": [...], "std": [...]}.
    """

    weights = {"contrastive": 1.0}

    def __init__(self, loss: dict, pixels: Pixels = "siglip"):
        registry.check(CONTRASTIVE, loss, "task.loss", filled=5)
        one = jax.ShapeDtypeStruct((), jnp.float32)
        pair, group = jax.ShapeDtypeStruct((1, 1), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
        jax.eval_shape(partial(registry.build, CONTRASTIVE, loss), pair, pair, one, one, group)
        constants(pixels)  # an unknown name is an error now, not in the first step
        self._loss, self._pixels = loss, pixels

    def image(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised image embeddings."""
        return bind(params).image(normalise(rows["image"], self._pixels), key)[0]

    def text(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised text embeddings."""
        return bind(params).text(rows["text"], key)[0]

    def encode(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> dict[str, jax.Array]:
        image_key, text_key = (None, None) if key is None else keys.split(key, 2)
        return {
            "image": self.image(bind, params, rows, image_key),
            "text": self.text(bind, params, rows, text_key),
            "group": rows["group"],
        }

    def relate(self, bind: Binder, params: dict, z: Any) -> tuple[Terms, Any]:
        model = bind(params)
        terms = registry.build(CONTRASTIVE, self._loss, z["image"], z["text"], model.scale(), model.bias(), z["group"])
        return terms | {"logit_scale": (model.scale(), jnp.float32(1))}, {}

    def read(self, bind: Binder, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        count = jnp.float32(z["image"].shape[0])
        cosine = jnp.einsum("bd,bd->b", z["image"], z["text"])
        return {"cosine/positive": (cosine.sum(), count)}
