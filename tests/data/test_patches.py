"""Pictures cut into patches that know their places."""

import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data.transforms.image import Patches, fitting


@pytest.mark.parametrize(
    "height, width, count, grid",
    [
        (32, 32, 4, (2, 2)),
        (64, 32, 8, (4, 2)),
        (16, 160, 9, (1, 9)),
        (1000, 10, 16, (16, 1)),
        (7, 7, 1, (1, 1)),
        (48, 64, 12, (3, 4)),
    ],
)
def test_the_largest_grid_that_fits(height, width, count, grid):
    assert fitting(height, width, 16, count) == grid


def test_patches_of_a_picture_by_hand():
    picture = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    found = Patches(patch=2, count=3)({"image": picture}, np.random.default_rng(0))["image"]
    assert found.shape == (3, 15)
    assert found[0].tolist() == [0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17, 1, 0, 0]
    assert found[1].tolist() == [6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23, 1, 0, 1]
    assert not found[2].any()


def test_what_cannot_be():
    with pytest.raises(UserError, match="patch 0 and count 4"):
        Patches(patch=0, count=4)
    with pytest.raises(ValueError, match="more than 256 patches in a line"):
        Patches(patch=1, count=900)({"image": np.zeros((1, 900, 3), np.uint8)}, np.random.default_rng(0))
