"""Contrastive pretraining of a dual encoder (CLIP, SigLIP)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.core import registry
from mmjax.losses import CONTRASTIVE
from mmjax.losses.contrastive import positive_ranks
from mmjax.tasks.normalise import Pixels, constants, normalise
from mmjax.tasks.task import Rows, Task, Terms


class Contrastive(Task):
    """Pulls the two embeddings of a pair together and all others of the global batch apart.

    Rows: image uint8 (B, height, width, 3), text int32 (B, T), group int (B,).

    Args:
      loss: a row of losses.CONTRASTIVE, e.g. {"name": "softmax"}.
      pixels: constants of `normalise`: "openai", "imagenet" or "siglip", or {"mean": [...], "std": [...]}.
    """

    weights = {"contrastive": 1.0}

    def __init__(self, loss: dict, pixels: Pixels = "siglip"):
        registry.check(CONTRASTIVE, loss, "task.loss", filled=5)
        constants(pixels)  # an unknown name is an error now, not in the first step
        self._loss, self._pixels = loss, pixels

    def image(self, bind: Callable, params: dict, rows: Rows, key: jax.Array | None = None) -> Float[Array, "B D"]:
        """L2-normalised image embeddings."""
        return bind(params).image(normalise(rows["image"], self._pixels), key)[0]

    def text(self, bind: Callable, params: dict, rows: Rows, key: jax.Array | None = None) -> Float[Array, "B D"]:
        """L2-normalised text embeddings."""
        return bind(params).text(rows["text"], key)[0]

    def encode(self, bind: Callable, params: dict, rows: Rows, key: jax.Array | None) -> dict[str, jax.Array]:
        image_key, text_key = (None, None) if key is None else jax.random.split(key)
        return {
            "image": self.image(bind, params, rows, image_key),
            "text": self.text(bind, params, rows, text_key),
            "group": rows["group"],
        }

    def relate(self, bind: Callable, params: dict, z: Any, extra: dict) -> tuple[Terms, Any]:
        model = bind(params)
        terms = registry.build(CONTRASTIVE, self._loss, z["image"], z["text"], model.scale(), model.bias(), z["group"])
        i2t, t2i = positive_ranks(z["image"], z["text"], z["group"])
        return terms, {"i2t": i2t, "t2i": t2i}

    def read(self, bind: Callable, params: dict, z: Any, aux: Any, key: jax.Array | None) -> Terms:
        count = jnp.float32(z["image"].shape[0])
        cosine = jnp.einsum("bd,bd->b", z["image"], z["text"])
        accuracy = {f"accuracy/{way}": ((ranks == 0).sum().astype(jnp.float32), count) for way, ranks in aux.items()}
        one = jnp.float32(1)
        return {**accuracy, "cosine/positive": (cosine.sum(), count), "logit_scale": (bind(params).scale(), one)}
