"""Two-step retrieval with embeddings and matches that are written down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.core import module
from mmjax.evaluators.reranked import Reranked, cut
from mmjax.metrics import retrieval
from mmjax.sharding import mesh as meshes
from mmjax.tasks.task import Task

N = 6
# Picture i's embedding is at angle i; caption i's a little before: the nearest caption of picture i is caption i + 1.
ANGLES = np.arange(N) * 0.5


class Nothing(nnx.Module):
    def __init__(self, rngs):
        self.temperature = nnx.Param(jnp.ones(()))

    def scale(self):
        return 2.0 * self.temperature[...]


class Written(Task):
    """Matching says yes to a pair's own, and counts the pairs that it is shown."""

    def image(self, bind, params, rows, key=None):
        angle = rows["image"][:, 0, 0, 0] * 0.5
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)

    def text(self, bind, params, rows, key=None):
        angle = (rows["text"][:, 0] - 3 - ord("a")) * 0.5 - 0.4
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)

    def matched(self, bind, params, rows):
        pictures = rows["image"][rows["at"]][:, 0, 0, 0]
        return jnp.where(pictures == rows["text"][:, 0] - 3 - ord("a"), 5.0, -5.0)


def evaluator(shortlist, **tile):
    records = [
        {"image": np.full((2, 2, 3), i, np.uint8), "text": "abcdef"[i], "id": str(i), "group": i, "item": i} for i in range(N)
    ]
    transforms = [{"name": "tokenise", "tokenizer": "bytes", "length": 4, "bos": None, "eos": None}]
    mesh = meshes.make({"data": -1}, jax.devices()[:1])
    model = module.define(lambda key: Nothing(module.rngs(key)))
    source = {"name": "memory", "records": records}
    common = {"transforms": transforms, "batch_size": 4, "batch": ["image", "text"]}
    return Reranked(model, Written(), mesh, common, set="test", source=source, shortlist=shortlist, **tile)


@pytest.mark.parametrize("tile", [{}, {"images": 2, "pairs": 3}], ids=["one tile", "many"])
def test_matching_mends_what_the_shortlist_holds(tile):
    found = evaluator(2, **tile)({"temperature": jnp.ones(())}, {}, 0)["test"]
    assert found["itc/i2t/R@1"] == pytest.approx(1 / N)  # the last picture has no caption after it
    assert found["itm/i2t/R@1"] == found["itm/t2i/R@1"] == 1
    assert found["sum/i2t/R@1"] == 1
    assert found["shortlist"] == 2
    assert found["candidates"] == N
    assert found["fused"] <= 4 * N  # of 36 pairs


def test_a_shortlist_of_one_changes_nothing():
    found = evaluator(1)({"temperature": jnp.ones(())}, {}, 0)["test"]
    for way in ("i2t", "t2i"):
        assert found[f"itm/{way}/R@1"] == found[f"itc/{way}/R@1"]
        assert found[f"itm/{way}/median_rank"] == found[f"itc/{way}/median_rank"]


def test_tiles_hold_so_many_pictures_and_pairs():
    picture = np.array([0, 0, 0, 1, 2, 2, 3])
    assert [(t.start, t.stop) for t in cut(picture, images=2, pairs=4)] == [(0, 4), (4, 7)]
    assert [(t.start, t.stop) for t in cut(picture, images=1, pairs=2)] == [(0, 2), (2, 3), (3, 4), (4, 6), (6, 7)]


def test_what_the_shortlist_misses_keeps_its_rank():
    scores = np.array([[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1]])
    group = np.array([1, 3])  # the second best; the worst
    first = retrieval.ranks(scores, np.eye(4), group, np.arange(4), k=2)
    again = retrieval.rerank(first, np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert again.rank.tolist() == [0, 3]
    assert again.top.tolist() == [[1, 0], [0, 1]]
    tied = retrieval.rerank(first, np.zeros((2, 2)))
    assert tied.rank.tolist() == [1, 3]  # a tie counts against the model
