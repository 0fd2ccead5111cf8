"""Contrastive pretraining of a dual encoder (CLIP, SigLIP)."""

from collections.abc import Collection
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mmjax.core import registry
from mmjax.losses import CONTRASTIVE
from mmjax.models.encoders import MODALITIES
from mmjax.tasks import towers
from mmjax.tasks.normalise import Pixels, constants
from mmjax.tasks.task import Binder, Rows, Task, Terms


class Contrastive(Task):
    """Pulls the two embeddings of a pair together and all others of the global batch apart.

    Rows: two of image uint8 (B, height, width, 3) or patches (data.transforms.image.Patches), audio float (B, mels, F) and text
    int32 (B, T); group int (B,).

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
        return bind(params).image(towers.source(rows, "image", self._pixels), key)[0]

    def audio(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised embeddings of sounds."""
        return bind(params).audio(rows["audio"], key)[0]

    def text(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised text embeddings."""
        return bind(params).text(rows["text"], key)[0]

    def features(self, bind: Binder, params: dict, rows: Rows) -> dict[str, Float[Array, "B _"]]:
        """The encoders' vectors by modality, before their projections."""
        return towers.vectors(bind(params), rows, None, self._pixels)

    def encoded(self, bind: Binder, params: dict, rows: Rows, frozen: Collection[str]) -> Rows:
        return towers.encoded(bind(params), params, rows, frozen, self._pixels)

    def encode(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> dict[str, jax.Array]:
        model = bind(params)
        found = towers.vectors(model, rows, key, self._pixels)
        return {name: model.project(name, x) for name, x in found.items()} | {"group": rows["group"]}

    def relate(self, bind: Binder, params: dict, z: Any) -> tuple[Terms, Any]:
        model = bind(params)
        terms = registry.build(CONTRASTIVE, self._loss, *_pair(z), model.scale(), model.bias(), z["group"])
        return terms | {"logit_scale": (model.scale(), jnp.float32(1))}, {}

    def read(self, bind: Binder, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        a, b = _pair(z)
        return {"cosine/positive": (jnp.einsum("bd,bd->b", a, b).sum(), jnp.float32(a.shape[0]))}


def _pair(z: Any) -> list[Float[Array, "B D"]]:
    return [z[name] for name in MODALITIES if name in z]
