"""Choosing what to ask of a picture so that the words of a question do not tell its answer."""

import collections
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np


class Choice(NamedTuple):
    """Something true that could be asked: its answer, and what the sentence is filled with."""

    answer: Hashable
    args: tuple[str, ...]


Key = TypeVar("Key", bound=Hashable)


class Balance:
    """Remembers what was chosen and picks what was chosen least.

    Of a template's choices it takes one whose answer is the rarest so far; of these, one whose arguments have had this answer
    least often beyond their other answers, each by itself and all together. So neither a template nor its words tell an answer.

    Args:
      rng: breaks ties.
    """

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self._answers: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        self._asked: collections.Counter = collections.Counter()

    def pick(self, template: str, choices: Sequence[Choice]) -> Choice:
        """One of the choices (at least one), which is noted."""
        rarest = min(self._answers[template][choice.answer] for choice in choices)
        rare = [choice for choice in choices if self._answers[template][choice.answer] == rarest]
        surplus = [self._surplus(template, choice) for choice in rare]
        best = [choice for choice, value in zip(rare, surplus, strict=True) if value == min(surplus)]
        choice = best[int(self._rng.integers(len(best)))]
        self._answers[template][choice.answer] += 1
        for key in _keys(template, choice):
            self._asked[key] += 1
            self._asked[*key, choice.answer] += 1
        return choice

    def next(self, shares: Mapping[Key, float]) -> Key:
        """The key that is furthest behind its share of all calls with these keys; it is noted."""
        key = min(shares, key=lambda key: (self._asked[key] + 1) / shares[key])
        self._asked[key] += 1
        return key

    def _surplus(self, template: str, choice: Choice) -> float:
        """How much more often the arguments had this answer than their answers in the mean."""
        kinds = max(1, len(+self._answers[template]))
        return sum(self._asked[*key, choice.answer] - self._asked[key] / kinds for key in _keys(template, choice))


def _keys(template: str, choice: Choice) -> list[tuple[Hashable, ...]]:
    """What an answer could be guessed from."""
    return [(template, *one) for one in enumerate(choice.args)] + [(template, choice.args)]
