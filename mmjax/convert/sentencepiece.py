"""SentencePiece's model files (Kudo and Richardson 2018), read into a `tokenizers.Tokenizer` without their own library.

A file is one protobuf message. Its wire format (numbered fields, each a varint, four or eight bytes, or a counted string) is
read here, as `sentencepiece_model.proto` numbers the fields; what it describes, a unigram model behind a normaliser that
replaces characters by a precompiled table, `tokenizers` has too, but for the way in which the table is applied: WORDS has
`tokenise` do that.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmjax.core.errors import UserError

BYTES = 64_000_000  # of a file at most; Gemma's 256,000 pieces take 4 million
WORDS = {"normaliser": "sentencepiece"}  # keywords of `tokenise`
UNIGRAM, NAMES = 1, {2: "BPE", 3: "word", 4: "char"}
USER_DEFINED, UNUSED = 4, 5  # types of pieces that `tokenizers` would treat otherwise
SPACE = "▁"


def read(path: Path) -> Any:
    """The tokenizer of a .model file: text in, pieces out, nothing added in front or behind.

    Raises:
      UserError: the file is broken, or no unigram model, or of a kind that would give other ids here.
    """
    if path.stat().st_size > BYTES:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes are no SentencePiece model")
    try:
        model = _message(path.read_bytes())
        pieces = [_piece(_message(one)) for one in model.get(1, [])]
        trainer, normaliser = (_message(model[field][-1]) if field in model else {} for field in (2, 3))
    except (ValueError, TypeError, IndexError, struct.error) as error:
        raise UserError(f"{path}: no SentencePiece model: {error}") from None
    _check(path, pieces, trainer, normaliser)
    try:
        return _tokenizer(pieces, trainer, normaliser)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise UserError(f"{path}: no SentencePiece model: {error}") from None


def _check(path: Path, pieces: list[tuple[str, float, int]], trainer: dict, normaliser: dict) -> None:
    kind = _last(trainer, 3, UNIGRAM)
    if kind != UNIGRAM:
        name = NAMES.get(kind, str(kind))
        raise UserError(f"{path}: a {name} model, where unigram models are read: put its tokenizer.json beside it")
    if not pieces:
        raise UserError(f"{path}: no SentencePiece model: it has no pieces")
    if _last(trainer, 24, 0) or not _last(normaliser, 5, 1):
        raise UserError(f"{path}: white space is a suffix, or not escaped, which is not read here")
    if odd := [piece for piece, _, type in pieces if type in (USER_DEFINED, UNUSED)]:
        raise UserError(f"{path}: the piece {odd[0]!r} is user-defined or unused, which is not read here")


def _tokenizer(pieces: list[tuple[str, float, int]], trainer: dict, normaliser: dict) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    scores = [(piece, score) for piece, score, _ in pieces]
    unigram = models.Unigram(scores, unk_id=_last(trainer, 40, 0), byte_fallback=bool(_last(trainer, 35, 0)))
    tokens = Tokenizer(unigram)
    table, prefix, squeeze = (_last(normaliser, field, default) for field, default in ((2, b""), (3, 1), (4, 1)))
    steps = [normalizers.Precompiled(table)] if table else []
    if squeeze:
        steps += [normalizers.Replace(Regex(r"\A +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    steps += [normalizers.Prepend(SPACE)] if prefix else []
    steps += [normalizers.Replace(" ", SPACE)]
    steps += [normalizers.Replace(Regex(rf"{SPACE}+\z"), "")] if squeeze else []
    tokens.normalizer = normalizers.Sequence(steps)
    names = {piece for piece, _, _ in pieces}
    # Words can be cut up one by one, and counted for whole-word masking, where no piece reaches over two of them.
    if SPACE in names and not any(SPACE in piece[1:] for piece in names):
        tokens.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    tokens.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokens


def _piece(fields: dict[int, list[Any]]) -> tuple[str, float, int]:
    """(piece, score, type)"""
    return _last(fields, 1, b"").decode(), struct.unpack("<f", _last(fields, 2, bytes(4)))[0], _last(fields, 3, 1)


def _last(fields: dict[int, list[Any]], number: int, default: Any) -> Any:
    return fields[number][-1] if number in fields else default


def _message(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message by number: whole numbers, or bytes."""
    found: dict[int, list[Any]] = {}
    for number, value in _fields(data):
        found.setdefault(number, []).append(value)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0

    def varint() -> int:
        nonlocal at
        value = 0
        for shift in range(0, 70, 7):
            byte, at = data[at], at + 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of more than ten bytes")

    while at < len(data):
        number, wire = divmod(varint(), 8)
        if wire == 0:
            yield number, varint()
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"a field of wire type {wire}")
        size = varint() if wire == 2 else 8 if wire == 1 else 4
        if at + size > len(data):
            raise ValueError("it is cut off")
        yield number, data[at : at + size]
        at += size
