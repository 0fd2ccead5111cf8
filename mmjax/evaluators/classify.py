"""Accuracy on a labelled set: of a classifier's own head, and of frozen features by a linear probe or nearest neighbours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from mmjax.core.errors import UserError
from mmjax.core.module import Model
from mmjax.data.stream import epoch
from mmjax.data.transforms import OF_MODALITY
from mmjax.evaluators.embed import Embedder
from mmjax.metrics import classification, probe
from mmjax.sharding.mesh import share
from mmjax.tasks.task import Task
from mmjax.tasks.towers import present


class Head:
    """Top-1, top-5 and mean class accuracy of the classes that a classifier's own head gives.

    Args:
      set: the name under which results are filed.
      source: records with a label and what the model reads (config.batch); label -1 is left out.
    """

    def __init__(self, model: Model, task: Task, mesh: Mesh, common: Mapping[str, Any], *, set: str, source: dict):
        if not hasattr(task, "logits"):
            raise UserError(f"eval set {set!r}: 'head' reads class logits, which this task has none of: use 'linear_probe'")
        fields = (*present(common["batch"]), "label")
        self._epoch = epoch(source, common["transforms"], common["batch_size"], fields, **share(mesh))
        self._embed, self.set = Embedder(model, {"logits": task.logits}, mesh), set

    def __call__(self, params: dict, stats: dict, step: int) -> dict[str, dict[str, float]]:
        """{set: {"head/top1": ..., "head/top5": ..., "head/mean_class": ...}}."""
        found = self._embed(params, stats, self._epoch, keep=("label",))
        return {self.set: _named("head", classification.accuracy(found["logits"], found["label"]))}


class _Probe:
    """Features of one encoder, before any projection or head, over a training and a test set; `scores` judges them."""

    NAME = ""

    def __init__(
        self,
        model: Model,
        task: Task,
        mesh: Mesh,
        common: Mapping[str, Any],
        set: str,
        source: dict,
        train: dict,
        modality: str,
    ):
        choices = present(common["batch"])
        if modality not in choices:
            raise UserError(f"eval set {set!r}: modality {modality!r} is not one of config.batch's: {', '.join(choices)}")
        transforms = [t for t in common["transforms"] if t["name"] in OF_MODALITY[modality]]
        options = (transforms, common["batch_size"], (modality, "label"))
        self._train, self._test = (epoch(spec, *options, **share(mesh)) for spec in (train, source))
        self._embed = Embedder(model, {"x": lambda *args: task.features(*args)[modality]}, mesh)
        self.set = set

    def __call__(self, params: dict, stats: dict, step: int) -> dict[str, dict[str, float]]:
        """{set: {"NAME/top1": ..., "NAME/top5": ..., "NAME/mean_class": ...}}."""
        train, test = (self._embed(params, stats, rows, keep=("label",)) for rows in (self._train, self._test))
        known = train["label"] >= 0
        if not known.any():
            raise UserError(f"eval set {self.set!r}: no record of train has a label")
        classes = int(max(train["label"].max(), test["label"].max())) + 1
        scores, about = self.scores(train["x"][known], train["label"][known], test["x"], classes)
        return {self.set: _named(self.NAME, classification.accuracy(scores, test["label"]) | about)}

    def scores(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> tuple[np.ndarray, dict]:
        """(M, classes) scores of the test rows, and what else is worth a line."""
        raise NotImplementedError


class LinearProbe(_Probe):
    """Accuracy of logistic regression on a frozen encoder's features (metrics.probe.linear).

    Args:
      set: the name under which results are filed.
      source: the test records, with a label; label -1 is left out.
      train: the records that it is fitted on.
      modality: "image", "audio" or "text": which encoder.
      l2: strengths of the penalty. Of several, the one that is best on every fifth training row, fitted on the others, is taken
        and fitted on all.
    """

    NAME = "linear_probe"

    def __init__(
        self,
        model: Model,
        task: Task,
        mesh: Mesh,
        common: Mapping[str, Any],
        *,
        set: str,
        source: dict,
        train: dict,
        modality: str = "image",
        l2: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1),
    ):
        super().__init__(model, task, mesh, common, set, source, train, modality)
        if not l2 or min(l2) < 0:
            raise UserError(f"eval set {set!r}: l2 {list(l2)} has to be a list of numbers, none below 0")
        self._l2 = tuple(l2)

    def scores(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> tuple[np.ndarray, dict]:
        best = self._l2[0]
        if len(self._l2) > 1:
            held = np.arange(len(train)) % 5 == 4

            def right(l2: float) -> float:
                found = probe.linear(train[~held], labels[~held], train[held], classes, l2=l2)
                return classification.accuracy(found, labels[held])["top1"]

            best = max(self._l2, key=right)
        return probe.linear(train, labels, test, classes, l2=best), {"l2": best}


class Neighbours(_Probe):
    """Accuracy of the weighted vote of a frozen encoder's nearest neighbours (metrics.probe.neighbours).

    Args:
      set: the name under which results are filed.
      source: the test records, with a label; label -1 is left out.
      train: the records that vote.
      modality: "image", "audio" or "text": which encoder.
      k: how many vote.
      temperature: of their weights.
    """

    NAME = "knn"

    def __init__(
        self,
        model: Model,
        task: Task,
        mesh: Mesh,
        common: Mapping[str, Any],
        *,
        set: str,
        source: dict,
        train: dict,
        modality: str = "image",
        k: int = 20,
        temperature: float = 0.07,
    ):
        super().__init__(model, task, mesh, common, set, source, train, modality)
        self._options = {"k": k, "temperature": temperature}

    def scores(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> tuple[np.ndarray, dict]:
        return probe.neighbours(train, labels, test, classes, **self._options), {}


def _named(name: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}/{key}": value for key, value in scores.items()}
