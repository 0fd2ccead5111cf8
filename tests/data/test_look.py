"""What is noted of one record."""

import io

import numpy as np
import pytest
from PIL import Image

from mmjax.data.look import captions_of, look, phash, scripts, trouble, wrong_with


def drawing(seed, side=96):
    """A picture with detail at low frequencies."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def bits(a, b):
    return (a ^ b).bit_count()


def test_the_hash_of_a_picture_survives_scaling_and_jpeg_and_tells_pictures_apart():
    picture = drawing(0)
    smaller = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BICUBIC))
    jpeg = np.asarray(Image.open(io.BytesIO(encoded(picture, "JPEG", quality=60))))
    assert bits(phash(picture), phash(smaller)) <= 4
    assert bits(phash(picture), phash(jpeg)) <= 4
    others = [bits(phash(picture), phash(drawing(seed))) for seed in range(1, 20)]
    assert min(others) > 12
    assert bits(phash(picture), phash(255 - picture)) == 64  # every frequency's sign turns


def test_a_picture_without_detail_has_no_hash():
    assert phash(np.full((50, 40, 3), 200, np.uint8)) == 0
    assert phash(np.random.default_rng(0).integers(127, 129, (64, 64, 3), dtype=np.uint8)) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red fox", {"Latin"}),
        ("红狐 fox", {"Han", "Latin"}),
        ("Привет, Κόσμε", {"Cyrillic", "Greek"}),
        ("かな カナ", {"Hiragana", "Katakana"}),
        ("12 + 3 = 15!", {"no letters"}),
        ("", {"no letters"}),
    ],
)
def test_scripts_of_a_caption(text, expected):
    assert scripts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a café in Köln", []),
        ("红狐", []),
        (" \n", ["empty"]),
        ("x" * 10_001, ["longer than 10,000 characters"]),
        ("a\0b", ["holds a NUL character"]),
        ("caf\ufffd", ["holds U+FFFD, which stands for undecodable bytes"]),
        ("café".encode().decode("latin-1"), ["UTF-8 that was read as Latin-1"]),
        ("a “quote”".encode().decode("cp1252", "ignore"), []),  # its last byte is lost, so nothing is certain
        ("naïve €".encode().decode("cp1252"), ["UTF-8 that was read as Latin-1"]),
    ],
)
def test_what_is_wrong_with_a_caption(text, expected):
    assert wrong_with(text) == expected


def test_captions_of_a_record():
    assert captions_of({"texts": ["a", b"\xe4\xb8\xad"], "text": "left out"}) == ["a", "中"]
    assert captions_of({"text": "b"}) == ["b"]
    assert captions_of({"question": "q?", "answers": ["a", "b"]}) == ["q? a"]
    assert captions_of({"question": "q?"}) == ["q?"]
    assert captions_of({"label": 3}) == []
    with pytest.raises(TypeError, match="no string"):
        captions_of({"text": 3.5})


def test_one_kind_for_errors_that_differ_in_numbers_and_names():
    kinds = {trouble("image", "x", ValueError(f"{n} x {n} pixels in '/data/{n}.png' and /data/{n}.jpg"))[0] for n in (3, 12345)}
    assert kinds == {"image: ValueError: N x N pixels in ... and ..."}
    kinds = {trouble("record", "x", ValueError(f"{name}.txt: the text is empty"))[0] for name in ("1F1E6-1F1F6", "b_c")}
    assert kinds == {"record: ValueError: ...: the text is empty"}


def test_a_record_that_is_read():
    picture = drawing(1, side=80)
    records = [
        {"id": "one", "image": encoded(picture), "texts": ["two words", "中"]},
        {"id": "two", "image": encoded(picture)[:300], "text": " "},
        {"image": picture, "label": 4},
    ]
    seen = look(records, frozenset([0, 1, 2]), range(4))
    assert seen.rows["number"].tolist() == [0, 1, 2]
    assert seen.rows["width"].tolist() == [80, 0, 80]
    assert seen.rows["phash"][0] == seen.rows["phash"][2] != 0
    assert seen.captions[["number", "characters", "words"]].tolist() == [(0, 9, 2), (0, 1, 1), (1, 1, 0)]
    assert seen.counts["formats"] == {"PNG": 2, "array": 1}
    assert seen.counts["scripts"] == {"Latin": 1, "Han": 1, "no letters": 1}
    assert [key for _, key, _ in seen.broken] == ["two", "two", "#3"]
    assert [kind.split(":")[0] for kind, _, _ in seen.broken] == ["image", "caption", "record"]
    assert [(card["id"], card["text"], "image" in card) for card in seen.cards] == [
        ("one", "two words", True),
        ("two", " ", False),
        ("#2", "4", True),
    ]


def test_sound_and_video():
    pytest.importorskip("soundfile")
    tone = np.sin(np.arange(8000) * 0.1).astype(np.float32)
    frames = np.stack([drawing(i, side=40) for i in range(12)])
    records = [{"audio": {"samples": tone, "rate": 8000}, "text": "a tone"}, {"video": frames, "text": "frames"}]
    seen = look(records, frozenset([0, 1]), [0, 1])
    assert seen.broken == []
    assert seen.rows["seconds"].tolist() == [1.0, 0.0]
    assert seen.rows["rate"].tolist() == [8000, 0]
    assert seen.rows[["width", "height"]].tolist() == [(0, 0), (40, 40)]
    sound, video = seen.cards
    assert sound["audio"].shape == (16_000,)
    assert sound["rate"] == 16_000
    assert video["video"].shape == (6, 40, 40, 3)
