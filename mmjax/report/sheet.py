"""A contact sheet: images in a grid with their captions, to see at a glance what a data set holds."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmjax.core.errors import UserError

PAPER, INK, MAT = (255, 255, 255), (40, 40, 44), (238, 238, 240)
GAP, LINE, LINES, FONT = 10, 14, 2, 11  # pixels: between cells, a line of caption, lines a caption, letter size


def picture(image: np.ndarray) -> Image.Image:
    """A Pillow RGB image of a uint8 array (height, width, 1 or 3 or 4 channels), alpha over white.

    Raises:
      UserError: another dtype or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise UserError(f"picture: {image.dtype} {image.shape}: want uint8 (height, width, channels) with 1, 3 or 4 channels")
    if image.shape[2] == 4:
        rgba = Image.fromarray(image)
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6, cell: int = 128) -> Image.Image:
    """Draws images in rows of `columns`, each with its caption beneath.

    Args:
      images: uint8 (height, width, channels), of any sizes. Each is fitted into its cell, its proportions kept; one that
        fits twice or more is enlarged by a whole factor, its pixels left square.
      captions: one an image; cut after two lines. Pillow's own font has Latin letters only.
      columns: cells a row.
      cell: a cell's side in pixels.

    Raises:
      UserError: there is no image, or captions and images differ in number.
    """
    if not len(images) or len(images) != len(captions):
        raise UserError(f"contact sheet: {len(images)} images and {len(captions)} captions: want as many, at least one")
    columns = min(columns, len(images))
    rows, height = -(-len(images) // columns), cell + 4 + LINES * LINE
    size = (GAP + columns * (cell + GAP), GAP + rows * (height + GAP))
    sheet, font = Image.new("RGB", size, PAPER), ImageFont.load_default(FONT)
    draw = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = GAP + i % columns * (cell + GAP), GAP + i // columns * (height + GAP)
        draw.rectangle((left, top, left + cell - 1, top + cell - 1), MAT)
        fitted = _fit(picture(image), cell)
        sheet.paste(fitted, (left + (cell - fitted.width) // 2, top + (cell - fitted.height) // 2))
        for n, line in enumerate(_wrap(caption, cell, font)):
            draw.text((left, top + cell + 4 + n * LINE), line, INK, font)
    return sheet


def _fit(image: Image.Image, side: int) -> Image.Image:
    factor = side / max(image.size)
    if factor >= 2:
        return image.resize((image.width * int(factor), image.height * int(factor)), Image.Resampling.NEAREST)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _wrap(caption: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """At most LINES lines that are no wider than `width` pixels; what does not fit ends in an ellipsis."""
    lines: list[str] = []
    words = caption.split()
    while words and len(lines) < LINES:
        taken = 1
        while taken < len(words) and font.getlength(" ".join(words[: taken + 1])) <= width:
            taken += 1
        line, words = " ".join(words[:taken]), words[taken:]
        last = bool(words) and len(lines) == LINES - 1
        if last or font.getlength(line) > width:
            while line and font.getlength(line + "…") > width:
                line = line[:-1]
            line = line.rstrip() + "…"
        lines.append(line)
    return lines
