"""The container of CTranslate2 (version 6): a model's kind, then name, shape, type and bytes of each of its variables."""

import math
import mmap
from pathlib import Path

import ml_dtypes
import numpy as np

from mmjax.convert.table import Tensor
from mmjax.core.errors import UserError

VERSION = 6
TYPES = {
    0: np.dtype(np.float32),
    1: np.dtype(np.int8),
    2: np.dtype(np.int16),
    3: np.dtype(np.int32),
    4: np.dtype(np.float16),
    5: np.dtype(ml_dtypes.bfloat16),
}
KINDS = (b"WhisperSpec\0",)


def is_one(start: bytes) -> bool:
    """Whether a file's first bytes are those of such a container of a kind that is read here."""
    kind = start[6 : 6 + int.from_bytes(start[4:6], "little")]
    return start[:4] == VERSION.to_bytes(4, "little") and kind in KINDS


def read(path: Path) -> dict[str, Tensor]:
    """The variables, memory-mapped.

    Raises:
      UserError: the file is cut off, or its lengths contradict each other.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    at = 4

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(mapped):
            raise UserError(f"{path}: ends at byte {len(mapped):,} amid its variables: it is cut off")
        at += size
        return int.from_bytes(mapped[at - size : at], "little")

    def text() -> str:
        nonlocal at
        size = number(2)
        at += size
        return mapped[at - size : at].rstrip(b"\0").decode("utf-8", "replace")

    text(), number(4)
    found = {}
    for _ in range(number(4)):
        name = text()
        shape = tuple(number(4) for _ in range(number(1)))
        dtype, size = TYPES.get(number(1)), number(4)
        if dtype is None or size != dtype.itemsize * math.prod(shape):
            raise UserError(f"{path}: {name} {shape} does not take {size:,} bytes: not read")
        if at + size > len(mapped):
            raise UserError(f"{path}: {name} ends beyond the file's {len(mapped):,} bytes: it is cut off")
        found[name] = Tensor(shape, dtype, _view(mapped, dtype, shape, at))
        at += size
    return found


def _view(mapped: mmap.mmap, dtype: np.dtype, shape: tuple[int, ...], at: int):
    return lambda: np.frombuffer(mapped, dtype, math.prod(shape), at).reshape(shape)
