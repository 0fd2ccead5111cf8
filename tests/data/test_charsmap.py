"""A table of characters with one entry, built by hand: "a" becomes "bc"."""

import pytest

from mmjax.core.errors import UserError
from mmjax.data.charsmap import Charsmap

UNITS = [0] * 354
UNITS[0] = 256 << 10  # the root's children begin at 256
UNITS[256 ^ ord("a")] = 1 << 10 | 1 << 8 | ord("a")  # "a" is an entry, whose value lies one (xor) beside it
UNITS[256 ^ ord("a") ^ 1] = 1 << 31 | 2  # the value: where its text begins
TABLE = (4 * len(UNITS)).to_bytes(4, "little") + b"".join(u.to_bytes(4, "little") for u in UNITS) + b"x\0bc\0"


@pytest.mark.parametrize("text, replaced", [("", ""), ("a", "bc"), ("xay ä👍a", "xbcy ä👍bc"), ("\ud800a", "?bc")])
def test_entries_are_replaced(text, replaced):
    assert Charsmap(TABLE)(text) == replaced


@pytest.mark.parametrize("table", [b"", b"\1\0", TABLE[:99], b"\3\0\0\0abc"])
def test_cut_off(table):
    with pytest.raises(UserError, match="cut off"):
        Charsmap(table)
