"""Token ids against SentencePiece's own, and of SigLIP and SigLIP 2 against transformers' tokenizers, on strings that are hard.

Their vocabularies cannot be had here: the pipeline is proven with a SentencePiece model, and a tokenizer.json of Gemma's kind,
that are trained in the test.
"""

import io
import json
import unicodedata

import numpy as np
import pytest

from mmjax.convert import tokenizer
from mmjax.convert.families import siglip
from mmjax.core import registry
from mmjax.data.transforms import TRANSFORMS
from mmjax.data.transforms.text import Tokenise

HARD = [
    "a photo of a cat",
    "",
    "   two  spaces\tand\na line  ",
    "It's 25% off!! (really?) #1 -- e.g. U.S.A.",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 and ❤️",
    "中文字幕 日本語テキスト 한국어 ＡＢＣ ﬁne ㌔",
    "مرحبا بالعالم ﷺ",
    "e\u0301 n\u0303 combining, \u0130stanbul, Straße, ﬁ a\u0323\u0302 \u1112\u1161\u11ab",
    "zero\u200bwidth \x00\x07 control \ufeff bom \x7f\u0085",
    "▁ a▁ ▁",
    "a" * 3000,
    "word " * 500,
    "photograph" * 700,
]
TEXTS = [*HARD, "Hello, WORLD! <eos> <pad>", unicodedata.normalize("NFD", "Tiếng Việt có dấu"), "x" * 62, "y z " * 32]


LINES = [*HARD[:9], "the quick brown fox", "photographs and photos of words and wording"] * 9


def trained(lines=LINES, **settings):
    """A model of SentencePiece's own trainer, with T5's and SigLIP's numbers of special tokens."""
    library = pytest.importorskip("sentencepiece")
    out = io.BytesIO()
    settings = {"vocab_size": 330, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, **settings}
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, hard_vocab_limit=False, minloglevel=2, **settings
    )
    return out.getvalue(), library.SentencePieceProcessor(model_proto=out.getvalue())


SETTINGS = [
    {},
    {"character_coverage": 0.98, "vocab_size": 300},
    {"byte_fallback": True, "character_coverage": 0.98, "vocab_size": 500},
    {"normalization_rule_name": "identity"},
    {"normalization_rule_name": "nmt_nfkc_cf"},
    {"add_dummy_prefix": False},
    {"remove_extra_whitespaces": False},
    {"split_by_whitespace": False},
]


