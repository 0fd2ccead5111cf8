"""Transforms that keep a picture's size and change how it looks."""

import math
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mmjax.core.errors import UserError

Record = dict[str, Any]


class Flip:
    """Mirrors left and right with probability `p`."""

    def __init__(self, p: float = 0.5):
        self._p = p

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        return {**record, "image": np.asarray(record["image"])[:, ::-1]} if rng.random() < self._p else record


class ColourJitter:
    """Scales brightness, then contrast about the mean grey, then saturation about each pixel's grey.

    Each factor is drawn from [1 - x, 1 + x]. Grey is ITU-R 601 luma.
    """

    LUMA = np.array([0.299, 0.587, 0.114], np.float32)

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0):
        self._ranges = [(max(0.0, 1 - x), 1 + x) for x in (brightness, contrast, saturation)]

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        brightness, contrast, saturation = (np.float32(rng.uniform(*r)) for r in self._ranges)
        x = np.clip(np.asarray(record["image"]) * brightness, 0, 255)
        mean = (x @ self.LUMA).mean()
        x = np.clip(mean + contrast * (x - mean), 0, 255)
        grey = (x @ self.LUMA)[..., None]
        x = np.clip(grey + saturation * (x - grey), 0, 255)
        return {**record, "image": np.round(x).astype(np.uint8)}


class RandAugment:
    """Some operations in a row, each drawn evenly from fourteen, at one magnitude (Cubuk et al. 2020, section 3).

    The operations, their ranges and nearest-neighbour geometry are torchvision's, value for value; half of the time one
    that has a direction goes the other way.

    Args:
      operations: N of the paper: how many in a row.
      magnitude: M of the paper, 0 to 30.
      fill: grey level of what geometry uncovers.
    """

    # By name: what magnitude 30 means: shear, share of the side (of 331 pixels, AutoAugment's), degrees, strength.
    SIGNED = {
        "shear_x": 0.3,
        "shear_y": 0.3,
        "translate_x": 150 / 331,
        "translate_y": 150 / 331,
        "rotate": 30.0,
        "brightness": 0.9,
        "colour": 0.9,
        "contrast": 0.9,
        "sharpness": 0.9,
    }
    OPERATIONS = ("identity", *SIGNED, "posterise", "solarise", "auto_contrast", "equalise")
    ENHANCE = {
        "brightness": ImageEnhance.Brightness,
        "colour": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "sharpness": ImageEnhance.Sharpness,
    }
    HIGHEST = 30

    def __init__(self, operations: int = 2, magnitude: int = 9, fill: int = 0):
        if not 0 <= magnitude <= self.HIGHEST:
            raise UserError(f"rand_augment: magnitude {magnitude} is not in [0, {self.HIGHEST}]")
        self._operations, self._strength, self._fill = operations, magnitude / self.HIGHEST, (fill,) * 3

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        picture = Image.fromarray(np.asarray(record["image"]))
        for _ in range(self._operations):
            name = self.OPERATIONS[int(rng.integers(len(self.OPERATIONS)))]
            picture = self.apply(picture, name, -1 if rng.random() < 0.5 else 1)
        return {**record, "image": np.asarray(picture)}

    def apply(self, picture: Image.Image, name: str, sign: int = 1) -> Image.Image:
        """One operation of OPERATIONS; `sign` is the direction of one in SIGNED."""
        value = sign * self._strength * self.SIGNED.get(name, 0.0)
        if name in self.ENHANCE:
            return self.ENHANCE[name](picture).enhance(1.0 + value)
        if name == "rotate":
            return picture.rotate(value, Image.Resampling.NEAREST, fillcolor=self._fill)
        if name in self.SIGNED:
            return self._affine(picture, name, value)
        if name == "posterise":
            return ImageOps.posterize(picture, 8 - round(4 * self._strength))
        if name == "solarise":
            return ImageOps.solarize(picture, math.ceil(255 * (1 - self._strength)))
        plain = {"identity": Image.Image.copy, "auto_contrast": ImageOps.autocontrast, "equalise": ImageOps.equalize}
        return plain[name](picture)

    def _affine(self, picture: Image.Image, name: str, value: float) -> Image.Image:
        """Pillow takes the map from the result's pixels to the picture's."""
        x = {"shear_x": value, "translate_x": -int(value * picture.width)}.get(name, 0)
        y = {"shear_y": value, "translate_y": -int(value * picture.height)}.get(name, 0)
        rows = (1, x, 0, y, 1, 0) if name.startswith("shear") else (1, 0, x, 0, 1, y)
        return picture.transform(picture.size, Image.Transform.AFFINE, rows, Image.Resampling.NEAREST, fillcolor=self._fill)
