"""SentencePiece's model files (Kudo and Richardson 2018), read into a `tokenizers.Tokenizer` without their own library.

A file is one protobuf message. Its wire format (numbered fields, each a varint, four or eight bytes, or a counted string) is
read here, as `sentencepiece_model.proto` numbers the fields; what it describes, a unigram or BPE model behind a normaliser
that replaces characters by a precompiled table, `tokenizers` has too, but for the way in which the table is applied: WORDS
has `tokenise` do that.

BPE there joins the two neighbours whose joint piece has the highest score, whatever the two are, and the leftmost first where
several make that piece. Here a table of pairs says the same: each way of cutting a piece into two, by the piece's score.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmjax.core.errors import UserError

BYTES = 64_000_000  # of a file at most; Gemma's 256,000 pieces take 4 million
WORDS = {"normaliser": "sentencepiece"}  # keywords of `tokenise`
FILES = ("spiece.model", "tokenizer.model")  # as T5 and SigLIP, or Gemma and Llama, name them
UNIGRAM, BPE, NAMES = 1, 2, {3: "word", 4: "char"}
NORMAL, USER_DEFINED, UNUSED = 1, 4, 5  # types of pieces
TABLE, PREFIX, SQUEEZE = (2, b""), (3, 1), (4, 1)  # a normaliser's fields, and what they are where a file says nothing
SPACE = "▁"
Piece = tuple[str, float, int]  # its score and type beside it


def find(folder: Path) -> Path | None:
    """The model file of a folder, None where it has none."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read(path: Path) -> Any:
    """The tokenizer of a .model file: text in, pieces out, nothing added in front or behind.

    Raises:
      UserError: the file is broken, or neither unigram nor BPE, or of a kind that would give other ids here.
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


def _check(path: Path, pieces: list[Piece], trainer: dict, normaliser: dict) -> None:
    kind = _last(trainer, 3, UNIGRAM)
    if kind not in (UNIGRAM, BPE):
        name = NAMES.get(kind, str(kind))
        raise UserError(f"{path}: a {name} model, where unigram and BPE models are read: put its tokenizer.json beside it")
    if not pieces:
        raise UserError(f"{path}: no SentencePiece model: it has no pieces")
    if _last(trainer, 24, 0) or not _last(normaliser, 5, 1):
        raise UserError(f"{path}: white space is a suffix, or not escaped, which is not read here")
    # Those are found in a text before all else. Where it is changed first, the two libraries disagree on when.
    plain = kind == BPE and not any(_last(normaliser, *field) for field in (TABLE, PREFIX, SQUEEZE))
    odd = (UNUSED,) if plain else (UNUSED, USER_DEFINED)
    if found := [piece for piece, _, type in pieces if type in odd]:
        raise UserError(f"{path}: the piece {found[0]!r} is user-defined or unused, which is not read here")
    if kind == BPE:
        _check_bpe(path, pieces)


def _check_bpe(path: Path, pieces: list[Piece]) -> None:
    """What SentencePiece's own trainer always gives: a piece has a score of its own, and each of its characters is a piece."""
    scores = _joined(pieces)
    if len(set(scores.values())) < len(scores):
        raise UserError(f"{path}: two pieces of its BPE have one score: which comes first is not said")
    names = {piece for piece, _, type in pieces if type in (NORMAL, USER_DEFINED)}
    if lost := next((piece for piece in scores if not names.issuperset(piece)), None):
        raise UserError(f"{path}: the piece {lost!r} has a character that is no piece, which is not read here")


def _joined(pieces: list[Piece]) -> dict[str, float]:
    """The scores of the pieces that BPE makes out of two others."""
    return {piece: score for piece, score, type in pieces if type == NORMAL and len(piece) > 1}


def _tokenizer(pieces: list[Piece], trainer: dict, normaliser: dict) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers

    tokens = Tokenizer(_model(pieces, trainer))
    table, prefix, squeeze = (_last(normaliser, *field) for field in (TABLE, PREFIX, SQUEEZE))
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
    tokens.add_tokens([AddedToken(piece, normalized=True) for piece, _, type in pieces if type == USER_DEFINED])
    tokens.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokens


def _model(pieces: list[Piece], trainer: dict) -> Any:
    from tokenizers import models

    unknown, fallback = _last(trainer, 40, 0), bool(_last(trainer, 35, 0))
    if _last(trainer, 3, UNIGRAM) == UNIGRAM:
        return models.Unigram([(piece, score) for piece, score, _ in pieces], unk_id=unknown, byte_fallback=fallback)
    ids = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    parts = {piece for piece, _, type in pieces if type == NORMAL}
    scores = _joined(pieces)
    merges = [
        (piece[:i], piece[i:])
        for piece in sorted(scores, key=lambda piece: -scores[piece])
        for i in range(1, len(piece))
        if piece[:i] in parts and piece[i:] in parts
    ]
    return models.BPE(ids, merges, unk_token=pieces[unknown][0], fuse_unk=True, byte_fallback=fallback)


def _piece(fields: dict[int, list[Any]]) -> Piece:
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
