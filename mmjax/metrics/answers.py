"""Answers to questions about pictures: VQA accuracy, and what is scored without looking at the picture.

The rules are those of VQA's evaluation script (Antol et al. 2015, arXiv:1505.00468, section 3; the Python script of
visualqa.org), its oddities kept, so that numbers compare with published ones.
"""

import collections
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mmjax.core.errors import UserError

# Each becomes nothing beside a space or where a number has a comma, and a space elsewhere.
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0"} | {word: str(n) for n, word in enumerate(NUMBERS)}
ARTICLES = ("a", "an", "the")
# A word that lacks one apostrophe of one of these gets it back. (The script lists "I'm" and the like too, which never match:
# words are in lower case by then.)
CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's "
    "how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock "
    "oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd "
    "someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's "
    "they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd "
    "where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all "
    "y'all'll y'all'd've you'd you'd've you'll you're you've"
)
MENDED = {word[:i] + word[i + 1 :]: word for word in CONTRACTIONS.split() for i, letter in enumerate(word) if letter == "'"}
MENDED["somebody'd"] = "somebodyd"  # as in the script
ENOUGH = 3  # people who say so make an answer right
KINDS = ("yes/no", "number", "other")


def normalise(answer: str) -> str:
    """An answer as the script compares it: punctuation, case, number words, articles and apostrophes are brought in line."""
    text = plain = answer.replace("\n", " ").replace("\t", " ").strip()
    digits = re.search(r"\d,\d", plain) is not None
    for mark in PUNCTUATION:
        text = text.replace(mark, "" if digits or f"{mark} " in plain or f" {mark}" in plain else " ")
    text = re.sub(r"\.(?!\d)", "", text)
    words = [DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(MENDED.get(word, word) for word in words if word not in ARTICLES)


def score(answer: str, answers: Sequence[str]) -> float:
    """How right an answer is, from 0 to 1, beside those that people gave.

    Of several, min(n / 3, 1) for n equal ones, averaged over all ways to leave one of them out (10 choose 9). Of a single one,
    whether it is equal. As in the script, both sides are normalised only where people do not all say the same.

    Raises:
      UserError: there is no answer to compare with.
    """
    if not answers:
        raise UserError("answers: a question without answers cannot be scored: give its annotations")
    if len(set(answers)) > 1 or len(answers) == 1:
        answer, answers = normalise(answer), [normalise(one) for one in answers]
    said, n = len(answers), sum(one == answer for one in answers)
    if said == 1:
        return float(n)
    return (n * min(1, (n - 1) / ENOUGH) + (said - n) * min(1, n / ENOUGH)) / said


def soft(n: int) -> float:
    """The target of an answer that n people gave: min(n / 3, 1)."""
    return min(1.0, n / ENOUGH)


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
