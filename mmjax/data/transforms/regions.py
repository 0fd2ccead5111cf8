"""Grids of squares whose contents are named: regions that need no detector, and what a detector learns from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmjax.data.sources.source import group_of
from mmjax.data.transforms.text import tokens_of

Record = dict[str, Any]


class NamedSquares:
    """ "regions" float32 (side * side, V) and "boxes" float32 (side * side, 4): a grid's squares as a detector that never errs
    would give them, each as the words of what is in it.

    A region is 1 at the ids of its words, 0 elsewhere, and of an empty square 0 throughout; boxes are x1, y1, x2, y2 as shares
    of the picture. It parts what a model does with regions from how well it sees.

    Args:
      tokenizer: a prepared set's or a file, as of Tokenise; V is its size.
      side: squares a side.
      fields: of the record, each what is in the squares, row by row, parted by ",".

    Raises:
      UserError: there is no such tokenizer.
    """

    def __init__(self, tokenizer: str, side: int = 3, fields: Sequence[str] = ("grid", "colours")):
        self._tokens, self._side, self._fields = tokens_of(tokenizer), side, tuple(fields)
        self._ids: dict[str, list[int]] = {}  # few names, many squares
        row, column = np.divmod(np.arange(side**2, dtype=np.float32), side)
        self._boxes = np.stack([column, row, column + 1, row + 1], axis=1) / np.float32(side)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        squares = np.zeros((self._side**2, self._tokens.get_vocab_size()), np.float32)
        for field in self._fields:
            for square, name in zip(squares, names(record, field, self._side), strict=True):
                if name not in self._ids:
                    self._ids[name] = self._tokens.encode(name.lower(), add_special_tokens=False).ids
                square[self._ids[name]] = 1
        return {**record, "regions": squares, "boxes": self._boxes}


class OneSquare:
    """ "image", one square of a grid's picture, and "text", what one field says of it: pairs of single things and their words.

    Any square, and any field that says something of it, drawn anew each time; "group" is that of the text.

    Args:
      side: squares a side.
      fields: of the record, each what is in the squares, row by row, parted by ",".
      empty: the text of a square of which no field says anything.
    """

    def __init__(self, side: int = 3, fields: Sequence[str] = ("grid", "colours"), empty: str = "nothing"):
        self._side, self._fields, self._empty = side, tuple(fields), empty

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        chosen = int(rng.integers(self._side**2))
        words = [told for field in self._fields if (told := names(record, field, self._side)[chosen])]
        text = words[rng.integers(len(words))] if words else self._empty
        picture = np.asarray(record["image"])
        height, width = (size // self._side for size in picture.shape[:2])
        row, column = divmod(chosen, self._side)
        square = picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
        rest = {name: value for name, value in record.items() if name != "item"}  # which says that the whole grid comes again
        return {**rest, "image": square, "text": text, "group": group_of(text)}


def names(record: Record, field: str, side: int) -> list[str]:
    """What `field` says of each of side * side squares. Raises ValueError where it says it of more or fewer."""
    found = record[field].split(",")
    if len(found) != side**2:
        raise ValueError(f"{field} names {len(found)} squares, not {side**2}")
    return found
