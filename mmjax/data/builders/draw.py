"""Pictures as the shipped sets hold them: png, RGB on a white ground."""

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from mmjax.core.errors import UserError
from mmjax.data.svg import png as png_of

# An Iconify icon's box where neither it nor its set says otherwise.
BOX = {"left": 0, "top": 0, "width": 16, "height": 16}


class NotDrawn(Exception):
    """There is no picture of a drawing, for the reason given."""


def draw(svg: str, side: int, square: bool = True) -> bytes:
    """A drawing as png, its longer side `side` pixels; `square` adds white to the shorter one.

    Raises:
      UserError: resvg-py is missing.
      NotDrawn: resvg cannot read the drawing, or nothing of it is seen on white.
    """
    try:
        drawn = png_of(svg, side)
    except UserError:
        raise
    except ValueError as error:
        raise NotDrawn(str(error)) from None
    with Image.open(io.BytesIO(drawn)) as image:
        if all(low == 255 for low, _ in image.getextrema()):
            raise NotDrawn("nothing is seen on white")
        # Where it rounds up, the longer side comes out a pixel longer than asked for.
        return png(image.crop((0, 0, min(image.width, side), min(image.height, side))), side, square)


def picture(encoded: bytes, side: int) -> bytes:
    """Any picture of Pillow as png, its longer side at most `side` pixels (bicubic, antialiased)."""
    with Image.open(io.BytesIO(encoded)) as opened:
        layer = opened.convert("RGBA")
    layer.thumbnail((side, side), Image.Resampling.BICUBIC)
    return png(layer, side, square=False)


def png(image: Image.Image, side: int, square: bool) -> bytes:
    """The picture as png on white; `square` centres it on side x side pixels."""
    size = (side, side) if square else image.size
    ground = Image.new("RGBA", size, "white")
    ground.alpha_composite(image.convert("RGBA"), ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    encoded = io.BytesIO()
    ground.convert("RGB").save(encoded, "PNG")
    return encoded.getvalue()


def icon_svg(icon: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """The svg document of an icon of an Iconify set; the set's table says what the icon leaves out of its box."""
    box = " ".join(str({**BOX, **table, **icon}[key]) for key in BOX)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}">{icon["body"]}</svg>'
