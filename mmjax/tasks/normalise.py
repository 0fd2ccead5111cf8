"""Pixels to the range a model was trained on, on the device (a uint8 batch travels at a quarter of the bytes)."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mmjax.core.errors import UserError
from mmjax.models.naflex import PLACE

# Mean and standard deviation of pixels in [0, 1]. openai: CLIP's preprocess; imagenet: torchvision's; siglip: big_vision's
# value_range(-1, 1).
PIXELS = {
    "openai": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


Pixels = str | Mapping[str, Sequence[float]]


def normalise(
    image: UInt8[Array, "B height width 3"] | UInt8[Array, "B S C"], pixels: Pixels
) -> Float[Array, "B height width 3"] | Float[Array, "B S C"]:
    """(image / 255 - mean) / std in float32, with the constants `pixels`: see `constants`.

    Of patches (models.naflex) the PLACE columns behind their pixels stay what they are.
    """
    if image.ndim == 3:
        inside, place = image[..., :-PLACE], image[..., -PLACE:].astype(jnp.float32)
        inside = normalise(inside.reshape(*inside.shape[:2], -1, 3), pixels).reshape(inside.shape)
        return jnp.concatenate([inside, place], axis=-1)
    mean, std = (np.asarray(x, np.float32) for x in constants(pixels))
    return (image.astype(jnp.float32) / 255 - mean) / std


def visual(rows: Mapping[str, Array], pixels: Pixels, suffix: str = "") -> dict[str, Array]:
    """What a fusion model is shown of a batch: its picture, normalised, or its regions and their boxes as they are.

    The suffix "_b" takes the second picture of rows that have two: "image_b", or "regions_b" and "boxes_b".
    """
    if f"regions{suffix}" in rows:
        return {name: rows[f"{name}{suffix}"] for name in ("regions", "boxes")}
    return {"image": normalise(rows[f"image{suffix}"], pixels)}


def constants(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std), by name or as {"mean": [r, g, b], "std": [r, g, b]}.

    Raises:
      UserError: the name is unknown, or there are not three numbers each.
    """
    if not isinstance(pixels, str):
        if set(pixels) != {"mean", "std"} or any(len(values) != 3 for values in pixels.values()):
            raise UserError(f"task.pixels {dict(pixels)} is not {{'mean': [r, g, b], 'std': [r, g, b]}}")
        return tuple(pixels["mean"]), tuple(pixels["std"])
    if pixels not in PIXELS:
        raise UserError(f"task.pixels {pixels!r} is not one of: {', '.join(PIXELS)}")
    return PIXELS[pixels]
