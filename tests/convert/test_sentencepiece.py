"""SentencePiece's files: ids of a model small enough to see, and what is refused."""

import json
import struct

import numpy as np
import pytest

from mmjax.cli import main
from mmjax.convert import readers, sentencepiece, table, tokenizer
from mmjax.convert.families import siglip
from mmjax.convert.recognise import abstract
from mmjax.core.errors import UserError
from mmjax.data.transforms.text import Tokenise


def field(number, value):
    """A field of the wire format: a whole number, a float or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def model(pieces, trainer=b"", normaliser=b""):
    entries = [field(1, piece.encode()) + field(2, score) + field(3, kind) for piece, score, kind in pieces]
    return b"".join(field(1, entry) for entry in entries) + field(2, field(40, 1) + trainer) + field(3, normaliser)


# "</s>" 0, "<unk>" 1, then pieces; "▁red" beats "▁" + "red" (-1 against -3), "blue" is cut as "bl" + "ue".
PIECES = [("</s>", 0.0, 3), ("<unk>", 0.0, 2), ("▁", -2.0, 1), ("▁red", -1.0, 1), ("red", -1.0, 1), ("bl", -3.0, 1)]
PIECES += [("ue", -3.0, 1), ("b", -4.0, 1), ("lue", -4.0, 1)]


@pytest.fixture
def spiece(tmp_path):
    path = tmp_path / "spiece.model"
    path.write_bytes(model(PIECES))
    return path


@pytest.mark.parametrize(
    "text, ids",
    [
        ("red", [3]),
        ("red red", [3, 3]),
        ("  blue  ", [2, 5, 6]),
        ("redred", [3, 4]),
        ("xy red", [2, 1, 3]),
        ("", []),
        (" ", []),
    ],
)
def test_ids_by_hand(text, ids, spiece):
    encoded = sentencepiece.read(spiece).encode(text, add_special_tokens=False)
    assert encoded.ids == ids


# A BPE: "ab" is joined before "bc", whatever comes of it; "▁▁" is user-defined, and found before anything is joined.
BPE = [("<pad>", 0.0, 3), ("<eos>", 0.0, 3), ("<unk>", 0.0, 2), ("▁▁", 0.0, 4), ("ab", -1.0, 1), ("bc", -2.0, 1)]
BPE += [("abc", -3.0, 1), ("▁a", -4.0, 1), ("▁", -9.0, 1), ("a", -9.0, 1), ("b", -9.0, 1), ("c", -9.0, 1), ("<0x41>", 0.0, 6)]
TRAINER, PLAIN = field(3, 2) + field(40, 2), field(3, 0) + field(4, 0)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("abc", [6]),
        ("bcab", [5, 4]),
        ("abbc", [4, 5]),
        ("ababc", [4, 6]),
        (" a ab", [7, 8, 4]),
        ("   a", [3, 7]),
        ("xyAa", [2, 9]),
        ("<eos>", [2]),
    ],
)
def test_ids_of_a_bpe_by_hand(text, ids, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(model(BPE, TRAINER, PLAIN))
    assert sentencepiece.read(sentencepiece.find(tmp_path)).encode(text, add_special_tokens=False).ids == ids


def test_a_folder_of_siglip_2(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(model(BPE, TRAINER, PLAIN))
    words = siglip.text({"image": {"name": "naflex"}, "text": {"vocab": 13, "length": 6}})
    text, found = tokenizer.read(tmp_path, {"vocab": 13}, words)
    (tmp_path / "tokenizer.json").write_text(text)
    assert Tokenise(str(tmp_path), **found).rows(("ABC  ab",))["text"].tolist() == [6, 3, 4, 1, 0, 0]


def test_words_are_counted_for_masking(spiece):
    assert sentencepiece.read(spiece).encode("blue red", add_special_tokens=False).word_ids == [0, 0, 0, 1]


def test_a_folder_of_siglip(spiece):
    words = siglip.text({"image": {"name": "vit"}, "text": {"vocab": 9, "length": 6}})
    text, found = tokenizer.read(spiece.parent, {"vocab": 9}, {**words, "pad_id": 0})
    (spiece.parent / "tokenizer.json").write_text(text)
    transform = Tokenise(str(spiece.parent), **found)
    assert transform.rows(("RED, (blue)!",))["text"].tolist() == [3, 2, 5, 6, 0, 0]
    assert transform.rows(("red blue red blue",))["text"].tolist() == [3, 2, 5, 6, 3, 0]  # cut so that </s> stays last
    with pytest.raises(UserError, match="ids up to 8, and the model's embedding has 8 rows"):
        tokenizer.read(spiece.parent, {"vocab": 8}, words)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "it has no pieces"),
        (model(PIECES)[:-8], "cut off"),
        (b"\xff" * 30, "more than ten bytes"),
        (b"\x0f", "wire type 7"),
        (b"\x08\x01", "no SentencePiece model"),
        (model([(b"\xff\xff".decode("latin1"), 0.0, 1)]).replace("ÿÿ".encode(), b"\xff\xff\xff\xff"), "no SentencePiece model"),
        (
            model(PIECES, trainer=field(3, 3)),
            "a word model, where unigram and BPE models are read: put its tokenizer.json beside it",
        ),
        (model(PIECES, trainer=field(24, 1)), "white space is a suffix"),
        (model(PIECES, normaliser=field(5, 0)), "white space is a suffix, or not escaped"),
        (model([*PIECES, ("<sep>", 0.0, 4)]), "'<sep>' is user-defined"),
        (model(BPE, TRAINER, field(4, 0)), "'▁▁' is user-defined"),
        (model([*BPE, ("x", 0.0, 5)], TRAINER, PLAIN), "'x' is user-defined or unused"),
        (model([*BPE, ("cb", -1.0, 1)], TRAINER, PLAIN), "two pieces of its BPE have one score"),
        (model([*BPE, ("xa", -5.0, 1)], TRAINER, PLAIN), "'xa' has a character that is no piece"),
        (model(PIECES, trainer=field(40, 99)), "no SentencePiece model"),
        (model(PIECES, normaliser=field(2, b"\x04\x00\x00")), "no SentencePiece model"),
    ],
)
def test_what_is_refused(content, message, spiece):
    spiece.write_bytes(content)
    with pytest.raises(UserError, match=message):
        tokenizer.read(spiece.parent, {"vocab": 99}, siglip.text({"image": {"name": "vit"}, "text": {"vocab": 9, "length": 6}}))


def test_from_a_folder_to_vectors(spiece):
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    words = {"vocab_size": 9, "max_position_embeddings": 6}
    spec = siglip.hf_model({"text_config": {**small, **words}, "vision_config": {**small, "image_size": 8, "patch_size": 4}})
    own, rng = abstract(spec), np.random.default_rng(0)
    leaves = {path: table.tensor(rng.normal(size=x.shape).astype(np.float32)) for path, x in own.items()}
    folder, to = spiece.parent, spiece.parent.parent / f"{spiece.parent.name}-out"
    readers.write_safetensors(folder / "model.safetensors", table.write(table.expand(siglip.hf_table(spec), own), leaves))
    (folder / "config.json").write_text(json.dumps(siglip.hf_config(spec)))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "</s>"}))
    (folder / "texts.txt").write_text("red blue\nRED, (blue)!\nblue red\n")
    main(["convert", f"--from={folder}", f"--to={to}/mmjax", "--format=mmjax"])
    main(["predict", "embed", f"--checkpoint={to}/mmjax", f"--texts={folder}/texts.txt", f"--out={to}/e.npz"])
    with np.load(to / "e.npz") as found:
        same, other = found["text"][0] @ found["text"][1], found["text"][0] @ found["text"][2]
    assert same == pytest.approx(1, abs=1e-6)
    assert other < 0.999
    main(["convert", f"--from={to}/mmjax", f"--to={to}/hf", "--format=hf"])
    assert json.loads((to / "hf" / "tokenizer_config.json").read_text())["pad_token"] == "</s>"
    assert (to / "hf" / "spiece.model").read_bytes() == spiece.read_bytes()
