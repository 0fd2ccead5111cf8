"""Retrieval over one set of pairs, both ways: pictures and captions, or sounds and transcripts."""

from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
from jax.sharding import Mesh

from mmjax.core.errors import UserError
from mmjax.core.module import Model
from mmjax.data.stream import Epoch, epoch
from mmjax.evaluators.embed import Embedder
from mmjax.metrics import retrieval
from mmjax.sharding.mesh import share
from mmjax.tasks.task import Task
from mmjax.tasks.towers import present

# Pairs of the similarity matrix in the report: as many as can be told apart on a page.
MATRIX = 40


class Retrieval:
    """R@1/5/10, median rank and precision at k, from one modality to the other and back; candidates are the set itself.

    Pairs of the same group are positives of each other. A picture (or sound) that comes once for each of its captions (records
    of equal "item") is one candidate and one query; each caption is one. Directions are named by first letters: t2i finds
    images by texts, t2a sounds by texts.

    Args:
      set: the name under which results are filed.
      source: a row of data.sources.SOURCES; its records are pairs.
    """

    def __init__(self, model: Model, task: Task, mesh: Mesh, common: Mapping[str, Any], *, set: str, source: dict):
        self._pair = present(common["batch"])
        if len(self._pair) != 2:
            raise UserError(f"eval set {set!r}: retrieval is between two modalities, and config.batch has {self._pair}")
        fields = (*self._pair, "group", "item")
        self._epoch = epoch(source, common["transforms"], common["batch_size"], fields, **share(mesh))
        self._embed = Embedder(model, {name: getattr(task, name) for name in self._pair}, mesh)
        self.set = set
        self.found: dict[str, Any] | None = None

    def __call__(self, params: dict, stats: dict, step: int) -> dict[str, dict[str, float]]:
        """{set: {"t2i/R@1": ..., ..., "candidates": pictures, "captions": where they are more}}."""
        z = self._embed(params, stats, self._epoch, keep=("group", "item"))
        first = retrieval.distinct(z["item"])
        return {self.set: self._file(z, first, self._rank(z, first))}

    def _rank(self, z: Mapping[str, np.ndarray], first: np.ndarray, k: int = 10) -> dict[str, retrieval.Ranking]:
        """Both ways, by cosine."""
        items, texts, group = z[self._pair[0]][first], z[self._pair[1]], z["group"].astype(np.int64)
        one, other = (name[0] for name in self._pair)
        return {
            f"{other}2{one}": retrieval.ranks(texts, items, group, group[first], k=k),
            f"{one}2{other}": retrieval.ranks(items, texts, group[first], group, k=k),
        }

    def _file(self, z: Mapping[str, np.ndarray], first: np.ndarray, ways: Mapping[str, retrieval.Ranking]) -> dict[str, Any]:
        """The results of these rankings, which the report will show where there are pictures to look at."""
        group = z["group"].astype(np.int64)
        if self._pair == ["image", "text"]:
            few = first[np.linspace(0, len(first) - 1, min(MATRIX, len(first))).astype(int)]
            about = {"group": group, "few": few, "first": first, "readable": z["row"]}
            self.found = {**ways, **about, "similarity": z["text"][few] @ z["image"][few].T}
        captions = {"captions": len(group)} if len(group) > len(first) else {}
        return scores(ways) | {"candidates": len(first)} | captions

    def gallery(self) -> dict[str, Any]:
        """What the last call found, for the report: field names of report's Gallery. Pictures are read when looked at."""
        found = self.found
        return {
            "name": self.set,
            "images": Field(self._epoch, found["readable"], "image"),
            "texts": Field(self._epoch, found["readable"], "caption"),
            "groups": found["group"],
            "distinct": found["first"],
            "t2i_top": found["first"][found["t2i"].top[:, :5]],
            "i2t_top": found["i2t"].top[:, :5],
            **{f"{way}_rank": found[way].rank for way in ("t2i", "i2t")},
            "similarity": found["similarity"],
            "similarity_index": found["few"],
        }


def scores(ways: Mapping[str, retrieval.Ranking]) -> dict[str, float]:
    """{"t2i/R@1": ..., ...}."""
    return {f"{way}/{name}": value for way, ranking in ways.items() for name, value in retrieval.scores(ranking).items()}


class Field(Sequence):
    """One field of the set's records, read when it is asked for: a set need not fit into memory to be looked at."""

    def __init__(self, records: Epoch, readable: np.ndarray, name: str):
        self._records, self._readable, self._name = records, readable, name

    def __len__(self) -> int:
        return len(self._readable)

    def __getitem__(self, index: SupportsIndex) -> Any:
        return self._records.row(int(self._readable[index]))[self._name]
