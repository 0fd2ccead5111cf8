"""Transforms of pictures: uint8 (H, W, 3) from `decode` on."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mmjax.core.errors import UserError

Record = dict[str, Any]
Picture = UInt8[np.ndarray, "_ _ 3"]  # height, width


class Decode:
    """Encoded bytes under "image" (any format of Pillow) -> RGB on a white ground; arrays pass as they are.

    Args:
      max_pixels: a larger picture is an error, raised before its pixels are read.
    """

    def __init__(self, max_pixels: int = 50_000_000):
        self._max_pixels = max_pixels

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        if isinstance(record["image"], np.ndarray):
            return record
        with Image.open(io.BytesIO(record["image"])) as picture:
            if picture.width * picture.height > self._max_pixels:
                raise ValueError(f"{picture.width} x {picture.height} pixels, over the limit of {self._max_pixels}")
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                layer = picture.convert("RGBA")
                picture = Image.new("RGBA", layer.size, "white")
                picture.alpha_composite(layer)
            return {**record, "image": np.asarray(picture.convert("RGB"))}


class Resize:
    """To size x size pixels, bicubic and antialiased (Pillow).

    Args:
      size: pixels a side.
      mode: "squash" changes the aspect; "crop" brings the shorter side to `size` and keeps the centre.
    """

    def __init__(self, size: int, mode: str = "squash"):
        if mode not in ("squash", "crop"):
            raise UserError(f"resize: mode {mode!r} is neither 'squash' nor 'crop'")
        self._size, self._mode = size, mode

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        height, width = record["image"].shape[:2]
        box = (0.0, 0.0, float(width), float(height))
        if self._mode == "crop":
            side = min(height, width)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
        return {**record, "image": _resample(record["image"], box, self._size)}


class RandomResizedCrop:
    """A random part of the picture, resized to size x size (Inception's crop: Szegedy et al. 2015, section 6).

    Args:
      size: pixels a side of the result.
      scale: range of the part's share of the area.
      ratio: range of its width / height, drawn log-uniformly.
    """

    def __init__(self, size: int, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)):
        self._size, self._scale, self._ratio = size, tuple(scale), tuple(ratio)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        height, width = record["image"].shape[:2]
        area = height * width * rng.uniform(*self._scale)
        ratio = math.exp(rng.uniform(math.log(self._ratio[0]), math.log(self._ratio[1])))
        # A part that would stick out is cut to the picture's side, so that one draw always suffices.
        w, h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        return {**record, "image": _resample(record["image"], (left, top, left + w, top + h), self._size)}


class RandomShift:
    """Moves the picture by whole pixels on a white ground, and optionally scales it about its centre.

    Args:
      pixels: up to so many of the picture's own pixels, in each direction.
      scale: range of the magnification; None leaves the size of what is drawn.
      size: pixels a side of the result, where it is to be resized in the same pass.
    """

    def __init__(self, pixels: int, scale: Sequence[float] | None = None, size: int | None = None):
        self._pixels, self._scale, self._size = pixels, tuple(scale or (1.0, 1.0)), size

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        picture = record["image"]
        height, width = picture.shape[:2]
        u = rng.random(3).tolist()  # one draw: the generator costs more than its numbers
        right, down = (int(x * (2 * self._pixels + 1)) - self._pixels for x in u[:2])
        scale = self._scale[0] + u[2] * (self._scale[1] - self._scale[0])
        w, h = width / scale, height / scale
        left, top = (width - w) / 2 - right, (height - h) / 2 - down
        margin = max(0, math.ceil(max(-left, -top, left + w - width, top + h - height)))
        canvas = np.full((height + 2 * margin, width + 2 * margin, 3), 255, np.uint8)
        canvas[margin : margin + height, margin : margin + width] = picture
        left, top = left + margin, top + margin
        shape = (height, width) if self._size is None else (self._size, self._size)
        return {**record, "image": _resample(canvas, (left, top, left + w, top + h), *shape)}


class ColourJitter:
    """Scales brightness, then contrast about the mean grey, then saturation about each pixel's grey.

    Each factor is drawn from [1 - x, 1 + x]. Grey is ITU-R 601 luma.
    """

    LUMA = np.array([0.299, 0.587, 0.114], np.float32)

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0):
        self._ranges = [(max(0.0, 1 - x), 1 + x) for x in (brightness, contrast, saturation)]

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        brightness, contrast, saturation = (np.float32(rng.uniform(*r)) for r in self._ranges)
        x = np.clip(record["image"] * brightness, 0, 255)
        mean = (x @ self.LUMA).mean()
        x = np.clip(mean + contrast * (x - mean), 0, 255)
        grey = (x @ self.LUMA)[..., None]
        x = np.clip(grey + saturation * (x - grey), 0, 255)
        return {**record, "image": np.round(x).astype(np.uint8)}


class Flip:
    """Mirrors left and right with probability `p`."""

    def __init__(self, p: float = 0.5):
        self._p = p

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        return {**record, "image": record["image"][:, ::-1]} if rng.random() < self._p else record


def _resample(picture: Picture, box: tuple[float, ...], height: int, width: int | None = None) -> Picture:
    """The part `box` (left, top, right, bottom; pixels) of the picture at height x width, a square by default."""
    width = width or height
    left, top, right, bottom = box
    if (right - left, bottom - top) == (width, height) and left == int(left) and top == int(top):
        return picture[int(top) : int(top) + height, int(left) : int(left) + width]
    # A box may stick out of the picture by an ulp, which Pillow refuses.
    box = (max(0, left), max(0, top), min(picture.shape[1], right), min(picture.shape[0], bottom))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, box=box))
