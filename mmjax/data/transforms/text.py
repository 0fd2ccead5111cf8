"""Transforms of captions: strings to token ids."""

import functools
import itertools
import string
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Int32

from mmjax.core.errors import UserError
from mmjax.data import charsmap, store

Record = dict[str, Any]

TRUNCATION = ("longest_first", "only_first", "only_second")
NORMALISERS = ("tokenizers", "sentencepiece")
PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))
# A token is shorter: what is beyond so many characters for each token of a row would be cut off anyway, after it had cost time.
CHARACTERS = 100


class PickCaption:
    """Where a record has several "texts" and no "text": one of them, drawn anew each time. (tokenise does it by itself.)"""

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        return pick_caption(record, rng)


def pick_caption(record: Record, rng: np.random.Generator) -> Record:
    """The record with a "text", drawn from its "texts" where it has none."""
    if "text" in record or "texts" not in record:
        return record
    if not record["texts"]:
        raise ValueError("the record has no caption")
    return {**record, "text": record["texts"][int(rng.integers(len(record["texts"])))]}


class Tokenise:
    """The caption as int32 (T,) under "text"; the caption itself (of a record without one, the question) stays under "caption".

    Too long a caption is cut so that `eos` stays the last token (as OpenAI's CLIP with truncate=True, big_vision with
    eos="sticky"); a short one is filled with `pad_id`. "text_words" int32 (T,) numbers the words that tokens are parts of, -1
    where there is none, for mask_tokens. With `pair` the row is bos text eos pair eos, and "text_segments" int32 (T,) is 1
    from the pair on. "text_cut" is how many tokens were cut off.

    As published: CLIP length 77, bos "<|startoftext|>", eos "<|endoftext|>"; SigLIP length 64, punctuation=False, bos None,
    eos "</s>", pad_id 1; BERT bos "[CLS]", eos "[SEP]".

    Args:
      tokenizer: a tokenizer.json, a folder or a prepared data set that holds one, or "bytes": the UTF-8 bytes as 3 to
        258 after [PAD]=0, [BOS]=1, [EOS]=2, a vocabulary of 259 that needs no file (260 with [MASK], for mask_tokens).
      length: T.
      lower: whether to lower the case first.
      bos, eos: the tokens that open and close a caption, by name; None for none.
      pad_id: the padding token's number.
      field: what to tokenise; of "question" the results are "question", "question_words", "question_segments", "question_cut".
      into: what the results are called, `field` by default: "question" for the field "question_zh".
      pair: a second text of the record, e.g. an answer.
      truncation: of a pair: "longest_first", "only_first" or "only_second", as Hugging Face names them.
      padding_side: "right" or "left".
      empty: whether a caption without a token becomes the row bos eos; otherwise it is a broken record.
      punctuation: False deletes ASCII punctuation (_ becomes a space) and repeated white space, as SigLIP does.
      normaliser: who applies the tokenizer's table of characters, where it has one: "tokenizers", or "sentencepiece" for ids
        that are SentencePiece's own (data/charsmap.py).

    Raises:
      UserError: there is no such tokenizer, or it lacks `bos` or `eos`, or there is no such policy.
    """

    def __init__(
        self,
        tokenizer: str,
        length: int,
        lower: bool = True,
        bos: str | None = "[BOS]",
        eos: str | None = "[EOS]",
        pad_id: int = 0,
        field: str = "text",
        pair: str | None = None,
        truncation: str = "longest_first",
        padding_side: str = "right",
        punctuation: bool = True,
        empty: bool = False,
        into: str | None = None,
        normaliser: str = "tokenizers",
    ):
        if normaliser not in NORMALISERS:
            raise UserError(f"tokenise: normaliser {normaliser!r} is none of {', '.join(NORMALISERS)}")
        tokens = tokens_of(tokenizer)
        tokens, self._table = charsmap.split(tokens) if normaliser == "sentencepiece" else (tokens, None)
        self._tokens, self._length, self._lower, self._punctuation, self._pad = tokens, length, lower, punctuation, pad_id
        self._bos, self._eos = ([] if name is None else [_token(tokens, name, tokenizer)] for name in (bos, eos))
        self._field, self._fields, self._truncation = field, (field, pair) if pair else (field,), truncation
        self._into = into or field
        self._room = length - len(self._bos) - len(self._eos) * len(self._fields)
        if self._room < 1:
            raise UserError(f"tokenise: length {length} leaves no room for text between {bos!r} and {eos!r}")
        if truncation not in TRUNCATION or padding_side not in ("left", "right"):
            policies = f"truncation is one of {', '.join(TRUNCATION)}, padding_side left or right"
            raise UserError(f"tokenise: {policies}, not {truncation!r} and {padding_side!r}")
        self._empty = empty
        self._left, self._most = padding_side == "left", CHARACTERS * length

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        record = pick_caption(record, rng)
        rows = _rows(self, tuple(record[field][: self._most] for field in self._fields))
        shown = self._into == "text" or (self._into == "question" and not {"text", "texts"} & record.keys())
        return {**record, **rows, "caption": record[self._field]} if shown else {**record, **rows}

    def rows(self, texts: Sequence[str]) -> dict[str, Int32[np.ndarray, "*T"]]:
        """What the text (and the pair's other) become, as read-only arrays."""
        encoded = [self._tokens.encode(self._clean(text), add_special_tokens=False) for text in texts]
        if not encoded[0].ids and not self._empty:
            raise ValueError(f"the {self._field} is empty")
        sizes = fit([len(one.ids) for one in encoded], self._room, self._truncation)
        ids, words, segments = [*self._bos], [-1] * len(self._bos), 0
        for one, size in zip(encoded, sizes, strict=True):
            first = max(words, default=-1) + 1
            segments = len(ids)
            ids += [*one.ids[:size], *self._eos]
            words += [-1 if word is None else first + word for word in one.word_ids[:size]] + [-1] * len(self._eos)
        cut = sum(len(one.ids) for one in encoded) - sum(sizes)
        rows = {self._into: self._row(ids, self._pad), f"{self._into}_words": self._row(words, -1)}
        rows[f"{self._into}_cut"] = np.int32(cut)
        if len(texts) > 1:
            rows[f"{self._into}_segments"] = self._row([0] * segments + [1] * (len(ids) - segments), 0)
        return rows

    def _clean(self, text: str) -> str:
        text = text.lower() if self._lower else text
        text = text if self._punctuation else " ".join(text.translate(PUNCTUATION).split())
        return text if self._table is None else self._table(text)

    def _row(self, values: list[int], filler: int) -> Int32[np.ndarray, " T"]:
        row = np.full(self._length, filler, np.int32)
        row[slice(self._length - len(values), None) if self._left else slice(len(values))] = values
        row.flags.writeable = False
        return row


