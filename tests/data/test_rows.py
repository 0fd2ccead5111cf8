import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data.rows import BrokenCount, split, stack


def test_split_keeps_strings_on_the_host():
    batch = stack([{"id": "a", "image": np.zeros((2, 2, 3), np.uint8), "group": 7}] * 2)
    arrays, strings = split(batch)
    assert {name: (a.dtype, a.shape) for name, a in arrays.items()} == {
        "image": (np.uint8, (2, 2, 2, 3)),
        "group": (np.int32, (2,)),
    }
    assert strings["id"].tolist() == ["a", "a"]


def test_stack_names_pictures_of_two_sizes():
    with pytest.raises(UserError, match=r"'image' has shapes \[\(2, 2, 3\), \(4, 2, 3\)\].*resize"):
        stack([{"image": np.zeros((n, 2, 3), np.uint8)} for n in (2, 4)])


def test_broken_records_are_counted_over_a_window():
    count = BrokenCount(limit=0.1, window=20)  # 2 of the latest 20 are accepted
    assert count.add(np.array(["", "a: bad", ""])) == 1
    assert count.add(np.array(["b: bad"])) == 1
    with pytest.raises(UserError, match=r"3 broken records among the latest 5.*\n.*c: worse"):
        count.add(np.array(["c: worse"]))
    assert count.total == 3


def test_the_window_forgets():
    count = BrokenCount(limit=0.1, window=20)
    for _ in range(10):
        assert count.add(np.array(["x: bad"] + [""] * 9)) == 1  # one of ten, again and again
    assert count.total == 10


def test_no_broken_record_is_accepted_at_limit_zero():
    with pytest.raises(UserError, match="a: bad"):
        BrokenCount(limit=0.0).add(np.array(["a: bad", ""]))
