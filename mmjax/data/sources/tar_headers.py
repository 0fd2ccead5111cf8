"""Headers of a tar archive: one member at a time, from whatever gives its bytes.

ustar and pax (POSIX.1-2017, pax, "Extended Description"), and GNU's long names and large sizes (GNU tar manual, "Basic
Tar Format"). Written for archives that strangers made: every length is checked before it is believed.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

BLOCK = 512
END = bytes(BLOCK)
# Blocks of headers that one member may have, its extended ones included: what a byte holds.
HEADERS = 255

Read = Callable[[int, int], bytes]  # (start, end) -> those bytes of the archive, fewer where it ends


class Malformed(ValueError):
    """An archive that cannot be read on; `kind` is what the problem is counted under."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


class Member(NamedTuple):
    """A member of a tar: its headers begin at byte `start`, its `size` bytes of data at `offset`; `kind` is tar's type."""

    name: str
    kind: bytes
    start: int
    offset: int
    size: int

    @property
    def folder(self) -> bool:
        """Whether it is a folder (before 1988, a file whose name ends in a slash)."""
        return self.kind == b"5" or (self.kind == b"\0" and self.name.endswith("/"))

    @property
    def regular(self) -> bool:
        """Whether it is a file: no folder, link, device or file with holes."""
        return self.kind in (b"0", b"7", b"\0") and not self.folder

    @property
    def next(self) -> int:
        """The byte where the next member's headers begin."""
        return self.offset + (0 if self.kind in (b"1", b"2", b"3", b"4", b"5", b"6") else _blocks(self.size) * BLOCK)


def member(read: Read, at: int) -> Member | None:
    """The member whose headers begin at byte `at`; None where the archive's end mark stands.

    Raises:
      Malformed: the archive ends there ("cut off", or "no end mark" between two members), or there is no header.
    """
    start, path, size, sparse = at, None, None, False
    while True:
        block = read(at, at + BLOCK)
        if len(block) < BLOCK:
            raise Malformed("cut off" if block or at > start else "no end mark", f"ends at byte {at + len(block)}")
        if at == start and block == END:
            return None
        kind, length = _header(block, at)
        at += BLOCK
        if kind not in b"LKxXg":
            break
        if _blocks(length) + (at - start) // BLOCK >= HEADERS:
            raise Malformed("malformed", f"an extended header of {length} bytes at byte {at - BLOCK}")
        data = read(at, at + length)
        if len(data) < length:
            raise Malformed("cut off", f"ends at byte {at + len(data)}")
        at += _blocks(length) * BLOCK
        if kind == b"L":
            path = path or data.split(b"\0", 1)[0]
        elif kind != b"K":
            records = _pax(data, at)
            if kind == b"g" and not records.keys().isdisjoint((b"path", b"size")):
                raise Malformed("malformed", f"a global header that renames members before byte {at}")
            path, size = path or records.get(b"path"), size or records.get(b"size")
            sparse = sparse or any(key.startswith(b"GNU.sparse") for key in records)
    if kind == b"S":  # more headers follow, of a layout that no writer of shards uses
        raise Malformed("malformed", f"a file with holes at byte {at - BLOCK}")
    if size is not None and not (size.isdigit() and len(size) <= 20):
        raise Malformed("malformed", f"a size that is no number before byte {at}")
    name = (path or _name(block)).decode("utf-8", "backslashreplace")
    return Member(name, b"S" if sparse else kind, start, at, length if size is None else int(size))


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _header(block: bytes, at: int) -> tuple[bytes, int]:
    """A header's type and size, once its checksum is right."""
    try:
        stored = int(block[148:156].split(b"\0", 1)[0].strip() or b"0", 8)
        # Adler-32's low half is 1 + the sum of the bytes, modulo 65521: the header's checksum, computed in C.
        if zlib.adler32(block[:148] + b"        " + block[156:]) & 0xFFFF != (stored + 1) % 65521:
            raise ValueError
        field = block[124:136]
        size = int.from_bytes(field[1:]) if field[0] == 0x80 else int(field.split(b"\0", 1)[0].strip() or b"0", 8)
        if size < 0:
            raise ValueError
    except ValueError:
        raise Malformed("malformed", f"no tar header at byte {at}") from None
    return block[156:157], size


def _name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _pax(data: bytes, at: int) -> dict[bytes, bytes]:
    """The records "LENGTH KEY=VALUE\\n" of an extended header."""
    records, begin = {}, 0
    while begin < len(data) and data[begin]:
        length, space, _ = data[begin : begin + 20].partition(b" ")
        end = begin + int(length) if space and length.isdigit() else 0
        if not begin + len(length) + 1 < end <= len(data) or data[end - 1] != 0x0A:
            raise Malformed("malformed", f"an extended header that is not pax before byte {at}")
        key, _, value = data[begin + len(length) + 1 : end - 1].partition(b"=")
        records[key], begin = value, end
    return records
