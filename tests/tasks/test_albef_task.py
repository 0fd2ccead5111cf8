"""ALBEF's pretraining: teacher, queue, negatives, chunks, its switches, and what it refuses."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_albef as tiny

from mmjax.checkpoint import store
from mmjax.core import flops, tree
from mmjax.core.errors import UserError
from mmjax.core.keys import rows as keys
from mmjax.sharding import mesh as meshes
from mmjax.tasks import build as tasks
from mmjax.tasks.albef import ALBEF, caption
from mmjax.tasks.task import Binder
from mmjax.train import state as states
from mmjax.train import step as steps

WEIGHTS = {"contrastive": 1.0, "matching": 1.0, "masked_tokens": 1.0}
ONE = {"image_projection": {"kernel": jnp.zeros((3, 1))}, "w": jnp.float32(1)}


def plan(**changes) -> states.Plan:
    config = tiny.config(**changes)
    return states.plan(config, *tasks.build(config), meshes.make({"data": -1}, jax.devices()[:1]))


def encoded(at, batch=2):
    features = {"image": jnp.full((batch, 1), 10.0 * at), "text": jnp.full((batch, 1), 10.0 * at + 1)}
    return {"taught": features, "group": jnp.full(batch, at, jnp.int32)}


def test_the_queue_wraps_around_and_the_teacher_follows():
    """Three slots of two; batches 1 to 5 take slots 0 1 2 0 1. The teacher moves by a tenth: 1, then 1 + (2 - 1) / 10 ..."""
    task = ALBEF(2, WEIGHTS, momentum=0.9, queue=6)
    extra = task.extra(ONE)
    assert {name: x.shape for name, x in extra["queue"].items()} == {"image": (3, 2, 1), "text": (3, 2, 1), "group": (3, 2)}
    for at in range(1, 6):
        extra = jax.jit(task.advance)(ONE | {"w": jnp.float32(2)}, encoded(at), extra)
    assert extra["queue"]["group"].tolist() == [[4, 4], [5, 5], [3, 3]]
    assert extra["queue"]["image"][..., 0].tolist() == [[40, 40], [50, 50], [30, 30]]
    assert extra["queue"]["text"][..., 0].tolist() == [[41, 41], [51, 51], [31, 31]]
    assert int(extra["step"]) == 5
    assert float(extra["teacher"]["w"]) == pytest.approx(2 - 0.9**5)


def test_the_teacher_begins_as_the_model_and_shares_no_array():
    task = ALBEF(2, WEIGHTS, queue=2)
    made = jax.jit(task.extra)(ONE)
    jax.tree.map(np.testing.assert_array_equal, made["teacher"], ONE)
    assert ALBEF(2, WEIGHTS, queue=0).extra(ONE).keys() == {"step", "teacher"}


def test_alpha_grows_over_the_ramp():
    task = ALBEF(2, WEIGHTS, queue=2, distil={"contrastive": 0.4, "masked_tokens": 0.8}, ramp=4)
    for step, share in ((0, 0), (1, 0.25), (3, 0.75), (4, 1), (9, 1)):
        extra = {"step": jnp.int32(step)}
        assert float(task._share(extra, "contrastive")) == pytest.approx(0.4 * share)
        assert float(task._share(extra, "masked_tokens")) == pytest.approx(0.8 * share)


@pytest.mark.parametrize("hard", [True, False])
def test_negatives_are_never_of_the_group(hard):
    """All features alike but those of the pair's own group, which are far more alike: they are never taken."""
    groups = jnp.asarray([0, 1, 0, 2, 1, 0], jnp.int32)
    z = {"image": jax.nn.one_hot(groups, 4), "text": jax.nn.one_hot(groups, 4), "group": groups}
    z["taught"], model = {"image": z["image"], "text": z["text"]}, SimpleNamespace(scale=lambda: jnp.float32(50))
    task = ALBEF(6, WEIGHTS, queue=6, hard_negatives=hard)
    draw = jax.jit(lambda key: task._negatives(model, z | {"draw": keys(key, 6)}))
    taken = set()
    for seed in range(20):
        for way, at in jax.device_get(draw(jax.random.key(seed))).items():
            assert not (groups[at] == groups).any()
            taken |= {(way, i, int(j)) for i, j in enumerate(at)}
    assert len(taken) == 2 * (3 * 3 + 2 * 4 + 5)  # every other, both ways


