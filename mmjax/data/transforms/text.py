"""Transforms of captions: strings to token ids."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mmjax.core.errors import UserError
from mmjax.data import store

Record = dict[str, Any]


class Tokenise:
    """The caption as int32 (T,) under "text"; the caption itself stays under "caption".

    Too long a caption is cut so that `eos` stays the last token; a short one is filled with `pad_id`.

    Args:
      tokenizer: a tokenizer.json, a folder or a prepared data set that holds one, or "bytes": the UTF-8 bytes as 3 to
        258 after [PAD]=0, [BOS]=1, [EOS]=2, a vocabulary of 259 that needs no file.
      length: T.
      lower: whether to lower the case first.
      bos, eos: the tokens that open and close a caption, by name; None for none.
      pad_id: the padding token's number.

    Raises:
      UserError: there is no such tokenizer, or it lacks `bos` or `eos`.
    """

    def __init__(
        self,
        tokenizer: str,
        length: int,
        lower: bool = True,
        bos: str | None = "[BOS]",
        eos: str | None = "[EOS]",
        pad_id: int = 0,
    ):
        tokens = _Bytes() if tokenizer == "bytes" else load_tokenizer(tokenizer)
        self._tokens, self._length, self._lower, self._pad = tokens, length, lower, pad_id
        self._bos, self._eos = ([] if name is None else [_token(tokens, name, tokenizer)] for name in (bos, eos))
        if length <= len(self._bos) + len(self._eos):
            raise UserError(f"tokenise: length {length} leaves no room for text between {bos!r} and {eos!r}")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        caption = record["text"]
        ids = _encode(self._tokens, caption.lower() if self._lower else caption)
        row = [*self._bos, *ids[: self._length - len(self._bos) - len(self._eos)], *self._eos]
        text = np.full(self._length, self._pad, np.int32)
        text[: len(row)] = row
        return {**record, "text": text, "caption": caption}


@functools.lru_cache(maxsize=1 << 16)
def _encode(tokens: Any, text: str) -> list[int]:
    """Captions come again in each epoch, and looking one up takes a tenth of encoding it."""
    return tokens.encode(text, add_special_tokens=False).ids


def load_tokenizer(tokenizer: str) -> Any:
    """The Hugging Face `tokenizers.Tokenizer` of a tokenizer.json, of a folder that holds one, or of a prepared set."""
    path = Path(tokenizer).expanduser()
    file = path if path.is_file() else path / "tokenizer.json"
    if not file.is_file():
        if path.exists() or path.suffix == ".json" or path.is_absolute():
            raise UserError(f"tokenise: there is no tokenizer {file}")
        file = store.locate(tokenizer) / "tokenizer.json"
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))


def tokenizer_json(tokenizer: str) -> str | None:
    """What tokenizer.json says, to travel in a checkpoint; None for "bytes", which needs none."""
    return None if tokenizer == "bytes" else load_tokenizer(tokenizer).to_str()


class _Bytes:
    """UTF-8 bytes behind the face of a `tokenizers.Tokenizer`."""

    SPECIALS = ("[PAD]", "[BOS]", "[EOS]")

    def encode(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        return SimpleNamespace(ids=[byte + len(self.SPECIALS) for byte in text.encode()])

    def token_to_id(self, token: str) -> int | None:
        return self.SPECIALS.index(token) if token in self.SPECIALS else None


def _token(tokens: Any, name: str, where: str) -> int:
    number = tokens.token_to_id(name)
    if number is None:
        raise UserError(f"tokenise: {where} has no token {name!r}: name its own, or None for none")
    return number
