import io
import pickle

import numpy as np
import pytest
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.core.registry import build
from mmjax.data import decode
from mmjax.data.transforms import TRANSFORMS
from mmjax.data.transforms.text import load_tokenizer, tokenizer_json


def apply(name, record, seed=0, **keywords):
    return build(TRANSFORMS, {"name": name, **keywords})(record, np.random.default_rng(seed))


def picture(*values):
    """Grey pixels, one list of values a row."""
    return {"image": np.repeat(np.array(values, np.uint8)[..., None], 3, -1)}


def encoded(image, form="PNG"):
    file = io.BytesIO()
    image.save(file, form)
    return {"image": file.getvalue()}


def near(a, b, mean):
    """Equal but for rounding: no value is off by more than 2, and the mean by no more than `mean` of 255."""
    error = np.abs(a.astype(int) - b)
    return error.max() <= 2 and error.mean() < mean


def photograph(height, width):
    """Edges, gradients and noise: what a resampler can get wrong."""
    y, x = np.mgrid[:height, :width] / 40
    waves = 110 + 60 * np.sin(x * y)[..., None] * np.array([1, 0.7, -1]) + 40 * (np.floor(x) % 2 == 0)[..., None]
    noise = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    return np.clip(waves + noise, 0, 255).astype(np.uint8)


def test_decode_passes_arrays():
    record = picture([1])
    assert apply("decode", record) is record


@pytest.mark.parametrize("shape", [(50, 70), (375, 500), (97, 301), (20, 14)])
def test_resize_squashes_as_pillow_does(shape):
    image = photograph(*shape)
    expected = np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.BICUBIC))
    assert near(apply("resize", {"image": image}, size=24)["image"], expected, 0.02)


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (64, 64), (31, 100), (100, 70)])
def test_resize_shortest_is_clips(shape):
    # torchvision's Resize(24, bicubic) and CenterCrop(24), in Pillow.
    image, (height, width) = Image.fromarray(photograph(*shape)), shape
    w, h = (24, int(24 * height / width)) if width <= height else (int(24 * width / height), 24)
    left, top = round((w - 24) / 2.0), round((h - 24) / 2.0)
    expected = image.resize((w, h), Image.Resampling.BICUBIC).crop((left, top, left + 24, top + 24))
    got = apply("resize", {"image": np.asarray(image)}, size=24, mode="shortest")["image"]
    assert near(got, np.asarray(expected), 0.05)


def test_resize_longest_frames_the_picture():
    image = photograph(30, 60)
    got = apply("resize", {"image": image}, size=12, mode="longest", fill=7)["image"]
    expected = np.asarray(Image.fromarray(image).resize((12, 6), Image.Resampling.BICUBIC))
    assert near(got[3:9], expected, 0.05)
    assert (got[:3] == 7).all()
    assert (got[9:] == 7).all()
    # A line keeps a pixel of its own.
    assert (apply("resize", {"image": photograph(1, 100)}, size=12, mode="longest")["image"] != 0).any()


def test_resize_crop_keeps_the_centre():
    # 2 x 4: the middle two columns remain, at their size.
    assert apply("resize", picture([1, 2, 3, 4], [5, 6, 7, 8]), size=2, mode="crop")["image"][..., 0].tolist() == [
        [2, 3],
        [6, 7],
    ]
    with pytest.raises(UserError, match="squash"):
        apply("resize", picture([1]), size=2, mode="stretch")


def test_random_resized_crop_of_everything_is_a_resize():
    image = photograph(96, 96)
    whole = apply("random_resized_crop", {"image": image}, size=16, scale=(1.0, 1.0), ratio=(1.0, 1.0))["image"]
    assert near(whole, np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC)), 0.5)


