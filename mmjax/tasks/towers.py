"""What a batch's modalities become in a model's encoders, live or encoded before.

A model that tasks run has `encode(name, x, key)`, the vector of one modality's encoder. Rows hold an input under its modality's
name; where a frozen encoder has read it already (train/cache.py) they hold its vector under NAME_encoded instead.
"""

from collections.abc import Collection, Iterable
from typing import Any

import jax
from jaxtyping import Array, Float, Key

from mmjax.core import keys, tree
from mmjax.models.encoders import MODALITIES
from mmjax.tasks.normalise import Pixels, normalise
from mmjax.tasks.task import Rows

ENCODED = "_encoded"


def present(fields: Iterable[str]) -> list[str]:
    """The modalities among the fields of a batch, as inputs or encoded, in the order of MODALITIES."""
    fields = set(fields)
    return [name for name in MODALITIES if fields & {name, name + ENCODED}]


def source(rows: Rows, name: str, pixels: Pixels) -> jax.Array:
    """What the encoder of a modality reads: pictures normalised by `pixels`, all else as it is."""
    return normalise(rows[name], pixels) if name == "image" else rows[name]


def vectors(model: Any, rows: Rows, key: Key[Array, " B"] | None, pixels: Pixels) -> dict[str, Float[Array, "B _"]]:
    """The encoders' vectors by modality. A key means training."""
    names = present(rows)
    split = [key] * len(names) if key is None or len(names) == 1 else keys.split(key, len(names))
    return {
        name: rows[name + ENCODED] if name + ENCODED in rows else model.encode(name, source(rows, name, pixels), own)
        for name, own in zip(names, split, strict=True)
    }


def encoded(model: Any, params: dict, rows: Rows, frozen: Collection[str], pixels: Pixels) -> dict[str, jax.Array]:
    """Rows in which every input whose encoder is frozen as a whole is replaced by the encoder's vector, in inference mode.

    Args:
      frozen: paths of parameters. An encoder's lie under NAME_encoder/, or encoder/ where there is one.
    """
    paths, result = list(tree.flatten(params)), dict(rows)
    for name in present(rows):
        own = [path for path in paths if path.startswith((f"{name}_encoder/", "encoder/"))]
        if own and set(own) <= set(frozen):
            result[name + ENCODED] = model.encode(name, source(rows, name, pixels), None)
            del result[name]
    return result
