"""SentencePiece's table of characters, applied as its own library does: at each place the longest entry.

`tokenizers` looks entries up by grapheme, the shortest first, and so loses marks of decomposed Vietnamese and joins no jamo.
"""

import base64
import json
from typing import Any

from mmjax.core.errors import UserError


class Charsmap:
    """A precompiled table: a trie of UTF-8 strings as a double array (darts-clone's units), and what replaces them.

    Args:
      table: the bytes of `normalizer_spec.precompiled_charsmap`.

    Raises:
      UserError: it is cut off.
    """

    def __init__(self, table: bytes):
        size = int.from_bytes(table[:4], "little")
        if len(table) < 4 or size % 4 or not 4 <= size <= len(table) - 4:
            raise UserError(f"a table of characters of {len(table):,} bytes is cut off")
        self._units = [int.from_bytes(table[i : i + 4], "little") for i in range(4, 4 + size, 4)]
        self._texts = table[4 + size :]

    def __call__(self, text: str) -> str:
        """The text with its entries replaced."""
        data, out, at = text.encode("utf-8", "replace"), bytearray(), 0
        while at < len(data):
            length, value = self._longest(data, at)
            if length:
                out += self._texts[value : self._texts.index(b"\0", value)]
            else:
                length = 1
                while at + length < len(data) and data[at + length] & 0xC0 == 0x80:
                    length += 1
                out += data[at : at + length]
            at += length
        return out.decode("utf-8", "replace")

    def _longest(self, data: bytes, at: int) -> tuple[int, int]:
        """(bytes of the longest entry that begins at `at`, its value); 0 bytes where there is none."""
        units, node = self._units, _offset(self._units[0])
        found = 0, 0
        for end in range(at, len(data)):
            node ^= data[end]
            if node >= len(units) or units[node] & 0x800000FF != data[end]:
                break
            leaf = units[node] >> 8 & 1
            node ^= _offset(units[node])
            if leaf:
                found = end + 1 - at, units[node] & 0x7FFFFFFF
        return found


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


def split(tokens: Any) -> tuple[Any, Charsmap | None]:
    """A `tokenizers.Tokenizer` without its table of characters, and the table (None where it has none)."""
    from tokenizers import Tokenizer

    parts = json.loads(tokens.to_str())
    steps = (parts["normalizer"] or {}).get("normalizers", [])
    if not steps or steps[0]["type"] != "Precompiled":
        return tokens, None
    table = base64.b64decode(steps.pop(0)["precompiled_charsmap"])
    return Tokenizer.from_str(json.dumps(parts)), Charsmap(table)
