"""Pixels and token ids against the processors that published models come with.

Pixels: within 1 of 255 of Hugging Face's Pillow processors, on photographs (those inside scikit-learn) cut to odd sizes and
stored in every way that people store them. Token ids: equal on strings that are hard.
"""

import gzip
import io
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmjax.convert import preprocess, tokenizer
from mmjax.core import registry
from mmjax.data.transforms import TRANSFORMS

transformers = pytest.importorskip("transformers")

HARD = [
    "a photo of a cat",
    "",
    "   two  spaces\tand\na line  ",
    "It's 25% off!! (really?) #1 -- e.g. U.S.A.",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 and ❤️",
    "中文字幕 日本語テキスト 한국어",
    "مرحبا بالعالم",
    "e\u0301 n\u0303 combining, \u0130stanbul, Straße, ﬁ",
    "zero\u200bwidth \x00\x07 control \ufeff bom",
    "a" * 3000,
    "word " * 500,
]


def photographs():
    spec = find_spec("sklearn")
    if spec is None:
        pytest.skip("scikit-learn, whose photographs are looked at, is not installed")
    return [Image.open(path) for path in sorted((Path(spec.origin).parent / "datasets" / "images").glob("*.jpg"))]


def stored(picture, kind):
    """(encoded, what the processor is given)"""
    out = io.BytesIO()
    if kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(out, "JPEG", quality=92, exif=exif)
    elif kind == "cmyk":
        picture.convert("CMYK").save(out, "JPEG", quality=92)
    elif kind == "alpha":
        layer = picture.convert("RGBA")
        layer.putalpha(picture.convert("L"))
        layer.save(out, "PNG")
    else:
        picture.convert({"jpeg": "RGB", "grey": "L", "palette": "P", "png": "RGB"}[kind]).save(
            out, "JPEG" if kind == "jpeg" else "PNG"
        )
    encoded = out.getvalue()
    given = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    if kind == "alpha":  # ours lie on white, where converting to RGB would show what lay hidden
        ground = Image.new("RGBA", given.size, "white")
        ground.alpha_composite(given)
        given = ground
    return encoded, given.convert("RGB")


PROCESSORS = {
    "CLIPImageProcessorPil": {"size": {"shortest_edge": 61}, "crop_size": {"height": 61, "width": 61}},
    "SiglipImageProcessorPil": {"size": {"height": 61, "width": 61}},
    "ViTImageProcessorPil": {"size": {"height": 61, "width": 61}},
    "BitImageProcessorPil": {"size": {"shortest_edge": 70}, "crop_size": {"height": 61, "width": 61}},
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("kind", ["jpeg", "png", "grey", "palette", "alpha", "cmyk", "exif"])
def test_pixels(name, kind, tmp_path):
    if not hasattr(transformers, name):
        pytest.skip(f"this transformers has no {name}")
    theirs = getattr(transformers, name)(**PROCESSORS[name])
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    resize, pixels = preprocess._hugging_face(json.loads(file.read_text()), file, 61, {}, {"mean": [], "std": []})
    assert (pixels["mean"], pixels["std"]) == (list(theirs.image_mean), list(theirs.image_std))
    ours = [registry.build(TRANSFORMS, spec) for spec in ({"name": "decode"}, resize)]
    for picture, size in zip(photographs(), [(333, 227), (201, 399)], strict=False):
        encoded, given = stored(picture.crop((11, 7, 11 + size[0], 7 + size[1])), kind)
        record = {"image": encoded}
        for transform in ours:
            record = transform(record, np.random.default_rng(0))
        want = theirs(given, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        assert record["image"].shape == want.shape
        found, limit = np.asarray(record["image"], float), 1
        if resize["mode"] == "squash" and given.height > given.width:
            # Pillow 13 passes over the columns of tall pictures first; earlier ones, and ours, over the rows.
            filter = Image.Resampling[resize.get("filter", "bicubic").upper()]
            limit, rows_first = 3, given.resize((61, given.height), filter).resize((61, 61), filter)
            assert np.abs(found - np.asarray(rows_first)).max() <= 1
        assert np.abs(found - want).max() <= limit


def rows(tokens, words, texts, path):
    tokens.save(str(path / "ours.json"))
    transform = registry.build(TRANSFORMS, {"name": "tokenise", "tokenizer": str(path / "ours.json"), "empty": True, **words})
    return [transform({"text": text}, np.random.default_rng(0))["text"].tolist() for text in texts]


def clip_files(folder):
    """vocab.json and merges.txt of CLIP, as Hugging Face made them of OpenAI's table, from open_clip's copy of it."""
    open_clip = pytest.importorskip("open_clip")
    table = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(table.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    from open_clip.tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), *("".join(line.split()) for line in lines)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")


def test_clip_token_ids(tmp_path):
    clip_files(tmp_path)
    words = {"length": 77, "bos": "<|startoftext|>", "eos": "<|endoftext|>", "lower": False}
    tokens, words = tokenizer.read(tmp_path, {"vocab": 49408}, words)
    from tokenizers import Tokenizer

    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    wanted = theirs(HARD, padding="max_length", truncation=True, max_length=77)["input_ids"]
    pad = theirs.pad_token_id
    found = rows(Tokenizer.from_str(tokens), {**words, "pad_id": pad}, HARD, tmp_path)
    for text, ours, want in zip(HARD, found, wanted, strict=True):
        assert ours == want, text[:40]
    import open_clip

    plain = [
        HARD[0],
        HARD[1],
        HARD[2],
        HARD[3],
        HARD[5],
        HARD[6],
        HARD[9],
        HARD[10],
    ]  # the others ftfy and html.unescape rewrite
    for text, ours, want in zip(
        plain,
        rows(Tokenizer.from_str(tokens), {**words, "pad_id": 0}, plain, tmp_path),
        open_clip.SimpleTokenizer()(plain).tolist(),
        strict=True,
    ):
        assert ours == want, text[:40]


@pytest.mark.parametrize("lower", [True, False])
def test_bert_token_ids(lower, tmp_path):
    letters = sorted(set("".join(HARD).lower()) | set("".join(HARD)) - set(" \t\n"))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "photo", "##ords", "word", "cat", *letters]
    vocabulary += [f"##{letter}" for letter in letters]
    vocabulary = [word for word in dict.fromkeys(vocabulary) if word.strip() and word.isprintable()]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower, "pad_token": "[PAD]"}))
    words = {"length": 32, "bos": "[CLS]", "eos": "[SEP]", "pad_id": 0, "lower": False}
    tokens, words = tokenizer.read(tmp_path, {"vocab": len(vocabulary)}, words)
    from tokenizers import Tokenizer

    table = {word: i for i, word in enumerate(vocabulary)}
    theirs = transformers.BertTokenizer(vocab=table, do_lower_case=lower)
    wanted = theirs(HARD, padding="max_length", truncation=True, max_length=32)["input_ids"]
    for text, ours, want in zip(HARD, rows(Tokenizer.from_str(tokens), words, HARD, tmp_path), wanted, strict=True):
        assert ours == want, text[:40]
