import sys

import numpy as np
import pytest
from PIL import Image

from mmjax.data import resample as module
from mmjax.data.resample import resample

NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def pillow(image, box, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box))


def error(a, b):
    return np.abs(a.astype(int) - b)


# Smaller, larger, one side only, one pixel; whole, between pixels, a hair's breadth of the picture.
@pytest.mark.parametrize("shape", [(30, 40), (24, 24), (180, 250), (90, 40), (1, 1)])
@pytest.mark.parametrize("box", [(0, 0, 120, 90), (3.25, 7.5, 99.75, 88.125), (119.5, 89.5, 120, 90)])
def test_resample_is_pillows(box, shape):
    expected = pillow(NOISE, box, *shape)
    exact, rough = (error(resample(NOISE, box, *shape, exact=exact), expected) for exact in (True, False))
    assert exact.max() <= 2
    assert exact.mean() < 0.02
    assert rough.mean() < 0.7  # of noise, the worst there is


def test_resample_shrinks_forty_times():
    image = np.random.default_rng(0).integers(0, 256, (960, 1280, 3), np.uint8)
    assert error(resample(image, (0, 0, 1280, 960), 24, 32), pillow(image, (0, 0, 1280, 960), 24, 32)).mean() < 0.05


def test_resample_by_hand():
    # Halved, result 1 stands at 3 of 8 and sees, beyond the edge at 4, pixels 4 to 6, at 0.75, 1.25 and 1.75 of the filter's
    # unit: 0.2266 - 0.0703 - 0.0234 of all it sees, 2.0234 without the one pixel that is not there: 16.7. Result 2 is its
    # mirror image. Result 0 sees one bright pixel at 1.75, less than nothing.
    row = np.repeat(np.array([0] * 4 + [255] * 4, np.uint8)[None, :, None], 3, -1)
    assert resample(row, (0, 0, 8, 1), 1, 4)[0, :, 0].tolist() == [0, 17, 238, 255]


def test_whole_pixels_are_not_resampled():
    part = resample(NOISE, (5, 6, 15, 26), 20, 10)
    np.testing.assert_array_equal(part, NOISE[6:26, 5:15])
    # A box may stick out by an ulp.
    assert resample(NOISE, (-1e-14, 0, 120.00000000001, 90), 10, 10).shape == (10, 10, 3)


def test_resample_takes_views_and_leaves_them():
    mirrored = NOISE[:, ::-1]
    mirrored.flags.writeable = False
    straight = resample(np.ascontiguousarray(mirrored), (1, 2, 100, 80), 20, 30)
    np.testing.assert_array_equal(resample(mirrored, (1, 2, 100, 80), 20, 30), straight)


def test_pillow_stands_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "cykooz_resizer", None)
    module._simd.cache_clear()
    box = (3.25, 7.5, 99.75, 88.125)
    np.testing.assert_array_equal(resample(NOISE, box, 20, 30), pillow(NOISE, box, 20, 30))
    module._simd.cache_clear()
