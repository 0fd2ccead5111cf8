"""Random-access sources of records: `len(source)` and `source[i]` are all that the stream asks of them.

A record is a dict: image (encoded bytes, or uint8 (H, W, 3)), text (str), id (str; its index where absent), group (int
in [0, 2^31); records of equal groups are positives of each other; `group_of` the text where absent), label (int; -1 or
absent where unknown) and, where a picture or clip comes once for each of its captions, item (int in [0, 2^31): which one
it is; records of equal items repeat it, and retrieval counts it once). Records are shared between epochs and threads:
nobody writes into one.

A source that leaves something out before its records are numbered says so in `problems`: Problem(kind, count, names) each.

Sources travel to worker processes by pickle and may be read by several threads at once.
"""

import zlib
from typing import Any, NamedTuple, Protocol, runtime_checkable

Record = dict[str, Any]


@runtime_checkable
class Source(Protocol):
    """What the stream asks of a source."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Record: ...


class Problem(NamedTuple):
    """What is wrong with some of the data: a kind, how often it occurs, and the first few places."""

    kind: str
    count: int
    names: tuple[str, ...]


def problems_of(source: Source) -> list[Problem]:
    """What the source left out; nothing where it does not say."""
    return list(getattr(source, "problems", ()))


def group_of(text: str) -> int:
    """A group number that is a function of the caption alone (CRC-32, folded to 31 bits).

    Captions that repeat, in one set or in two, are thereby positives of each other. 31 bits, because jax keeps integers
    in 32 unless told otherwise. Two different captions meet in a number once in 2^31 pairs.
    """
    return zlib.crc32(text.encode()) & 0x7FFFFFFF
