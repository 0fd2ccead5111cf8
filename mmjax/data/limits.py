"""What a hostile or broken file may cost: one set of limits for every decoder."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Above these a record is broken. `pixels` of one picture, `bytes` of one encoded field, `seconds` of audio or video.

    A picture's size is read from its header and refused before its pixels are.
    """

    pixels: int = 64_000_000
    bytes: int = 256 << 20
    seconds: float = 600.0


LIMITS = Limits()