def test_random_resized_crop_decodes_large_photographs_small():
    class Watched(decode.Jpeg):
        def pixels(self, shrink=1):
            shrinks.append(shrink)
            return super().pixels(shrink)

    # As large photographs are: not sharp at every pixel.
    shrinks, image = [], Image.fromarray(photograph(300, 300)).resize((600, 600), Image.Resampling.BICUBIC)
    data = encoded(image, "JPEG")["image"]
    opened, whole = decode.opened(data), Image.fromarray(decode.decode(data))
    if not isinstance(opened, decode.Jpeg):
        pytest.skip("without simplejpeg JPEGs are decoded whole")
    opened.__class__ = Watched
    for size, shrink in ((24, 8), (25, 8), (26, 4), (101, 1), (100, 2)):
        crop = {"size": size, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
        got = apply("random_resized_crop", {"image": opened}, **crop)["image"]
        assert shrinks.pop() == shrink
        error = np.abs(got.astype(int) - np.asarray(whole.resize((size, size), Image.Resampling.BICUBIC)))
        assert error.mean() < 0.5


def test_random_resized_crop_takes_its_share_of_the_area():
    # A ramp from 0 to 250: a quarter of the area at ratio 1 is half of the width, so values span half of the range.
    ramp = {"image": np.broadcast_to(np.linspace(0, 250, 100).astype(np.uint8)[None, :, None], (100, 100, 3))}
    for seed in range(5):
        image = apply("random_resized_crop", ramp, seed, size=50, scale=(0.25, 0.25), ratio=(1.0, 1.0))["image"]
        assert image.shape == (50, 50, 3)
        assert abs(float(np.ptp(image)) - 125) < 8


def test_random_shift_moves_whole_pixels_and_pads_with_white():
    image = np.arange(1, 10, dtype=np.uint8).reshape(3, 3)
    seen = set()
    for seed in range(60):
        shifted = apply("random_shift", picture(*image.tolist()), seed, pixels=1)["image"][..., 0]
        padded = np.pad(image, 1, constant_values=255)
        places = [(y, x) for y in range(3) for x in range(3) if (padded[y : y + 3, x : x + 3] == shifted).all()]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 9


def test_random_shift_scales_about_the_centre():
    # A black square of 8 on 16 white pixels, at half the scale, is one of 4: a quarter of the ink.
    image = np.full((16, 16, 3), 255, np.uint8)
    image[4:12, 4:12] = 0
    ink = (255 - apply("random_shift", {"image": image}, pixels=0, scale=(0.5, 0.5))["image"].astype(float)) / 255
    assert ink[..., 0].sum() == pytest.approx(16, rel=0.05)
    assert ink[8:, :, 0].sum() == pytest.approx(8, rel=0.05)  # half of it below the middle


def test_random_shift_resizes_in_the_same_pass():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    both = apply("random_shift", {"image": image}, pixels=0, size=4)["image"]
    assert near(both, apply("resize", {"image": image}, size=4)["image"], 0.1)


def test_colour_jitter_by_hand():
    class Highest(np.random.Generator):
        def uniform(self, low, high):
            return high

    def jitter(image, **keywords):
        return build(TRANSFORMS, {"name": "colour_jitter", **keywords})(image, Highest(np.random.PCG64(0)))["image"]

    # Brightness x 1.5, clipped.
    assert jitter(picture([100, 200]), brightness=0.5)[..., 0].tolist() == [[150, 255]]
    # Contrast x 1.5 about the mean 60.
    assert jitter(picture([40, 80]), contrast=0.5)[..., 0].tolist() == [[30, 90]]
    # Saturation x 1.5 about the luma 0.299 * 100 = 29.9: 29.9 + 1.5 * 70.1 = 135.05; 29.9 - 1.5 * 29.9 < 0.
    assert jitter({"image": np.array([[[100, 0, 0]]], np.uint8)}, saturation=0.5).tolist() == [[[135, 0, 0]]]
    assert jitter(picture([40, 80])).tolist() == picture([40, 80])["image"].tolist()


def test_flip_mirrors_half_of_the_time():
    record = picture([1, 2, 3])
    assert apply("flip", record, p=1.0)["image"][0, :, 0].tolist() == [3, 2, 1]
    assert apply("flip", record, p=0.0) is record
    assert 30 < sum(apply("flip", record, seed)["image"][0, 0, 0] == 3 for seed in range(100)) < 70


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"length": 6}, [1, 100, 101, 2, 0, 0]),  # a = 97 + 3
        ({"length": 3}, [1, 100, 2]),  # cut, and EOS stays
        ({"length": 4, "bos": None}, [100, 101, 2, 0]),
        ({"length": 4, "bos": None, "eos": None, "pad_id": 9}, [100, 101, 9, 9]),
        ({"length": 4, "lower": False, "bos": None}, [68, 101, 2, 0]),  # A = 65 + 3
    ],
)
def test_tokenise_bytes_by_hand(keywords, expected):
    record = apply("tokenise", {"text": "Ab"}, tokenizer="bytes", **keywords)
    assert record["text"].tolist() == expected
    assert record["text"].dtype == np.int32
    assert record["caption"] == "Ab"


