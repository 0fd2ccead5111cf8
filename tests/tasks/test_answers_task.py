"""Answers by a head and by ranking texts: the same rows, the same loss."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_albef
from fused import ANSWERS, Fused

from mmjax import models
from mmjax.core import keys, module
from mmjax.core.errors import UserError
from mmjax.tasks import build as tasks
from mmjax.tasks.answers import Answers
from mmjax.tasks.normalise import normalise
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


def test_a_list_is_ranked_beside_a_picture_that_is_encoded_once():
    """ALBEF's towers part: the same odds as by fusing every answer with the picture anew."""
    model, _ = tasks.build(tiny_albef.config())
    params, _ = model.init(jax.random.key(0))
    told = jnp.asarray(np.random.default_rng(1).integers(1, tiny_albef.VOCAB, (2, 3, tiny_albef.T)), jnp.int32)
    image = jnp.asarray(tiny_albef.rows()["image"][:2])
    bind = Binder(model, {})
    logits = Answers("softmax").answers(bind, params, {"image": image, "candidates": told})
    live, seen = model.bind(params, {}), {"image": normalise(image, "imagenet")}
    for a in range(3):
        pair = live.match(live.fuse(seen, told[:, a])[0]["joint"])
        np.testing.assert_allclose(logits[:, a], pair[:, 1] - pair[:, 0], atol=1e-5)  # float32
    assert np.ptp(logits) > 1e-4


@pytest.mark.parametrize("answers", [ANSWERS - 1, ANSWERS + 1])
def test_a_list_of_another_length_than_the_head(answers):
    rows = batch(question=texts(B, T)) | {"answer_scores": jnp.zeros((B, answers))}
    with pytest.raises(UserError, match=f"gives {ANSWERS} answers and the data's list has {answers}: set model.heads.answers"):
        Answers().encode(Binder(MODEL, STATS), PARAMS, rows, None)


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


@pytest.mark.parametrize("second", ["image_b", "regions_b"])
def test_two_pictures_need_a_model_that_reads_two(second):
    rows = {name: jnp.ones((B, 2, n)) for name, n in (("regions", 3), ("boxes", 4), ("regions_b", 3), ("boxes_b", 4))}
    rows = rows if second == "regions_b" else batch(image_b=batch()["image"])
    with pytest.raises(UserError, match=f"Fused reads one picture, and the batch has {second}: use visualbert or vilt"):
        Answers().answers(Binder(MODEL, STATS), PARAMS, rows | {"question": texts(B, T)})


def two(seen, seed):
    """What a batch holds of a first or second picture."""
    rng = np.random.default_rng(seed)
    if seen == "patches":
        return {"image": jnp.asarray(rng.integers(0, 256, (B, 4, 4, 3)), jnp.uint8)}
    boxes = jnp.broadcast_to(jnp.array([0.1, 0.2, 0.5, 0.9]), (B, 2, 4))
    return {"regions": jnp.asarray(rng.normal(size=(B, 2, 5)), jnp.float32), "boxes": boxes}


@pytest.mark.parametrize("seen", ["patches", "regions"])
def test_a_statement_about_two_pictures(seen):
    """As the model says of both; either one matters, the right picture is not the left one, and a blind model sees neither."""
    text = {"name": "bert", "vocab": 7, "length": T, "width": 8, "depth": 1, "heads": 2, "mlp": 8, "pool": "pooler"}
    visual = {"patches": {"name": "patches", "size": 4, "patch": 2}, "regions": {"name": "regions", "features": 5}}[seen]
    model = models.build({"name": "visualbert", "text": text, "visual": visual, "heads": {"verdicts": 2}}, "float32")
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), model.abstract["params"])
    first, second, told = two(seen, 1), two(seen, 2), texts(1, T).repeat(B, 0)

    @partial(jax.jit, static_argnums=2)
    def said(first, second, blind=False):
        rows = {**first, **{f"{name}_b": value for name, value in second.items()}, "question": told}
        return Answers("softmax", blind=blind).answers(Binder(model, {}), params, rows)

    found, bound = said(first, second), model.bind(params)
    shown = [{"image": normalise(one["image"], "imagenet")} if seen == "patches" else one for one in (first, second)]
    np.testing.assert_allclose(found, bound.verdict(bound.fuse_two(*shown, told)[0]["joint"]), rtol=1e-6, atol=1e-6)
    assert found.shape == (B, 2)
    for other in (said(second, first), said(first, first), said(second, second)):
        assert np.abs(other - found).max() > 1e-3
    hidden = said(first, second, True)
    np.testing.assert_allclose(hidden, hidden[:1].repeat(B, 0), rtol=1e-6)


def test_regions_are_shown_as_they_are():
    task = Answers()
    rows = {"regions": jnp.ones((B, 2, 3)), "boxes": jnp.ones((B, 2, 4)), "question": texts(B, T)}
    assert task.answers(Binder(MODEL, STATS), PARAMS, rows).shape == (B, ANSWERS)


def test_what_it_cannot_be_is_said_before_the_first_step():
    with pytest.raises(UserError, match=r"task\.loss 'hinge' is not one of: sigmoid, softmax"):
        Answers("hinge")
    with pytest.raises(UserError, match=r"task\.pixels 'clip'"):
        Answers(pixels="clip")