def fit(sizes: Sequence[int], room: int, truncation: str) -> list[int]:
    """How many tokens of each of one or two texts stay, so that together they are at most `room`.

    "longest_first" takes tokens from the longer one, until both are of a length, then from both in turn.

    Raises:
      ValueError: the text to be cut is too short for it.
    """
    excess = sum(sizes) - room
    if excess <= 0:
        return [*sizes]
    if len(sizes) == 1:
        return [room]
    a, b = sizes
    if truncation == "longest_first":
        short = min(a, b, room // 2)
        return [short, room - short] if a <= b else [room - short, short]
    kept = [a - excess, b] if truncation == "only_first" else [a, b - excess]
    if min(kept) < 1:
        raise ValueError(f"texts of {a} and {b} tokens do not fit into {room} by {truncation}")
    return kept


@functools.lru_cache(maxsize=1 << 15)
def _rows(transform: Tokenise, texts: tuple[str, ...]) -> dict[str, Int32[np.ndarray, "*T"]]:
    """Captions come again in each epoch, and looking one up takes a tenth of encoding it."""
    return transform.rows(texts)


def tokens_of(tokenizer: str) -> Any:
    """ "bytes", or as `load_tokenizer`."""
    return _Bytes() if tokenizer == "bytes" else load_tokenizer(tokenizer)


def load_tokenizer(tokenizer: str) -> Any:
    """The Hugging Face `tokenizers.Tokenizer` of a tokenizer.json, of a folder that holds one, or of a prepared set.

    Padding and truncation that the file asks for are left out: both are tokenise's business, which would take their padding
    for words.
    """
    path = Path(tokenizer).expanduser()
    file = path if path.is_file() else path / "tokenizer.json"
    if not file.is_file():
        if path.exists() or path.suffix == ".json" or path.is_absolute():
            raise UserError(f"tokenise: there is no tokenizer {file}")
        file = store.locate(tokenizer) / "tokenizer.json"
    from tokenizers import Tokenizer

    try:
        tokens = Tokenizer.from_file(str(file))
    except Exception as error:  # the reader has no class of its own
        raise UserError(f"tokenise: {file} is no tokenizer.json of Hugging Face tokenizers: {error}") from None
    tokens.no_padding(), tokens.no_truncation()
    return tokens


def tokenizer_json(tokenizer: str) -> str | None:
    """What tokenizer.json says, to travel in a checkpoint; None for "bytes", which needs none."""
    return None if tokenizer == "bytes" else load_tokenizer(tokenizer).to_str()


class _Bytes:
    """UTF-8 bytes behind the face of a `tokenizers.Tokenizer`."""

    SPECIALS = {"[PAD]": 0, "[BOS]": 1, "[EOS]": 2, "[MASK]": 259}
    FIRST, SIZE = 3, 260

    def encode(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        content = text.encode()
        words = list(itertools.accumulate(byte == ord(" ") for byte in content))  # a space belongs to what follows
        return SimpleNamespace(ids=[byte + self.FIRST for byte in content], word_ids=words)

    def token_to_id(self, token: str) -> int | None:
        return self.SPECIALS.get(token)

    def get_vocab_size(self) -> int:
        return self.SIZE

    def get_added_tokens_decoder(self) -> dict[int, SimpleNamespace]:
        return {number: SimpleNamespace(special=True) for number in self.SPECIALS.values()}


def _token(tokens: Any, name: str, where: str) -> int:
    number = tokens.token_to_id(name)
    if number is None:
        raise UserError(f"tokenise: {where} has no token {name!r}: name its own, or None for none")
    return number
