"""Duplicates: equal hashes, and perceptual hashes that differ in few bits; within a split and between splits."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt64

DISTANCE = 4  # bits of 64: pictures that people call the same; unrelated ones differ in 32 or so
BANDS = 6  # DISTANCE bits touch as many bands at most, so at least two of six are equal: fifteen keys of 21 or 22 bits
CROWD = 1_000  # neighbours under one key that a hash is compared with: drawings without detail crowd together
EXAMPLES = 12


def near_pairs(hashes: UInt64[np.ndarray, " n"], distance: int = DISTANCE) -> tuple[Int[np.ndarray, "p 2"], bool]:
    """All pairs (i < j) of distinct hashes at most `distance` <= 4 bits apart, and whether none was left out for CROWD."""
    codes, complete = [np.zeros(0, np.int64)], True
    edges = np.linspace(0, 64, BANDS + 1).astype(int)
    masks = [((1 << int(end - start)) - 1) << int(start) for start, end in itertools.pairwise(edges)]
    for some in itertools.combinations(masks, BANDS - DISTANCE):
        key = hashes & np.uint64(sum(some))
        order = np.argsort(key, kind="stable")
        key, left, shift = key[order], np.arange(len(hashes)), 0
        while left.size and shift < CROWD:
            shift += 1
            left = left[left + shift < len(key)]
            left = left[key[left] == key[left + shift]]  # equal keys lie together: what ends here is over
            a, b = order[left], order[left + shift]
            close = np.bitwise_count(hashes[a] ^ hashes[b]) <= distance
            codes.append(np.minimum(a, b)[close] * len(hashes) + np.maximum(a, b)[close])
        complete &= not left.size
    code = np.unique(np.concatenate(codes))
    return np.stack([code // max(1, len(hashes)), code % max(1, len(hashes))], -1), complete


def repeated(hashes: UInt64[np.ndarray, " n"]) -> tuple[int, int, list[Int[np.ndarray, " k"]]]:
    """(values that occur more than once, occurrences beyond their first, positions of the most frequent ones' occurrences)."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    many = np.flatnonzero(counts > 1)
    top = many[np.argsort(-counts[many], kind="stable")][:EXAMPLES]
    return len(many), int((counts[many] - 1).sum()), [np.flatnonzero(inverse == value) for value in top]


class Twins:
    """Near duplicates among the pictures of several splits.

    Args:
      splits: name -> look.ROW.

    Attributes:
      complete: whether no pair was left out.
    """

    def __init__(self, splits: Mapping[str, Shaped[np.ndarray, " n"]]):
        self._splits = splits
        self._hashes = np.unique(np.concatenate([rows["phash"][rows["phash"] > 0] for rows in splits.values()]))
        self._pairs, self.complete = near_pairs(self._hashes)
        self._has = {name: np.isin(self._hashes, rows["phash"]) for name, rows in splits.items()}

    def within(self, split: str) -> tuple[int, list[tuple[int, int, int]]]:
        """(records with another content at most DISTANCE bits away, examples: two record numbers and their distance)."""
        rows = self._splits[split]
        rows = rows[rows["phash"] > 0]
        rows_of = rows[np.lexsort((rows["content"], rows["phash"]))]
        again = (np.diff(rows_of["content"]) == 0) & (np.diff(rows_of["phash"]) == 0)
        rows_of = rows_of[np.r_[True, ~again][: len(rows_of)]]  # one of each content
        values, starts, counts = np.unique(rows_of["phash"], return_index=True, return_counts=True)
        pairs = self._pairs[self._has[split][self._pairs].all(-1)]
        near = np.union1d(values[counts > 1], self._hashes[pairs.ravel()])
        numbers = rows_of["number"]
        examples = [(int(numbers[s]), int(numbers[s + 1]), 0) for s in starts[counts > 1][: EXAMPLES // 2]]
        for a, b in self._hashes[pairs[: EXAMPLES - len(examples)]]:
            i, j = np.searchsorted(values, [a, b])
            examples.append((int(numbers[starts[i]]), int(numbers[starts[j]]), int(np.bitwise_count(a ^ b))))
        return int(np.isin(rows["phash"], near).sum()), examples

    def between(self, one: str, other: str) -> Bool[np.ndarray, " n"]:
        """Which records of `other` have a picture at most DISTANCE bits from one of `one`; equal contents too."""
        reached = self._has[one].copy()
        a, b = self._pairs.T
        reached[a] |= self._has[one][b]
        reached[b] |= self._has[one][a]
        return np.isin(self._splits[other]["phash"], self._hashes[reached])


def leaks(rows: Mapping[str, Any], captions: Mapping[str, Any], twins: Twins) -> list[dict[str, Any]]:
    """What a later split shares with an earlier one, for each two: records of the later by equal content, by near content
    that is not equal, and by an equal caption; with some of their numbers."""
    found = []
    for one, other in itertools.combinations(rows, 2):
        mine, said = rows[other], captions[other]
        exact = (mine["content"] > 0) & np.isin(mine["content"], rows[one]["content"])
        near = twins.between(one, other) & ~exact
        told = np.unique(said["number"][np.isin(said["hash"], captions[one]["hash"])])
        numbers = {"equal": mine["number"][exact], "near": mine["number"][near], "captions": told}
        found.append(
            {"from": one, "in": other, "records": len(mine)}
            | {key: len(value) for key, value in numbers.items()}
            | {"examples": {key: value[:EXAMPLES].tolist() for key, value in numbers.items()}}
        )
    return found
