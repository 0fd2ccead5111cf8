"""Near duplicates and leaks, in numbers that can be counted by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.data import twins
from mmjax.data.look import CAPTION, ROW
from mmjax.data.twins import Twins, leaks, near_pairs, repeated

A, B = 0x0F0F_3C3C_55AA_9966, 0xFFFF_0000_1234_5678


def rows(*items):
    """(number, content, phash) each."""
    table = np.zeros(len(items), ROW)
    for name, column in zip(("number", "content", "phash"), zip(*items, strict=True), strict=True):
        table[name] = column
    return table


def captions(*items):
    table = np.zeros(len(items), CAPTION)
    table["number"], table["hash"] = zip(*items, strict=True)
    return table


def test_four_bits_are_near_and_five_are_not():
    hashes = np.array([A, A ^ 0b1111, A ^ (0b11111 << 30), B], np.uint64)
    pairs, complete = near_pairs(hashes)
    assert pairs.tolist() == [[0, 1]]
    assert complete


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(0, 63), max_size=6), min_size=1, max_size=12, unique_by=frozenset))
def test_all_pairs_are_found_wherever_their_bits_lie(flips):
    hashes = np.unique(np.array([A ^ sum(1 << bit for bit in bits) for bits in flips], np.uint64))
    numbered = itertools.combinations(enumerate(hashes.tolist()), 2)
    expected = [[i, j] for (i, a), (j, b) in numbered if (a ^ b).bit_count() <= 4]
    assert near_pairs(hashes)[0].tolist() == expected


def test_a_crowd_is_compared_in_part_and_that_is_said(monkeypatch):
    monkeypatch.setattr(twins, "CROWD", 3)
    hashes = np.arange(10, dtype=np.uint64)  # 0 to 9 differ in the lowest four bits
    pairs, complete = near_pairs(hashes)
    assert not complete
    assert 0 < len(pairs) < 45


def test_repeated_values_and_where_they_are():
    values, again, places = repeated(np.array([5, 9, 5, 7, 5, 7], np.uint64))
    assert (values, again) == (2, 3)  # 5 twice again, 7 once
    assert [place.tolist() for place in places] == [[0, 2, 4], [3, 5]]


def test_near_within_a_split_counts_other_bytes_only():
    # 0 and 1 are equal files; 2 looks the same; 3 differs from them in two bits; 4 is alone; 5 is flat.
    table = rows((0, 11, A), (1, 11, A), (2, 12, A), (3, 13, A ^ 3), (4, 14, B), (5, 15, 0))
    count, examples = Twins({"train": table}).within("train")
    assert count == 4
    assert examples == [(0, 2, 0), (3, 0, 2)] or examples == [(0, 2, 0), (0, 3, 2)]


def test_leaks_between_splits():
    train = rows((0, 11, A), (1, 12, B))
    test = rows((0, 11, A), (1, 99, A ^ 1), (2, 98, ~np.uint64(B)), (3, 97, 0))
    said = {"train": captions((0, 1), (1, 2)), "test": captions((0, 3), (2, 2), (2, 5), (3, 2))}
    pictures = {"train": train, "test": test}
    (leak,) = leaks(pictures, said, Twins(pictures))
    assert {key: leak[key] for key in ("from", "in", "records", "equal", "near", "captions")} == {
        "from": "train",
        "in": "test",
        "records": 4,
        "equal": 1,
        "near": 1,
        "captions": 2,
    }
    assert leak["examples"] == {"equal": [0], "near": [1], "captions": [2, 3]}


@pytest.mark.parametrize("size", [0, 1])
def test_few_hashes_have_no_pairs(size):
    pairs, complete = near_pairs(np.full(size, A, np.uint64))
    assert pairs.shape == (0, 2)
    assert complete
