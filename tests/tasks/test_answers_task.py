"""Answers by a head and by ranking texts: the same rows, the same loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fused import ANSWERS, Fused

from mmjax.core import keys, module
from mmjax.core.errors import UserError
from mmjax.tasks.answers import Answers
from mmjax.tasks.task import Binder

B, T = 4, 3
MODEL = module.define(lambda key: Fused(module.rngs(key)))
PARAMS, STATS = MODEL.init(jax.random.key(0))


def batch(**more):
    rng = np.random.default_rng(0)
    scores = np.zeros((B, ANSWERS), np.float32)
    scores[:3] = np.eye(ANSWERS)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (B, 2, 2, 3)), jnp.uint8),
        "answer_scores": jnp.asarray(scores),
        **more,
    }


def texts(*shape):
    return jnp.asarray(np.random.default_rng(1).integers(0, 7, shape), jnp.int32)


def test_by_the_answer_head():
    task, rows = Answers(), batch(question=texts(B, T), question_cut=jnp.array([0, 2, 0, 0], jnp.int32))
    logits = task.answers(Binder(MODEL, STATS), PARAMS, rows)
    model = MODEL.bind(PARAMS, STATS)
    pixels = (rows["image"] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    joint = model.fuse({"image": jnp.float32(pixels)}, rows["question"])[0]["joint"]
    np.testing.assert_allclose(logits, model.answer(joint), rtol=1e-5, atol=1e-6)  # float32
    terms = task.read(Binder(MODEL, STATS), PARAMS, task.encode(Binder(MODEL, STATS), PARAMS, rows, None), {}, None)
    assert [float(x) for x in terms["unanswered"]] == [1, B]
    assert float(terms["answers"][1]) == 3
    assert [float(x) for x in terms["truncated"]] == [1, B]


def test_by_ranking_texts_one_at_a_time():
    task, rows = Answers("softmax"), batch(candidates=texts(B, ANSWERS, T))
    logits = task.answers(Binder(MODEL, STATS), PARAMS, rows)
    assert logits.shape == (B, ANSWERS)
    for a in range(ANSWERS):
        model = MODEL.bind(PARAMS, STATS)
        image = (rows["image"] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        pair = model.match(model.fuse({"image": jnp.float32(image)}, rows["candidates"][:, a])[0]["joint"])
        np.testing.assert_allclose(logits[:, a], pair[:, 1] - pair[:, 0], rtol=1e-5, atol=1e-5)


def test_dropout_of_a_candidate_is_its_own_and_a_gradient_flows():
    task, rows = Answers("softmax"), batch(candidates=jnp.zeros((B, ANSWERS, T), jnp.int32))
    some = keys.rows(jax.random.key(3), B)

    def loss(params, key):
        z = task.encode(Binder(MODEL, STATS), params, rows, key)
        return task.total(task.read(Binder(MODEL, STATS), PARAMS, z, {}, None)), z["logits"]

    (_, logits), grads = jax.value_and_grad(loss, has_aux=True)(PARAMS, some)
    assert len(np.unique(np.asarray(logits[0]).round(5))) > 1  # equal texts, other masks
    assert np.abs(grads["yes"]["kernel"]).max() > 0
    np.testing.assert_array_equal(loss(PARAMS, some)[1], logits)


def test_a_blind_model_is_shown_nothing():
    rows = batch(question=texts(1, T).repeat(B, 0))
    logits = Answers(blind=True).answers(Binder(MODEL, STATS), PARAMS, rows)
    np.testing.assert_array_equal(logits, logits[:1].repeat(B, 0))


def test_two_pictures_need_a_model_that_reads_two():
    with pytest.raises(UserError, match="Fused reads one picture, and the batch has image_b: use visualbert or vilt"):
        Answers().answers(Binder(MODEL, STATS), PARAMS, batch(question=texts(B, T), image_b=batch()["image"]))


def test_regions_are_shown_as_they_are():
    task = Answers()
    rows = {"regions": jnp.ones((B, 2, 3)), "boxes": jnp.ones((B, 2, 4)), "question": texts(B, T)}
    assert task.answers(Binder(MODEL, STATS), PARAMS, rows).shape == (B, ANSWERS)


def test_what_it_cannot_be_is_said_before_the_first_step():
    with pytest.raises(UserError, match=r"task\.loss 'hinge' is not one of: sigmoid, softmax"):
        Answers("hinge")
    with pytest.raises(UserError, match=r"task\.pixels 'clip'"):
        Answers(pixels="clip")
