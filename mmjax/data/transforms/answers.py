"""Transforms of answers: people's words to targets over a list."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmjax.core.answers import normalise, worth
from mmjax.data import answers as lists
from mmjax.data.transforms.text import Tokenise

Record = dict[str, Any]


class Answers:
    """ "answer_scores" float32 (A,): what each answer of a list is worth beside those that people gave, from 0 to 1; and
    "label", the first of the best, -1 where none of theirs is in the list.

    The worth is the evaluation's own (core.answers.worth): of ten people's answers 0.3, 0.6, 0.9, and 1 from four on. (Where
    all say the same, the evaluation compares words as they are; here they are normalised always.) A row of zeros counts nothing
    in the loss, which reports the share of such rows.

    Args:
      answers: a file with one answer a line, a prepared set's name, or the list itself.
      field: the record's list of people's answers, e.g. "answers_zh".

    Raises:
      UserError: there is no such list.
      ValueError: a record has no such field.
    """

    def __init__(self, answers: str | Sequence[str], field: str = "answers"):
        listed = lists.load(answers)
        # What comes earlier is more frequent: it stays where two are the same once normalised.
        self._numbers = {normalise(answer): i for i, answer in reversed(list(enumerate(listed)))}
        self._size, self._field = len(listed), field

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        scores = np.zeros(self._size, np.float32)
        if self._field not in record:
            raise ValueError(f"it has no {self._field!r}: give the source its annotations; a set without cannot be scored")
        people = record[self._field]
        for answer, n in collections.Counter(map(normalise, people)).items():
            if answer in self._numbers:
                scores[self._numbers[answer]] = worth(n, len(people))
        return {**record, "answer_scores": scores, "label": int(scores.argmax()) if scores.any() else -1}


class Candidates:
    """ "candidates" int32 (A, T): the question with each answer of a list, for models that rank texts; and "question_cut", how
    many tokens of the question were cut off, beside the longest answer.

    List it before the question is tokenised, or in place of that.

    Args:
      answers: as of Answers.
      field: the record's question, e.g. "question_zh".
      tokenizer, length, lower, bos, eos, pad_id, truncation: as of Tokenise; the question is cut, not its answer.
    """

    def __init__(
        self,
        answers: str | Sequence[str],
        tokenizer: str,
        length: int,
        field: str = "question",
        lower: bool = True,
        bos: str | None = "[BOS]",
        eos: str | None = "[EOS]",
        pad_id: int = 0,
        truncation: str = "only_first",
    ):
        self._answers, self._field = lists.load(answers), field
        self._tokenise = Tokenise(tokenizer, length, lower, bos, eos, pad_id, field, pair="answer", truncation=truncation)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        pairs = [{self._field: record[self._field], "answer": answer} for answer in self._answers]
        rows = [self._tokenise(pair, rng) for pair in pairs]
        cut = max(row[f"{self._field}_cut"] for row in rows)
        return {**record, "candidates": np.stack([row[self._field] for row in rows]), "question_cut": cut}
