"""Answers of a model that knows everything, one that knows nothing, and the baselines beside both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.core import module
from mmjax.core.errors import UserError
from mmjax.evaluators.answers import Answers
from mmjax.report.answers import Asked, section
from mmjax.sharding import mesh as meshes
from mmjax.tasks.task import Task

LISTED = ["no", "yes", "2"]
TRANSFORMS = [
    {"name": "tokenise", "tokenizer": "bytes", "length": 12, "field": "question"},
    {"name": "answers", "answers": LISTED},
]


class Nothing(nnx.Module):
    def __init__(self, rngs):
        self.bias = nnx.Param(jnp.zeros(3))


class Oracle(Task):
    """Reads the answer off the picture's first pixel."""

    def answers(self, bind, params, rows, key=None):
        return jax.nn.one_hot(rows["image"][:, 0, 0, 0], 3)


def record(i, question, answer, kind):
    number = LISTED.index(answer) if answer in LISTED else 0
    picture = np.full((2, 2, 3), number, np.uint8)
    return {"image": picture, "question": question, "answers": [answer], "type": kind, "id": str(i), "group": i}


TRAINING = [record(i, "is it?", "yes", "a") for i in range(3)] + [record(9, "how many?", "2", "b")]
ASKED = [record(0, "is it?", "no", "a"), record(1, "how many?", "2", "b"), record(2, "is it red and more?", "seven", "a")]


def memory(records):
    return {"name": "memory", "records": records}


def made(transforms, asked=ASKED, training=TRAINING, **options):
    mesh = meshes.make({"data": -1}, jax.devices()[:1])
    model = module.define(lambda key: Nothing(module.rngs(key)))
    common = {"transforms": transforms, "batch_size": 2}
    return Answers(model, Oracle(), mesh, common, set="test", source=memory(asked), training=memory(training), **options)


@pytest.fixture(scope="module")
def evaluator():
    return made(TRANSFORMS)


def test_by_hand(evaluator):
    found = evaluator({"bias": jnp.zeros(3)}, {}, 0)["test"]
    assert found["accuracy"] == pytest.approx(2 / 3)  # "seven" is not in the list, and cannot be right
    assert (found["type/a"], found["type/b"]) == (0.5, 1.0)
    assert found["majority/accuracy"] == 0  # always "yes"
    assert found["question_only/accuracy"] == pytest.approx(1 / 3)  # "how many?" is 2
    assert (found["questions"], found["unlisted"], found["truncated"]) == (3, 1, 1)  # 19 bytes and two ends in 12


def test_questions_in_another_language():
    """Records have both; the transforms say which is read, and that one is scored and guessed at."""
    listed = {"no": "否", "yes": "是", "2": "两个", "seven": "七个"}
    words = {"is it?": "是吗?", "how many?": "几个?"}

    def other(one):
        question, told = one["question"], [listed[answer] for answer in one["answers"]]
        return one | {"question": "", "answers": [""], "question_zh": words.get(question, "是红的吗?"), "answers_zh": told}

    transforms = [
        {"name": "tokenise", "tokenizer": "bytes", "length": 12, "field": "question_zh", "into": "question"},
        {"name": "answers", "answers": ["否", "是", "两个"], "field": "answers_zh"},
    ]
    found = made(transforms, [other(one) for one in ASKED], [other(one) for one in TRAINING])({"bias": jnp.zeros(3)}, {}, 0)
    assert found["test"]["accuracy"] == pytest.approx(2 / 3)
    assert (found["test"]["majority/accuracy"], found["test"]["question_only/accuracy"]) == (0, pytest.approx(1 / 3))
    assert (found["test"]["unlisted"], found["test"]["truncated"]) == (1, 1)  # "是红的吗?" has 13 bytes


def test_a_list_that_is_ranked_counts_what_was_cut():
    ranked = [{"name": "candidates", "answers": LISTED, "tokenizer": "bytes", "length": 16}, TRANSFORMS[1]]
    found = made(ranked, fields=("image", "candidates"))({"bias": jnp.zeros(3)}, {}, 0)["test"]
    assert (found["accuracy"], found["truncated"]) == (pytest.approx(2 / 3), 1)


def test_the_page_shows_what_was_asked_and_the_baselines(evaluator):
    evaluator({"bias": jnp.zeros(3)}, {}, 0)
    html = section(Asked(**evaluator.gallery()))
    assert "is it red and more?" in html
    assert "seven" in html
    assert html.count("<img") == 3
    assert "66.7 %" in html  # the model
    assert "33.3 %" in html  # the question alone


def test_without_a_list_of_answers():
    with pytest.raises(UserError, match=r"eval\.transforms has neither 'answers' nor 'candidates'"):
        made(TRANSFORMS[:1])
