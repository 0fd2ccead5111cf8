"""What questions tell of their answers without a picture: the baselines beside which every accuracy on questions stands."""

from collections import Counter

import numpy as np
from jaxtyping import Float

# So many training questions have to share a beginning before it says anything.
SUPPORT = 20


class Priors:
    """Answers by the training set's questions alone; `note` each of them first.

    - majority: the answer that is right most often in all.
    - question_only: the answer that is right most often among the training questions that begin alike. Of a question's
      beginnings, word by word, the longest that SUPPORT of them share decides ("how many", "is there a dog"), none being the
      majority. It stands for a model that reads the question and never looks (VQA's "prior per question type", Antol et al.
      2015, arXiv 1505.00468, section 5).
    """

    def __init__(self) -> None:
        self._scores: dict[tuple[str, ...], Counter] = {}
        self._times: Counter = Counter()

    def note(self, question: str, scores: Float[np.ndarray, " A"]) -> None:
        """Counts one training question, with how right each answer is; all-zero scores count as a question without one."""
        found = {int(answer): float(scores[answer]) for answer in np.flatnonzero(scores)}
        for beginning in _beginnings(question):
            self._times[beginning] += 1
            self._scores.setdefault(beginning, Counter()).update(found)

    def majority(self) -> int:
        """The number of the answer; 0 where nothing was noted. Of equals the first of the list."""
        return _best(self._scores.get((), Counter()))

    def question_only(self, question: str) -> int:
        """The number of the answer."""
        known = [b for b in _beginnings(question) if self._times[b] >= SUPPORT]
        return _best(self._scores[known[-1]]) if known else self.majority()


def _beginnings(question: str) -> list[tuple[str, ...]]:
    words = question.lower().rstrip("?？ ").split()
    return [tuple(words[:n]) for n in range(len(words) + 1)]


def _best(scores: Counter) -> int:
    return min(scores, key=lambda answer: (-scores[answer], answer), default=0)
