"""Accuracies of a head and of frozen features, on sets small enough to count."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mmjax.core.errors import UserError
from mmjax.core.module import define
from mmjax.evaluators import EVALUATORS
from mmjax.sharding import mesh as meshes
from mmjax.tasks.task import Task

COMMON = {
    "batch_size": 2,
    "batch": {"text": [[4], "int32"], "label": [[], "int32"]},
    "transforms": [
        {"name": "decode"},  # of a pair; a probe of texts leaves it out
        {"name": "tokenise", "tokenizer": "bytes", "length": 4, "bos": None, "eos": None},
    ],
}


class Letters(Task):
    """A text's vector says which letter of "abc" it begins with; its logits always say "a"."""

    def features(self, bind, params, rows):
        return {"text": jax.nn.one_hot(rows["text"][:, 0] - ord("a") - 3, 3)}

    def logits(self, bind, params, rows):
        return jnp.tile(jnp.array([2.0, 1.0, 0.0]), (len(rows["text"]), 1))


def source(*pairs):
    return {"name": "memory", "records": [{"text": text, "label": label, "id": text} for text, label in pairs]}


TRAIN = source(("ax", 0), ("ay", 0), ("bx", 1), ("by", 1), ("cx", 2), ("cy", 2), ("cz", -1))
TEST = source(("a", 0), ("b", 1), ("c", 1), ("bb", -1), ("cc", 2))


def found(name, task=None, common=COMMON, **keywords):
    mesh = meshes.make({"data": 1, "fsdp": 1, "model": 1}, jax.devices()[:1])
    model = define(lambda key: nnx.Module())
    evaluator = EVALUATORS[name](model, task or Letters(), mesh, common, set="letters", source=TEST, **keywords)
    return evaluator({}, {}, 0)["letters"]


def test_the_head():
    common = {**COMMON, "transforms": COMMON["transforms"][1:]}
    assert found("head", common=common) == {"head/top1": 0.25, "head/top5": 1.0, "head/mean_class": pytest.approx(1 / 3)}


@pytest.mark.parametrize("name, keywords", [("knn", {"k": 2}), ("linear_probe", {"l2": [1e-2, 1e-1]})])
def test_probes_learn_letters_from_train(name, keywords):
    """Of four labelled rows one is labelled otherwise than train's letters are."""
    scores = found(name, train=TRAIN, modality="text", **keywords)
    assert scores[f"{name}/top1"] == 0.75
    assert scores[f"{name}/mean_class"] == pytest.approx((1 + 0.5 + 1) / 3)


def test_what_cannot_be_judged():
    with pytest.raises(UserError, match=r"eval set 'letters': modality 'image' is not one of config.batch's: text"):
        found("knn", train=TRAIN)
    with pytest.raises(UserError, match="eval set 'letters': 'head' reads class logits"):
        found("head", task=Task())
    with pytest.raises(UserError, match="eval set 'letters': no record of train has a label"):
        found("knn", train=source(("a", -1)), modality="text")
    with pytest.raises(UserError, match=r"eval set 'letters': l2 \[-1\] has to be"):
        found("linear_probe", train=TRAIN, modality="text", l2=[-1])