def test_hard_negatives_are_the_similar_ones():
    z = {"image": jnp.eye(4), "text": jnp.eye(4)[jnp.asarray([1, 0, 3, 2])], "group": jnp.arange(4)}
    model = SimpleNamespace(scale=lambda: jnp.float32(50))
    draw = {"draw": keys(jax.random.key(0), 4)}
    found = ALBEF(4, WEIGHTS, momentum=None)._negatives(model, z | draw)
    assert found["i2t"].tolist() == found["t2i"].tolist() == [1, 0, 3, 2]
    other = ALBEF(4, WEIGHTS, momentum=None, hard_negatives=False)._negatives(model, z | draw)
    assert other["i2t"].tolist() != [1, 0, 3, 2]


def test_the_caption_is_whole_again():
    rows = {"text": jnp.asarray([[2, 1, 7, 3]]), "mlm_labels": jnp.asarray([[-1, 5, -1, -1]])}
    assert caption(rows).tolist() == [[2, 5, 7, 3]]
    assert caption({"text": rows["text"]}).tolist() == [[2, 1, 7, 3]]


def gradients(static, rows):
    """With a teacher that differs from the model, and one slot that holds something."""
    key = jax.random.key(1)
    made = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if x.dtype == jnp.float32 else x, static.init(key))
    noise = static.init(jax.random.key(2))["params"]
    made["extra"]["teacher"] = jax.tree.map(lambda x, y: x + 0.3 * y, made["extra"]["teacher"], noise)
    rng = np.random.default_rng(0)
    for name in ("image", "text"):
        made["extra"]["queue"][name] += rng.normal(size=made["extra"]["queue"][name].shape)
    made["extra"]["step"] = made["step"] = jnp.int32(1)
    _, terms, _, grads, z = jax.jit(lambda made, rows: steps.gradients(static, made, rows))(made, rows)
    return jax.device_get({"terms": terms, "grads": grads, "taught": z["taught"]})


def test_chunks_equal_the_whole_batch():
    """4 = 3 + 1, with dropout, two examples of a group, and a different number of hidden words in each chunk."""
    model = {"image": {**tiny.IMAGE, "dropout": 0.1, "patch_dropout": 0.4}, "text": {**tiny.TEXT, "dropout": 0.1}}
    rows = {name: jnp.asarray(x) for name, x in tiny.rows(groups=[0, 1, 2, 1]).items()}
    with jax.enable_x64(True):
        whole, chunked = (gradients(plan(model=model, chunk=chunk, compute_dtype="float64"), rows) for chunk in (None, 3))
    a, b = tree.flatten(whole), tree.flatten(chunked)
    assert a.keys() == b.keys()
    largest = max(np.abs(x).max() for x in jax.tree.leaves(whole["grads"]))
    for path in a:
        assert np.abs(a[path] - b[path]).max() <= 1e-9 * max(np.abs(a[path]).max(), 1e-6 * largest), path
    assert whole["terms"]["masked_tokens"][1] == 5


def test_a_resumed_run_is_the_run(tmp_path):
    """Four steps at once, and two, saved and restored, and two: every leaf is the same bit for bit, teacher and queue too."""
    static = plan()
    one, kept = steps.compiled(static), store.Store(str(tmp_path), keep=1)

    def go(state, first, last):
        for at in range(first, last):
            state, _ = one(state, {name: jnp.asarray(x) for name, x in tiny.rows(seed=at).items()})
        return state

    state = go(static.make(), 0, 2)
    kept.save(2, state, {})
    kept.wait()
    whole = go(state, 2, 4)
    again = go(kept.restore(2, static.abstract(), static.shardings()), 2, 4)
    kept.close()
    a, b = tree.flatten(jax.device_get(whole)), tree.flatten(jax.device_get(again))
    assert a.keys() == b.keys()
    assert {"extra/queue/image", "extra/teacher/temperature", "extra/step"} <= a.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)
    assert np.abs(a["extra/queue/image"]).max((1, 2)).all()  # three slots, four steps


@pytest.mark.parametrize("batch, groups", [(4, [5, 5, 5, 5]), (1, None)], ids=["one-group", "one"])
def test_a_batch_without_negatives_counts_its_own_pairs_alone(batch, groups):
    static = plan(batch=batch, task={"queue": 0, "weights": {"matching": 1.0, "contrastive": 1.0}})
    rows = {name: jnp.asarray(x) for name, x in tiny.rows(batch, groups=groups).items()}
    made = static.init()
    loss, (terms, _, _) = jax.jit(lambda made: steps.forward(static, made["params"], {}, made["extra"], rows, None))(made)
    assert terms["matching"][1] == batch
    assert [float(x) for x in terms["negatives"]] == [0, 2 * batch]
    assert np.isfinite(loss)


