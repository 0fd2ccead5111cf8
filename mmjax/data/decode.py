"""Encoded pictures to RGB pixels: JPEG by turbo, svg by resvg, the rest by Pillow. Nothing is believed but the header.

All come upright (EXIF), on a white ground, 16 bits brought to 8, the first frame of what moves; colour profiles are
not applied, as nobody does who trained published weights. A picture's size is checked before its pixels are read. What
is cut off is an error: grey in its place would be trained on.
"""

import functools
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from mmjax.data import svg
from mmjax.data.limits import LIMITS

Picture = UInt8[np.ndarray, "_ _ 3"]  # height, width

# What Pillow may try: of the others one runs a program (EPS), and most are nobody's pictures.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "TGA", "PCX")
SCANS = 100  # of a progressive JPEG; more make work without pixels (usual are 10)
SVG_SIDE = 512  # pixels of the longer side at which a drawing, which has no size, is drawn


def decode(encoded: bytes, max_pixels: int = LIMITS.pixels, max_bytes: int = LIMITS.bytes) -> Picture:
    """The pixels of an encoded picture, which may take as long as LIMITS say.

    Raises:
      ValueError, OSError: it is over a limit, broken, cut off, or in no format that is read.
    """
    return np.asarray(opened(encoded, max_pixels, max_bytes))


def opened(
    encoded: bytes,
    max_pixels: int = LIMITS.pixels,
    max_bytes: int = LIMITS.bytes,
    draw_seconds: float = LIMITS.draw_seconds,
) -> "Picture | Jpeg":
    """As `decode`, but of a JPEG only the header is read: a Jpeg decodes itself when its pixels are asked for."""
    if len(encoded) > max_bytes:
        raise ValueError(f"{len(encoded)} bytes of picture, over the limit of {max_bytes}")
    encoded = bytes(encoded)  # no copy of what is bytes already
    if encoded.startswith(b"\xff\xd8\xff") and _turbo() is not None:
        height, width, colours, _ = _turbo().decode_jpeg_header(encoded)
        _check(width, height, max_pixels)
        if not _one_scan(encoded) and encoded.count(b"\xff\xda") > SCANS:
            raise ValueError(f"a JPEG of more than {SCANS} scans")
        if colours not in ("CMYK", "YCCK"):  # whose inversion Pillow knows
            return Jpeg(encoded, height, width)
    if encoded[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and b"<svg" in encoded[:4096]:
        return _draw(encoded, max_pixels, draw_seconds)
    return _pillow(encoded, max_pixels)


class Jpeg:
    """A JPEG whose header was read: an array of pixels to whoever asks (`np.asarray`), decoded then and kept.

    Attributes:
      shape: (height, width, 3), upright.
    """

    def __init__(self, encoded: bytes, height: int, width: int):
        # The standard puts Exif first, or behind JFIF's 18 bytes.
        exif = b"Exif\0\0" in encoded[:1024]
        self._orientation = _orientation(lambda: Image.open(io.BytesIO(encoded), formats=("JPEG",))) if exif else 1
        self._encoded, self._size, self._pixels = encoded, (height, width), None
        self.shape = (height, width, 3) if self._orientation < 5 else (width, height, 3)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.pixels(), dtype, copy=copy)

    def pixels(self, shrink: int = 1) -> Picture:
        """The picture at 1 / shrink of its size (1, 2, 4 or 8; rounded up), which the decoder does as it goes.

        Raises:
          ValueError: the file is broken or cut off.
        """
        if shrink == 1 and self._pixels is not None:
            return self._pixels
        height, width = (-(-side // shrink) for side in self._size)
        try:
            pixels = _turbo().decode_jpeg(self._encoded, min_height=height, min_width=width)
        except ValueError as error:
            # Padding between segments, which many cameras write, loses nothing.
            if "extraneous bytes" not in str(error):
                raise
            pixels = _turbo().decode_jpeg(self._encoded, min_height=height, min_width=width, strict=False)
        pixels = _upright(pixels, self._orientation)
        if shrink == 1:
            self._pixels = pixels
        return pixels


def _check(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(f"{width} x {height} pixels, over the limit of {max_pixels}")


def _one_scan(jpeg: bytes) -> bool:
    """Whether its header promises all of the picture in one sequential scan, as nearly all files do: counting takes longer."""
    at, components = 2, None
    while jpeg[at : at + 1] == b"\xff" and len(jpeg) > at + 9:
        if jpeg[at + 1] in (0xC0, 0xC1):  # start of a sequential frame
            components = jpeg[at + 9]
        if jpeg[at + 1] == 0xDA:  # start of a scan
            return jpeg[at + 4] == components
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return False


def _pillow(encoded: bytes, max_pixels: int) -> Picture:
    try:
        picture = Image.open(io.BytesIO(encoded), formats=_formats())
    except Image.UnidentifiedImageError:  # which names the address of an object
        raise Image.UnidentifiedImageError(f"cannot identify image file; read are svg, {', '.join(_formats())}") from None
    with picture:
        _check(*picture.size, max_pixels)
        picture.load()
        return _upright(_rgb(picture), _orientation(lambda: picture))  # after load, which turns a TIFF by itself


def _rgb(picture: Image.Image) -> Picture:
    if picture.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if picture.mode.startswith("I"):  # 16 bits of grey; convert() would clip them at 255
        grey = (np.clip(np.asarray(picture), 0, 65535).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, -1)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
    return np.asarray(picture.convert("RGB"))


def _orientation(picture: Callable[[], Image.Image]) -> int:
    """EXIF's: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 on a side."""
    try:
        orientation = picture().getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken note beside pixels that may be sound
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(pixels: Picture, orientation: int) -> Picture:
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _draw(encoded: bytes, max_pixels: int, seconds: float) -> Picture:
    """A drawing on white, SVG_SIDE pixels on its longer side."""
    drawing = encoded.decode("utf-8-sig")
    if re.search(r"<(\w+:)?(feI|i)mage\b", drawing):  # a file of this machine, or pixels whose number nobody checked
        raise ValueError("an svg with pictures inside")
    return _pillow(svg.png(drawing, min(SVG_SIDE, int(max_pixels**0.5)), seconds), max_pixels)


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def _turbo() -> Any:
    """simplejpeg, or None where it is not installed: Pillow then gives the same pixels, later."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