@pytest.fixture
def tokenizer(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[PAD]": 0, "[UNK]": 1, "[BOS]": 2, "[EOS]": 3, "red": 4, "cat": 5}
    tokens = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_tokenise_with_a_tokenizer_file(tokenizer):
    for path in (tokenizer, tokenizer / "tokenizer.json"):
        assert apply("tokenise", {"text": "Red dog cat"}, tokenizer=str(path), length=6)["text"].tolist() == [2, 4, 1, 5, 3, 0]
    assert apply("tokenise", {"text": "red cat cat"}, tokenizer=str(tokenizer), length=4)["text"].tolist() == [2, 4, 5, 3]
    assert tokenizer_json(str(tokenizer)) == load_tokenizer(str(tokenizer)).to_str()
    assert tokenizer_json("bytes") is None
    transform = build(TRANSFORMS, {"name": "tokenise", "tokenizer": str(tokenizer), "length": 3})
    assert pickle.loads(pickle.dumps(transform))({"text": "cat"}, np.random.default_rng(0))["text"].tolist() == [2, 5, 3]


def test_tokenise_pads_and_cuts_by_itself(tokenizer):
    """A tokenizer.json may ask for both, as that of sentence-transformers' MiniLM does."""
    tokens = load_tokenizer(str(tokenizer))
    tokens.enable_padding(length=6), tokens.enable_truncation(max_length=2)
    tokens.save(str(tokenizer / "tokenizer.json"))
    row = apply("tokenise", {"text": "red cat cat"}, tokenizer=str(tokenizer), length=8)
    assert row["text"].tolist() == [2, 4, 5, 5, 3, 0, 0, 0]
    assert row["text_cut"] == 0
    assert apply("tokenise", {"text": "red"}, tokenizer=str(tokenizer), length=8)["text"].tolist() == [2, 4, 3, 0, 0, 0, 0, 0]


def test_tokenise_says_what_is_missing(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path))
    with pytest.raises(UserError, match="mmjax data get openmoji"):
        apply("tokenise", {"text": ""}, tokenizer="openmoji", length=4)
    with pytest.raises(UserError, match="there is no tokenizer"):
        apply("tokenise", {"text": ""}, tokenizer="elsewhere/tokenizer.json", length=4)
    with pytest.raises(UserError, match=r"no token '\[CLS\]'"):
        apply("tokenise", {"text": ""}, tokenizer=str(tokenizer), length=4, bos="[CLS]")
    with pytest.raises(UserError, match="no room"):
        apply("tokenise", {"text": ""}, tokenizer="bytes", length=2)


def test_transforms_leave_their_input_as_it_was():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image.flags.writeable = False
    record = {"image": image, "text": "a"}
    for spec in (
        {"name": "resize", "size": 8},
        {"name": "random_resized_crop", "size": 8},
        {"name": "random_shift", "pixels": 2, "scale": (0.8, 1.2)},
        {"name": "colour_jitter", "brightness": 0.5, "contrast": 0.5, "saturation": 0.5},
        {"name": "flip", "p": 1.0},
        {"name": "tokenise", "tokenizer": "bytes", "length": 8},
    ):
        out = build(TRANSFORMS, spec)(record, np.random.default_rng(0))
        assert record["text"] == "a"
        assert out["image"].dtype == np.uint8
