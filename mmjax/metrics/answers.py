"""Answers to questions about pictures: VQA accuracy (core/answers.py has its rules), and what is scored without a picture."""

import collections
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mmjax.core.answers import normalise, worth
from mmjax.core.errors import UserError

KINDS = ("yes/no", "number", "other")


def score(answer: str, answers: Sequence[str]) -> float:
    """How right an answer is, from 0 to 1, beside those that people gave.

    What it is worth by core.answers: min(n / 3, 1) averaged over 10 choose 9; of a single answer, whether it is equal. As in
    the script, both sides are normalised only where people do not all say the same.

    Raises:
      UserError: there is no answer to compare with.
    """
    if not answers:
        raise UserError("answers: a question without answers cannot be scored: give its annotations")
    if len(set(answers)) > 1 or len(answers) == 1:
        answer, answers = normalise(answer), [normalise(one) for one in answers]
    return worth(sum(one == answer for one in answers), len(answers))


def kind_of(answers: Sequence[str]) -> str:
    """One of KINDS, by the most frequent answer; VQA's annotations bring their own."""
    common = normalise(collections.Counter(answers).most_common(1)[0][0])
    return "yes/no" if common in ("yes", "no") else "number" if common.isdigit() else "other"


def accuracy(
    answers: Sequence[str], truth: Sequence[Sequence[str]], groups: Mapping[str, Sequence[str]] | None = None
) -> dict[str, float]:
    """{"accuracy": the mean of `score`}, and for each group of questions "GROUP/VALUE".

    Args:
      answers: one a question.
      truth: the people's answers, ten a question or one.
      groups: e.g. {"answer_type": KINDS of each question, "type": question type of each}.

    Raises:
      UserError: lengths differ, or there is no question.
    """
    lengths = {len(answers), len(truth), *map(len, (groups or {}).values())}
    if len(lengths) > 1 or not answers:
        raise UserError(
            f"answers: of {len(answers)} answers, {len(truth)} questions and their groups each needs as many, and one"
        )
    each = np.array([score(answer, people) for answer, people in zip(answers, truth, strict=True)])
    found = {"accuracy": float(each.mean())}
    for name, values in (groups or {}).items():
        of = np.array(values)
        found |= {f"{name}/{value}": float(each[of == value].mean()) for value in sorted(set(values))}
    return found


def choices(scores: Float[np.ndarray, "B A"], vocabulary: Sequence[str]) -> list[str]:
    """The answer of the highest score in each row.

    Raises:
      UserError: there are not as many scores as answers.
    """
    if scores.shape[1] != len(vocabulary):
        raise UserError(f"answers: {scores.shape[1]} scores a question, and {len(vocabulary)} answers in the vocabulary")
    return [vocabulary[i] for i in scores.argmax(1)]


class Blind:
    """Answers without pictures, from training questions alone: what a model has to beat.

    Args:
      questions, answers: of training.

    Attributes:
      majority: the most frequent answer of all.
    """

    def __init__(self, questions: Sequence[str], answers: Sequence[Sequence[str]]):
        if not questions or len(questions) != len(answers):
            raise UserError(f"answers: {len(questions)} training questions with {len(answers)} lists of answers: no baseline")
        counts: dict[tuple[str, ...], collections.Counter] = collections.defaultdict(collections.Counter)
        for question, people in zip(questions, answers, strict=True):
            common = _first(collections.Counter(map(normalise, people)))
            words = _words(question)
            for n in range(len(words) + 1):
                counts[words[:n]][common] += 1
        self._said = {words: _first(counter) for words, counter in counts.items()}
        self.majority = self._said[()]

    def answer(self, question: str) -> str:
        """The most frequent training answer to the same words; of words that are new, to the longest beginning that is not."""
        words = _words(question)
        return next(self._said[words[:n]] for n in range(len(words), -1, -1) if words[:n] in self._said)


def _words(question: str) -> tuple[str, ...]:
    """Words in lower case, a Chinese character each, and an end, so that a whole question is not another's beginning."""
    return (*re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", question.lower()), "?")


def _first(counter: collections.Counter) -> str:
    """The most frequent, in a draw the first of the alphabet."""
    return min(counter, key=lambda key: (-counter[key], key))
