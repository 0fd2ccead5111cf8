"""Regions that need no detector."""

from collections.abc import Sequence
from typing import Any

import numpy as np

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
        at = np.arange(side, dtype=np.float32) / side
        top, left = (x.ravel() for x in np.meshgrid(at, at, indexing="ij"))
        self._boxes = np.stack([left, top, left + 1 / side, top + 1 / side], axis=1).astype(np.float32)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        squares = np.zeros((self._side**2, self._tokens.get_vocab_size()), np.float32)
        for field in self._fields:
            names = record[field].split(",")
            if len(names) != len(squares):
                raise ValueError(f"{field} names {len(names)} squares, not {len(squares)}")
            for square, name in zip(squares, names, strict=True):
                if name not in self._ids:
                    self._ids[name] = self._tokens.encode(name.lower(), add_special_tokens=False).ids
                square[self._ids[name]] = 1
        return {**record, "regions": squares, "boxes": self._boxes}