# Gemma's: nothing is normalised, and some pieces are found before anything is joined.
GEMMA = {"model_type": "bpe", "normalization_rule_name": "identity", "add_dummy_prefix": False, "byte_fallback": True}
GEMMA |= {"remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True, "vocab_size": 600}
GEMMA |= {"user_defined_symbols": ["▁▁", "▁▁▁", "\t", "\n", "\n\n", "<h1>", "</h1>", "the"]}
BPE = [{**s, "model_type": "bpe"} for s in SETTINGS]


@pytest.mark.parametrize("settings", [*SETTINGS, *BPE, GEMMA], ids=lambda s: ",".join(s) or "plain")
def test_ids_of_trained_models(settings, tmp_path):
    content, theirs = trained(**settings)
    (tmp_path / "spiece.model").write_bytes(content)
    vocabulary = theirs.get_piece_size()
    text, words = tokenizer.read(tmp_path, {"vocab": vocabulary}, {"length": 6000, "bos": None, "eos": None, "lower": False})
    (tmp_path / "tokenizer.json").write_text(text)
    ours = Tokenise(str(tmp_path), **words, empty=True)
    for text in HARD:
        ids = theirs.encode(text)
        assert ours.rows((text,))["text"].tolist() == ids + [0] * (6000 - len(ids)), text[:40]


# Latin, marks, Hebrew, Arabic, Devanagari, jamo, format characters, signs, kana, Hangul, compatibility forms, emoji, maths.
BLOCKS = [(1, 592), (768, 880), (1425, 1525), (1536, 1792), (2304, 2432), (4352, 4608), (8192, 8304), (8448, 8704)]
BLOCKS += [(12352, 12544), (12592, 12688), (44032, 44096), (63744, 64000), (64256, 65536), (127744, 128592), (119808, 120064)]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("rule", ["nmt_nfkc", "nfkc", "nmt_nfkc_cf"])
def test_random_strings_of_hard_characters(rule, kind, tmp_path):
    characters = [chr(c) for block in BLOCKS for c in range(*block)] + list(" eaoi" * 80)
    settings = {"normalization_rule_name": rule, "model_type": kind, "byte_fallback": True, "vocab_size": 600}
    same_ids(*trained(**settings), tmp_path, characters, 3000, 11)


# Where a piece can be cut in several ways, which of them is joined depends on what stands beside it.
PARTS = ["a", "b", "-", " ", "aa", "ab", "ba", "--", "  ", "aba", "abab", "<h1>", "the", "\n"]


@pytest.mark.parametrize("settings", [GEMMA, {"model_type": "bpe"}], ids=["gemma", "plain"])
def test_random_strings_of_few_characters(settings, tmp_path):
    rng = np.random.default_rng(1)
    lines = ["".join(rng.choice(PARTS[:4], rng.integers(1, 40))) for _ in range(500)] + ["-" * i for i in range(40)]
    same_ids(*trained([*lines, "the <h1>"], **settings), tmp_path, PARTS, 3000, 20)


def same_ids(content, theirs, folder, characters, count, longest):
    (folder / "spiece.model").write_bytes(content)
    words = {"length": 200, "bos": None, "eos": None, "lower": False}
    text, words = tokenizer.read(folder, {"vocab": theirs.get_piece_size()}, words)
    (folder / "tokenizer.json").write_text(text)
    ours = Tokenise(str(folder), **words, empty=True)
    rng, characters = np.random.default_rng(0), np.array(characters)
    for _ in range(count):
        text = "".join(rng.choice(characters, rng.integers(longest)))
        ids = theirs.encode(text)
        assert ours.rows((text,))["text"].tolist() == ids + [0] * (200 - len(ids)), ascii(text)


def rows(folder, path, vocabulary, words):
    """Our ids of TEXTS by the tokenizer of a folder, and the keywords of `tokenise`."""
    content, words = tokenizer.read(folder, {"vocab": vocabulary}, words)
    path.write_text(content)
    transform = registry.build(TRANSFORMS, {"name": "tokenise", "tokenizer": str(path), "empty": True, **words})
    found = [transform({"text": text}, np.random.default_rng(0))["text"].tolist() for text in TEXTS]
    return content, words, found


def again(folder):
    """What transformers makes of TEXTS with the tokenizer that lies in a folder."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    return theirs(TEXTS, padding="max_length", truncation=True, max_length=64)["input_ids"]


def test_siglip(tmp_path):
    transformers = pytest.importorskip("transformers")
    content, library = trained(vocab_size=330)
    (tmp_path / "spiece.model").write_bytes(content)
    theirs = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"))
    # Theirs takes "▁" for a space, as SentencePiece writes one; _ for nothing, where big_vision has a space.
    wanted = theirs(TEXTS, padding="max_length", truncation=True, max_length=64)["input_ids"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "</s>"}))
    size = library.get_piece_size()
    text, words, found = rows(
        tmp_path, tmp_path / "ours.json", size, siglip.text({"image": {"name": "vit"}, "text": {"vocab": size, "length": 64}})
    )
    assert words["pad_id"] == 1
    for text_, ours, want in zip(TEXTS, found, wanted, strict=True):
        if "▁" not in text_:
            assert ours == want, text_[:40]
    assert [row[-1] for row in found] == [1] * len(TEXTS)  # </s> closes and fills
    (tmp_path / "back").mkdir()
    tokenizer.write(tmp_path / "back", "siglip", text, words)
    # The file alone, read by `tokenizers`, which finds the table's entries its own way (data/charsmap.py).
    composed = [unicodedata.normalize("NFC", text_) == text_ and "İ" not in text_ for text_ in TEXTS]
    for ok, text_, ours, want in zip(composed, TEXTS, found, again(tmp_path / "back"), strict=True):
        assert ours == want or not ok, text_[:40]


def gemma(folder):
    """A tokenizer.json of Gemma's kind: BPE over characters with spaces as ▁, and bytes for what is unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    transformers = pytest.importorskip("transformers")
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokens = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokens.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=[*specials, *bytes_], show_progress=False)
    lines = ["the quick brown fox", "photographs and photos of words and wording", "a photo of a cat", "中文字幕"] * 3
    tokens.train_from_iterator([line.replace(" ", "▁") for line in lines], trainer)
    parts = json.loads(tokens.to_str())["model"]
    theirs = transformers.Siglip2Tokenizer(
        vocab=parts["vocab"], merges=[tuple(m) for m in parts["merges"]], padding_side="right"
    )
    theirs.add_bos_token, theirs.add_eos_token = False, True
    if hasattr(theirs, "update_post_processor"):
        theirs.update_post_processor()
    theirs.save_pretrained(folder)
    return theirs


def test_siglip_2(tmp_path):
    theirs = gemma(tmp_path)
    wanted = theirs(TEXTS, padding="max_length", truncation=True, max_length=64)["input_ids"]
    assert wanted[1] == [1] + [0] * 63  # <eos>, then <pad>
    text, words, found = rows(
        tmp_path, tmp_path / "ours.json", 420, siglip.text({"image": {"name": "vit"}, "text": {"vocab": 256_000, "length": 64}})
    )
    for text_, ours, want in zip(TEXTS, found, wanted, strict=True):
        assert ours == want, text_[:40]
    (tmp_path / "back").mkdir()
    tokenizer.write(tmp_path / "back", "siglip", text, words)
    for text_, ours, want in zip(TEXTS, found, again(tmp_path / "back"), strict=True):
        assert ours == want, text_[:40]


def test_siglip_2_with_a_file_of_sentencepiece(tmp_path):
    """Gemma's own tokenizer.model: <eos> closes, <pad> fills, the text is lowered first."""
    names = {f"{name}_piece": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    content, theirs = trained(**GEMMA, **names, bos_id=2, unk_id=3)
    (tmp_path / "tokenizer.model").write_bytes(content)
    policy = siglip.text({"image": {"name": "naflex"}, "text": {"vocab": 600, "length": 64}})
    text, words, found = rows(tmp_path, tmp_path / "ours.json", theirs.get_piece_size(), policy)
    (tmp_path / "back").mkdir()
    tokenizer.write(tmp_path / "back", "siglip2", text, words)
    for text_, ours, kept in zip(TEXTS, found, again(tmp_path / "back"), strict=True):
        wanted = [*theirs.encode(text_.lower())[:63], 1]
        assert ours == wanted + [0] * (64 - len(wanted)), text_[:40]
        assert kept == ours or "<eos>" in text_  # a name in a text is the token itself over there
