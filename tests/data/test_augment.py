import numpy as np
import pytest
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.core.registry import build
from mmjax.data.transforms import TRANSFORMS
from mmjax.data.transforms.augment import RandAugment

# 3 x 4 grey pixels, all different.
GREY = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
COLOUR = Image.fromarray(np.repeat(GREY[..., None], 3, -1))


def applied(name, magnitude, sign=1, picture=COLOUR, fill=0):
    result = RandAugment(magnitude=magnitude, fill=fill).apply(picture, name, sign)
    return np.asarray(result)[..., 0].tolist()


def test_there_are_fourteen_operations():
    assert len(RandAugment.OPERATIONS) == 14 == len(set(RandAugment.OPERATIONS))


def test_magnitude_zero_changes_nothing_but_what_has_none():
    for name in set(RandAugment.OPERATIONS) - {"auto_contrast", "equalise"}:
        assert applied(name, 0) == GREY.tolist(), name


# By hand; each was also compared with torchvision's, at magnitudes 0, 4, 9, 17 and 30 and both signs: no value differs.
@pytest.mark.parametrize(
    ("name", "magnitude", "sign", "expected"),
    [
        # int(4 * 150 / 331) = 1 pixel to the right; int(3 * 150 / 331) = 1 pixel up.
        ("translate_x", 30, 1, [[9, 0, 20, 40], [9, 80, 100, 120], [9, 160, 180, 200]]),
        ("translate_y", 30, -1, [[80, 100, 120, 140], [160, 180, 200, 220], [9, 9, 9, 9]]),
        # Row y reads from x + 0.3 (y + 0.5) + 0.5, cut: 0.15, 0.45 and 0.75 to the right of the pixel's middle.
        ("shear_x", 30, 1, [[0, 20, 40, 60], [80, 100, 120, 140], [180, 200, 220, 9]]),
        ("brightness", 30, 1, [[0, 38, 76, 114], [152, 190, 228, 255], [255, 255, 255, 255]]),
        ("brightness", 10, -1, [[0, 14, 28, 42], [56, 70, 84, 98], [112, 126, 140, 154]]),
        ("colour", 30, 1, GREY.tolist()),
        # The mean is 110: 110 + 0.1 (x - 110).
        ("contrast", 30, -1, [[99, 101, 103, 105], [107, 109, 111, 113], [115, 117, 119, 121]]),
        # 8 - 4 bits stay.
        ("posterise", 30, 1, [[0, 16, 32, 48], [80, 96, 112, 128], [160, 176, 192, 208]]),
        # From 255 * (1 - 0.5) = 127.5 on: 255 - x.
        ("solarise", 15, 1, [[0, 20, 40, 60], [80, 100, 120, 115], [95, 75, 55, 35]]),
        # 0 ... 220 to 0 ... 255.
        ("auto_contrast", 9, 1, [[0, 23, 46, 69], [92, 115, 139, 162], [185, 208, 231, 255]]),
        ("identity", 30, 1, GREY.tolist()),
    ],
)
def test_operations_by_hand(name, magnitude, sign, expected):
    assert applied(name, magnitude, sign, fill=9) == expected


def test_rotate_turns_by_up_to_thirty_degrees_about_the_centre():
    image = Image.new("RGB", (41, 41))
    image.putpixel((36, 20), (255, 255, 255))
    image = image.resize((41, 41))
    bright = np.argwhere(np.array(applied("rotate", 30, 1, image)) == 255)
    # 16 to the right of the centre, 30 degrees against the clock: 13.9 to the right and 8 up.
    assert [12, 34] in bright.tolist()


def test_equalise_spreads_the_histogram():
    # 32 levels, each in 128 pixels, become all of 0 to 255.
    ramp = Image.fromarray(np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None], (32, 128, 3)).copy())
    spread = np.array(applied("equalise", 9, 1, ramp))[:, 0]
    assert (spread.min(), spread.max()) == (0, 255)
    assert set(np.diff(spread).tolist()) <= {0, 8, 9}


def test_rand_augment_draws_from_the_records_numbers():
    record = {"image": np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)}
    transform = build(TRANSFORMS, {"name": "rand_augment", "operations": 2, "magnitude": 9})
    results = [transform(record, np.random.default_rng(seed))["image"] for seed in range(30)]
    assert {result.shape for result in results} == {(32, 32, 3)}
    assert len({result.tobytes() for result in results}) > 15
    np.testing.assert_array_equal(results[3], transform(record, np.random.default_rng(3))["image"])
    none = build(TRANSFORMS, {"name": "rand_augment", "operations": 0})(record, np.random.default_rng(0))["image"]
    np.testing.assert_array_equal(none, record["image"])
    with pytest.raises(UserError, match="magnitude 31"):
        RandAugment(magnitude=31)
