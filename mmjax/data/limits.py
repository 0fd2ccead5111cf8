"""What a hostile or broken file may cost: one set of limits for every decoder."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Above these a record is broken. `pixels` of one picture, `bytes` of one encoded field, `seconds` of audio or video,
    `frame_pixels` of all the frames of a video that are decoded for those that are wanted, `draw_seconds` of CPU for one svg.

    A picture's size is read from its header and refused before its pixels are.
    """

    pixels: int = 64_000_000
    bytes: int = 256 << 20
    seconds: float = 600.0
    frame_pixels: int = 10_000_000_000  # 5,000 frames of 1920 x 1080
    draw_seconds: float = 5.0


LIMITS = Limits()
