"""Questions about pictures: how right a model's answers are, beside what can be answered without the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from mmjax.core import keys, registry
from mmjax.core.errors import UserError
from mmjax.core.module import Model
from mmjax.data.sources import SOURCES
from mmjax.data.stream import epoch
from mmjax.data.transforms import TRANSFORMS
from mmjax.evaluators.embed import Embedder
from mmjax.metrics.priors import Priors
from mmjax.sharding.mesh import share
from mmjax.tasks.task import Task


class Answers:
    """The mean score of the best answer, in all and by type; a question whose answer is not in the list scores 0.

    `answer_scores` are the official ones where the transform makes them so (VQA, arXiv 1505.00468: an answer that three of ten
    people gave is right).

    Args:
      set: the name under which results are filed.
      source: records with question and answers, and maybe type.
      prior: the training set, whose questions alone give the baselines "majority" and "question_only"; see metrics.priors.
      fields: what the model reads, e.g. ["regions", "boxes", "question"].
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        mesh: Mesh,
        common: Mapping[str, Any],
        *,
        set: str,
        source: dict,
        prior: dict,
        fields: Sequence[str] = ("image", "question"),
    ):
        self._epoch = epoch(source, common["transforms"], common["batch_size"], (*fields, "answer_scores"), **share(mesh))
        self._embed = Embedder(model, {"logits": task.answers}, mesh)
        scorers = [t for t in common["transforms"] if t["name"] == "answers"]
        if not scorers:
            raise UserError(f"eval set {set!r}: eval.transforms has no 'answers', which says how right each answer is")
        self._scorer = registry.build(TRANSFORMS, scorers[0], where="eval.transforms")
        self._asked, self._prior, self.set = registry.build(SOURCES, source), prior, set
        self._guesses: dict[str, Int[np.ndarray, " M"]] | None = None
        self.found: dict[str, Any] | None = None

    def __call__(self, params: dict, stats: dict, step: int) -> dict[str, dict[str, float]]:
        """{set: {"accuracy": ..., "accuracy/TYPE": ..., "majority/accuracy": ..., "question_only/accuracy": ..., ...}}.

        Beside them "questions" and "unanswered", how many have no answer in the list.
        """
        z = self._embed(params, stats, self._epoch, keep=("answer_scores",))
        scores, rows = z["answer_scores"], z["row"]
        if self._guesses is None:
            self._read(rows)
        best = {"": z["logits"].argmax(-1), **{f"{name}/": guess for name, guess in self._guesses.items()}}
        results: dict[str, float] = {}
        for name, answer in best.items():
            right = np.take_along_axis(scores, answer[:, None], 1)[:, 0]
            results |= {f"{name}{key}": value for key, value in by_type(right, self._types).items()}
        self.found = {"row": rows, "answer": best[""], "scores": scores}
        counts = {"questions": len(rows), "unanswered": int((scores.max(-1) <= 0).sum())}
        return {self.set: results | counts}

    def _read(self, rows: Int[np.ndarray, " M"]) -> None:
        """The set's types, and the baselines' answers by the training set's questions."""
        prior, training = Priors(), registry.build(SOURCES, self._prior)
        for i in range(len(training)):
            record = about(training, i)
            prior.note(record["question"], self._scorer(record, keys.rng(0, "prior", i))["answer_scores"])
        asked = [about(self._asked, int(row)) for row in rows]
        self._types = [record.get("type", "") for record in asked]
        self._guesses = {
            "majority": np.full(len(rows), prior.majority()),
            "question_only": np.array([prior.question_only(record["question"]) for record in asked]),
        }


def about(source: Any, i: int) -> dict[str, Any]:
    """Record i, without its picture where the source can leave that unread."""
    return source.about(i) if hasattr(source, "about") else source[i]


def by_type(right: Float[np.ndarray, " M"], types: Sequence[str]) -> dict[str, float]:
    """{"accuracy": mean, "accuracy/TYPE": mean of that type}; records without a type count only in all."""
    names = np.array(types)
    parts = {f"accuracy/{name}": float(right[names == name].mean()) for name in sorted({*types} - {""})}
    return {"accuracy": float(right.mean())} | parts
