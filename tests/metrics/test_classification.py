import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.metrics.classification import accuracy

SCORES = np.array([[9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [4, 9, 5, 6, 7, 8]], np.float32)


def test_by_hand():
    got = accuracy(SCORES, np.array([0, 0, 4, 1]))
    assert got == {"top1": 0.75, "top5": 1.0, "mean_class": pytest.approx(2 / 3)}
    assert accuracy(SCORES, np.array([5, 0, 5, 0])) == {"top1": 0.25, "top5": 0.25, "mean_class": 0.25}


def test_rows_without_a_label_are_left_out():
    assert accuracy(SCORES, np.array([0, -1, -1, 0])) == {"top1": 0.5, "top5": 0.5, "mean_class": 0.5}


def test_ties_and_nan_are_misses():
    assert accuracy(np.zeros((2, 6)), np.array([0, 3]))["top5"] == 0
    assert accuracy(np.full((1, 2), np.nan), np.array([0]))["top1"] == 0
    assert accuracy(np.array([[1.0, np.nan]]), np.array([0]))["top1"] == 0


def test_bad_input():
    with pytest.raises(UserError, match="label 6 is not one of 6 classes"):
        accuracy(SCORES, np.array([0, 1, 2, 6]))
    with pytest.raises(UserError, match="none of 4 rows"):
        accuracy(SCORES, np.full(4, -1))