def outline(**changes):
    """(terms, flops of a step, what training carries), nothing compiled."""
    static = plan(**changes)
    state, rows = static.abstract(), tasks.abstract_batch(tiny.config(**changes))
    terms = set()

    def grads(state, rows):
        _, found, _, grads, _ = steps.gradients(static, state, rows)
        terms.update(found)
        return grads

    return terms, flops.count(grads, state, rows), set(state["extra"])


def test_each_switch_is_one_key():
    terms, cost, carried = outline()
    assert carried == {"teacher", "queue", "step"}
    assert set(WEIGHTS) | {"alpha", "temperature", "negatives"} <= terms
    for term, left in (("contrastive", {"teacher", "step"}), ("matching", carried), ("masked_tokens", carried)):
        without = outline(task={"weights": WEIGHTS | {term: 0.0}})
        assert terms - without[0] >= {term}
        assert without[1] < cost  # it is not computed
        assert without[2] == left
    alone = outline(task={"momentum": None})
    assert alone[1] < cost
    assert alone[2] == set()
    assert outline(task={"distil": {"contrastive": 0.4, "masked_tokens": 0.0}})[1] < cost
    assert outline(model={"fusion": 1})[1] < cost
    bare = outline(task={"weights": {"matching": 1.0, "masked_tokens": 1.0}, "distil": {}})
    assert bare[2] == set()  # the first row of Table 1


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"queue": 10}, r"task.queue 10 is not divisible by batch_size 4: use 8 or 12"),
        ({"queue": -4}, r"task.queue -4 is not divisible"),
        ({"momentum": 1.0}, r"task.momentum 1.0 is not between 0 and 1: use 0.995, or None"),
        ({"weights": {"contrast": 1.0}}, r"task.weights: 'contrast' is not one of: .* Did you mean 'contrastive'\?"),
        ({"weights": {"matching": 0.0}}, r"task.weights .* leaves nothing to learn"),
        ({"distil": {"matching": 0.4}}, r"task.distil: 'matching' is not one of: contrastive, masked_tokens"),
        ({"distil": {"contrastive": 4}}, r"task.distil.contrastive 4 is not between 0 and 1"),
        ({"pixels": "clip"}, r"task.pixels 'clip' is not one of"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, text):
    with pytest.raises(UserError, match=text) as refused:
        tasks.build(tiny.config(task=changes))
    assert "\n" not in str(refused.value)


def test_it_reads_pairs_for_retrieval_and_matching():
    config = tiny.config()
    model, task = tasks.build(config)
    params, _ = model.init(jax.random.key(0))
    rows = {name: jnp.asarray(x) for name, x in tiny.rows().items()}
    bind = Binder(model, {})
    image, text = task.image(bind, params, rows), task.text(bind, params, rows)
    np.testing.assert_allclose(jnp.linalg.norm(image, axis=1), 1, rtol=1e-5)
    plain = {**rows, "text": caption(rows)}
    del plain["mlm_labels"]
    np.testing.assert_allclose(text, task.text(bind, params, plain), rtol=1e-6)
    logits = task.match(bind, params, plain)
    assert logits.shape == (tiny.B, 2)
    # What a shortlist is ordered by: pairs of a text with the picture at a place, each picture encoded once.
    at, told = jnp.array([2, 0, 2]), jnp.array([1, 1, 3])
    found = task.matched(bind, params, {"image": plain["image"], "text": plain["text"][told], "at": at})
    pairs = task.match(bind, params, {"image": plain["image"][at], "text": plain["text"][told]})
    np.testing.assert_allclose(found, pairs[:, 1] - pairs[:, 0], atol=1e-5)  # float32
    assert np.ptp(found) > 1e-4


def test_captions_that_were_cut_are_counted():
    model, task = tasks.build(tiny.config(task={"momentum": None}))
    params, _ = model.init(jax.random.key(0))
    rows = {name: jnp.asarray(x) for name, x in tiny.rows().items()} | {"text_cut": jnp.array([0, 3, 0, 1], jnp.int32)}
    bind = Binder(model, {})
    z = task.encode(bind, params, rows, None)
    terms, aux = task.relate(bind, params, z)
    assert [float(x) for x in (terms | task.read(bind, params, z, aux, None))["truncated"]] == [2, tiny.B]
