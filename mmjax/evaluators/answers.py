"""Questions about pictures: how right a model's answers are, beside what can be answered without the picture."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from mmjax.core import registry
from mmjax.core.errors import UserError
from mmjax.core.module import Model
from mmjax.data import answers as lists
from mmjax.data.sources import SOURCES
from mmjax.data.stream import epoch
from mmjax.evaluators.embed import Embedder
from mmjax.evaluators.retrieval import Field
from mmjax.metrics import answers as metrics
from mmjax.sharding.mesh import share
from mmjax.tasks.task import Task

# By which of a record's fields accuracy is told apart.
GROUPS = ("type", "question_type", "answer_type")


class Answers:
    """Accuracy by the official rules (metrics.answers), in all and by type, of the answer that scores highest.

    Args:
      set: the name under which results are filed.
      source: records with a question and answers, under the names that the transforms read ("question_zh"), and maybe one of
        GROUPS.
      training: the training set, whose questions alone give the baselines (metrics.answers.Blind).
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
        training: dict,
        fields: Sequence[str] = ("image", "question"),
    ):
        listed = [t for t in common["transforms"] if t["name"] in ("answers", "candidates")]
        if not listed:
            raise UserError(f"eval set {set!r}: eval.transforms has neither 'answers' nor 'candidates', which list the answers")
        self._vocabulary = lists.load(listed[0]["answers"])
        self._names = _names(common["transforms"])
        self._keep = ("question_cut",)
        self._epoch = epoch(source, common["transforms"], common["batch_size"], (*fields, *self._keep), **share(mesh))
        self._embed = Embedder(model, {"logits": task.answers}, mesh)
        self._source, self._training, self.set = source, training, set
        self._pictures = "image" in fields
        self._asked: list[dict[str, Any]] = []
        self._guessed: dict[str, list[str]] = {}
        self.found: dict[str, Any] | None = None

    def __call__(self, params: dict, stats: dict, step: int) -> dict[str, dict[str, float]]:
        """{set: {"accuracy": ..., "type/counting": ..., "majority/accuracy": ..., "question_only/accuracy": ..., ...}}.

        Beside them counts: "questions", "unlisted" (no answer of theirs is in the list) and "truncated" ones.
        """
        z = self._embed(params, stats, self._epoch, keep=self._keep)
        if not self._asked:
            self._read(z["row"])
        truth = [record["answers"] for record in self._asked]
        groups = {name: [record[name] for record in self._asked] for name in GROUPS if name in self._asked[0]}
        said = metrics.choices(z["logits"], self._vocabulary)
        results: dict[str, float] = {}
        for name, answers in {"": said, **{f"{name}/": guesses for name, guesses in self._guessed.items()}}.items():
            results |= {f"{name}{key}": value for key, value in metrics.accuracy(answers, truth, groups).items()}
        listed = {metrics.normalise(answer) for answer in self._vocabulary}
        results |= {"questions": len(truth)}
        results |= {"unlisted": sum(not listed & {metrics.normalise(one) for one in people} for people in truth)}
        results |= {"truncated": int((z["question_cut"] > 0).sum())}
        right = np.array([metrics.score(answer, people) for answer, people in zip(said, truth, strict=True)])
        self.found = {"row": z["row"], "said": said, "right": right, "results": results}
        return {self.set: results}

    def gallery(self) -> dict[str, Any]:
        """What the last call found, for the report: field names of report's Asked. Pictures are read when looked at."""
        found = dict(self.found or {})
        row = found.pop("row")
        return found | {
            "name": self.set,
            "images": Field(self._epoch, row, "image") if self._pictures else None,
            "questions": [record["question"] for record in self._asked],
            "truth": [record["answers"] for record in self._asked],
        }

    def _read(self, rows: Int[np.ndarray, " M"]) -> None:
        """What was asked, and what the baselines say to it."""
        blind, asked = _blind(self._training, self._names), _questions(self._source, self._names)
        self._asked = [asked[row] for row in rows]
        self._guessed = {
            "majority": [blind.majority] * len(rows),
            "question_only": [blind.answer(record["question"]) for record in self._asked],
        }


def _names(transforms: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the records call the question and its answers, as the transforms are told."""
    asked = [t for t in transforms if t["name"] == "candidates" or "question" in (t.get("into"), t.get("field"))]
    told = [t for t in transforms if t["name"] == "answers"]
    return {name: specs[0].get("field", name) if specs else name for name, specs in (("question", asked), ("answers", told))}


# What the sets of a run share: their training set is most often one, and reading it takes as long as a set.
_BLIND: dict[str, metrics.Blind] = {}


def _blind(training: dict, names: Mapping[str, str]) -> metrics.Blind:
    key = json.dumps([training, names], default=repr)
    if key not in _BLIND:
        known = _questions(training, names)
        _BLIND[key] = metrics.Blind([record["question"] for record in known], [record["answers"] for record in known])
    return _BLIND[key]


def _questions(source: dict, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A source's records without their pictures: "question" and "answers", which it has under `names`, and GROUPS."""
    kept = {**names, **{name: name for name in GROUPS}}
    records = lists.words(registry.build(SOURCES, source))
    return [{name: record[theirs] for name, theirs in kept.items() if theirs in record} for record in records]
