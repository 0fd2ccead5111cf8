"""Transforms of pictures: decoding and geometry. From `decode` on a picture is uint8 (H, W, 3), or a JPEG that becomes so."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mmjax.core import registry
from mmjax.core.errors import UserError
from mmjax.data.decode import Jpeg, opened
from mmjax.data.limits import LIMITS
from mmjax.data.resample import FILTERS, resample

Record = dict[str, Any]
Picture = UInt8[np.ndarray, "_ _ 3"]  # height, width


class Decode:
    """Encoded bytes under "image" -> RGB on a white ground, upright; arrays pass as they are.

    data/decode.py says which formats. A JPEG leaves as a `decode.Jpeg`, which every transform takes for the array that it
    becomes: so the crop that follows can have a large photograph decoded at a fraction of its size.

    Args:
      max_pixels, max_bytes: a larger picture or field is an error, raised before any pixel is read.
      draw_seconds: of CPU, that one svg may take.
    """

    def __init__(
        self,
        max_pixels: int = LIMITS.pixels,
        max_bytes: int = LIMITS.bytes,
        draw_seconds: float = LIMITS.draw_seconds,
    ):
        self._limits = max_pixels, max_bytes, draw_seconds

    def __call__(self, record: Record, rng: np.random.Generator | None = None) -> Record:
        if isinstance(record["image"], np.ndarray | Jpeg):
            return record
        return {**record, "image": opened(record["image"], *self._limits)}


class Resize:
    """To size x size pixels, antialiased, as Pillow does it within 0.01 of 255 in the mean.

    Args:
      size: pixels a side.
      mode: how a picture that is no square becomes one.
        "squash" changes the aspect (SigLIP);
        "crop" resizes the middle square;
        "shortest" brings the shorter side to `size` and keeps the centre, in torchvision's whole pixels (CLIP, OpenCLIP);
        "longest" brings the longer side to `size` and adds `fill` around (OpenCLIP's "longest").
      fill: grey level of what "longest" adds.
      crop: pixels a side that "shortest" keeps, `size` by default (DINOv2 keeps 224 of 256).
      centre: where an odd pixel goes that "shortest" cuts off: "round" (torchvision) or "floor" (Hugging Face).
      filter: "bicubic" or "bilinear" (Hugging Face's ViT).
    """

    MODES = ("squash", "crop", "shortest", "longest")

    def __init__(
        self,
        size: int,
        mode: str = "squash",
        fill: int = 0,
        crop: int | None = None,
        centre: str = "round",
        filter: str = "bicubic",
    ):
        if mode not in self.MODES:
            raise UserError(f"resize: mode {mode!r} is none of {', '.join(map(repr, self.MODES))}")
        if crop is not None and (mode != "shortest" or not 0 < crop <= size):
            raise UserError(f"resize: crop {crop} is for mode 'shortest', and at most size {size}")
        if centre not in ("round", "floor") or filter not in FILTERS:
            raise UserError(f"resize: centre {centre!r} is round or floor; filter {filter!r} is {' or '.join(FILTERS)}")
        self._size, self._mode, self._fill, self._filter = size, mode, fill, filter
        self._crop, self._whole = crop or size, round if centre == "round" else math.floor

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        picture = np.asarray(record["image"])
        height, width = picture.shape[:2]
        if self._mode == "longest":
            return {**record, "image": self._framed(picture)}
        box = (0.0, 0.0, float(width), float(height))
        if self._mode == "crop":
            side = min(height, width)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
        elif self._mode == "shortest":
            left, right = self._middle(width, height)
            top, bottom = self._middle(height, width)
            box = (left, top, right, bottom)
        return {**record, "image": resample(picture, box, self._crop, self._crop, filter=self._filter)}

    def _middle(self, side: int, other: int) -> tuple[float, float]:
        """Where, along one side, the centre crop of the resized picture begins and ends in the picture itself."""
        resized = self._size if side <= other else int(self._size * side / other)
        first = self._whole((resized - self._crop) / 2)  # round: half to even, as torchvision's center_crop
        return first * side / resized, (first + self._crop) * side / resized

    def _framed(self, picture: Picture) -> Picture:
        height, width = picture.shape[:2]
        h, w = (max(1, round(side * self._size / max(height, width))) for side in (height, width))
        top, left = (self._size - h) // 2, (self._size - w) // 2
        canvas = np.full((self._size, self._size, 3), self._fill, np.uint8)
        canvas[top : top + h, left : left + w] = resample(
            picture, (0.0, 0.0, float(width), float(height)), h, w, filter=self._filter
        )
        return canvas


class Patches:
    """A picture of any aspect as patches, at most `count`: SigLIP 2's NaFlex (Tschannen et al. 2025).

    It is resized to the largest sides in whole patches whose patches are not more than `count`, the aspect kept as far as
    that allows, as big_vision and Hugging Face find them. The result is uint8 (count, patch x patch x 3 + 3), row by row: a
    patch's pixels (rows, columns, channels), then 1, its row and its column; zeros where there is no patch.

    Args:
      patch: pixels of a patch's side.
      count: patches at most.
      filter: "bilinear" or "bicubic".
    """

    MOST = 256  # rows or columns, which a byte has to hold

    def __init__(self, patch: int = 16, count: int = 256, filter: str = "bilinear"):
        if patch < 1 or count < 1 or filter not in FILTERS:
            raise UserError(
                f"patches: patch {patch} and count {count} are at least 1; filter {filter!r} is {' or '.join(FILTERS)}"
            )
        self._patch, self._count, self._filter = patch, count, filter

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        picture = np.asarray(record["image"])
        height, width = picture.shape[:2]
        rows, columns = fitting(height, width, self._patch, self._count)
        if max(rows, columns) > self.MOST:
            raise ValueError(f"a picture of {width} x {height} pixels makes more than {self.MOST} patches in a line")
        box = (0.0, 0.0, float(width), float(height))
        picture = resample(picture, box, rows * self._patch, columns * self._patch, filter=self._filter)
        cut = picture.reshape(rows, self._patch, columns, self._patch, 3).swapaxes(1, 2).reshape(rows * columns, -1)
        places = np.stack([np.ones(rows * columns, int), *(axis.ravel() for axis in np.mgrid[:rows, :columns])], axis=1)
        result = np.zeros((self._count, self._patch**2 * 3 + 3), np.uint8)
        result[: rows * columns] = np.concatenate([cut, places.astype(np.uint8)], axis=1)
        return {**record, "image": result}


def fitting(height: int, width: int, patch: int, count: int) -> tuple[int, int]:
    """Rows and columns of patches that the largest scale (by bisection, to 1e-5, at most 100) leaves within `count`."""

    def at(scale: float) -> tuple[int, int]:
        return tuple(max(1, math.ceil(side * scale / patch)) for side in (height, width))

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(at(middle)) <= count else (low, middle)
    return at(low)


class RandomResizedCrop:
    """A random part of the picture, resized to size x size (Inception's crop: Szegedy et al. 2015, section 6).

    Bicubic and antialiased, within 0.5 of 255 of Pillow's in the mean. A JPEG of many more pixels than are needed is
    decoded at 1/2, 1/4 or 1/8 of its size.

    Args:
      size: pixels a side of the result.
      scale: range of the part's share of the area.
      ratio: range of its width / height, drawn log-uniformly.
    """

    # Decoded pixels a side that stay for one of the result. From a JPEG at a fraction the mean absolute error is then
    # 0.3 on photographs, 0.5 on grass and gravel; with 2 it would be 0.6 and 1.1.
    KEEP = 3

    def __init__(self, size: int, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)):
        self._size, self._scale, self._ratio = size, tuple(scale), tuple(ratio)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        picture = record["image"]
        height, width = picture.shape[:2]
        area = height * width * rng.uniform(*self._scale)
        ratio = math.exp(rng.uniform(math.log(self._ratio[0]), math.log(self._ratio[1])))
        # A part that would stick out is cut to the picture's side, so that one draw always suffices.
        w, h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        box = (left, top, left + w, top + h)
        shrink = 1
        if isinstance(picture, Jpeg):
            shrink = next((k for k in (8, 4, 2) if min(w, h) >= k * self.KEEP * self._size), 1)
            picture = picture.pixels(shrink)
        part = tuple(x / shrink for x in box)
        return {**record, "image": resample(picture, part, self._size, self._size, exact=False)}


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
        picture = np.asarray(record["image"])
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
        return {**record, "image": resample(canvas, (left, top, left + w, top + h), *shape)}


class SecondImage:
    """Makes "image_b", the second picture of a record that has two, by transforms of its own draws.

    Args:
      table: TRANSFORMS' rows for pictures; the program fills it in.
      transforms: list of {"name": ..., **keywords}: most often those of "image".
    """

    def __init__(self, table: registry.Table, transforms: Sequence[Mapping[str, Any]]):
        for i, spec in enumerate(transforms):
            registry.check(table, spec, f"second_image.transforms[{i}]")
        self._transforms = [registry.build(table, spec) for spec in transforms]

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        second = {"image": record["image_b"]}
        for transform in self._transforms:
            second = transform(second, rng)
        return {**record, "image_b": second["image"]}
