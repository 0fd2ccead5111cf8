"""Pretraining of fusion models: foreign texts, terms that can be switched off, chunks, and what a lone group gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fused import ANSWERS, VOCAB, Fused

from mmjax.core import flops, keys, module, tree
from mmjax.core.errors import UserError
from mmjax.sharding import mesh as meshes
from mmjax.tasks.pretraining import Pretraining
from mmjax.tasks.task import Binder
from mmjax.train import state as states
from mmjax.train import step as steps

B, T = VOCAB, 3  # a row's text is its number
ALL = {"masked_tokens": 1.0, "matching": 0.5, "answers": 2.0}
OPTIM = {"name": "adamw", "args": {}, "lr": 0.1, "schedule": {"name": "constant"}, "weight_decay": 0.1,
         "decay_rules": None, "lr_rules": [], "clip": 1.0, "ema": None}  # fmt: skip
CONFIG = {"freeze": [], "optim": OPTIM, "steps": 9, "seed": 0, "bad_steps": "stop", "chunk": None,
          "accumulation": "gradcache", "sharding": [[".*", "fsdp"]]}  # fmt: skip
MODEL = module.define(lambda key: Fused(module.rngs(key)))


def batch(group=(0, 1, 2, 0, 3, 1, 4)):
    """Row i's text is i everywhere, so that it can be told whose it is; a third of the words are asked for."""
    rng = np.random.default_rng(0)
    labels = np.full((B, T), -1, np.int32)
    labels[:, 1] = np.arange(B)[::-1]
    return {
        "image": jnp.asarray(rng.integers(0, 256, (B, 2, 2, 3)), jnp.uint8),
        "text": jnp.broadcast_to(jnp.arange(B, dtype=jnp.int32)[:, None], (B, T)),
        "mlm_labels": jnp.asarray(labels),
        "answer_scores": jnp.asarray(np.eye(ANSWERS)[np.arange(B) % ANSWERS], jnp.float32),
        "group": jnp.asarray(group, jnp.int32),
    }


def plan(weights=None, **changes) -> states.Plan:
    mesh = meshes.make({"data": -1}, jax.devices()[:1])
    return states.plan({**CONFIG, **changes}, MODEL, Pretraining(ALL if weights is None else weights), mesh)


def related(rows, seed=0):
    task, bind = Pretraining(ALL), Binder(MODEL, {})
    return task.relate(bind, {}, task.encode(bind, {}, rows, keys.rows(jax.random.key(seed), B)))


def gradients(static, rows):
    wide = jnp.zeros(()).dtype  # float64 where that is on
    state = jax.tree.map(lambda x: x.astype(wide) if x.dtype == jnp.float32 else x, static.init(jax.random.key(1)))
    value, terms, _, grads, _ = jax.jit(lambda state, rows: steps.gradients(static, state, rows))(state, rows)
    return jax.device_get({"loss": value, "terms": terms, "grads": grads})


@pytest.mark.smoke
def test_half_of_the_rows_are_shown_a_text_of_another_group():
    rows, times = batch(), 0
    for seed in range(40):
        terms, aux = related(rows, seed)
        whose = np.asarray(aux["text"][:, 0])
        assert (np.asarray(aux["match"]) == (whose == np.arange(B))).all()
        foreign = ~np.asarray(aux["match"])
        group = np.asarray(rows["group"])
        assert (group[whose[foreign]] != group[foreign]).all()
        assert aux["weight"].tolist() == [1.0] * B
        assert float(terms["unmatched"][0]) == 0
        times += int(foreign.sum())
    assert abs(times / (40 * B) - 0.5) < 0.15  # 280 draws: five standard deviations


def test_pairs_of_a_shortlist_are_matched():
    rows, bind, task = batch(), Binder(MODEL, {}), Pretraining(ALL)
    params, _ = MODEL.init(jax.random.key(0))
    at, told = jnp.array([2, 0, 2]), rows["text"][jnp.array([1, 1, 3])]
    found = task.matched(bind, params, {"image": rows["image"], "text": told, "at": at})
    pairs = task.match(bind, params, {"image": rows["image"][at], "text": told})
    np.testing.assert_allclose(found, pairs[:, 1] - pairs[:, 0], rtol=1e-6)
    assert np.ptp(found) > 1e-4


def test_a_batch_of_one_group_keeps_its_texts_and_matching_passes_it_over():
    rows = batch(group=[5] * B)
    terms, aux = related(rows)
    assert aux["match"].all()
    assert not aux["weight"].any()
    assert [float(x) for x in terms["unmatched"]] == [B, B]
    found = gradients(plan(), rows)
    assert found["terms"]["matching"] == (0, 0)
    assert not found["grads"]["yes"]["kernel"].any()
    assert found["terms"]["masked_tokens"][1] == B
    assert np.isfinite(found["loss"])


def test_only_rows_with_their_own_text_are_asked_for_words_and_answers():
    rows = batch()
    found = gradients(plan(), rows)
    own = found["terms"]["masked_tokens"][1]
    assert 0 < own < B
    assert found["terms"]["answers"][1] == own
    assert found["terms"]["matching"][1] == B


@pytest.mark.parametrize("term", ALL)
def test_a_term_of_weight_zero_is_not_computed(term):
    rows = jax.eval_shape(batch)

    def cost(static):
        return flops.count(lambda s, rows: steps.gradients(static, s, rows)[3], static.abstract(), rows)

    without = plan({**ALL, term: 0.0})
    assert term not in without.task.weights
    assert cost(without) < cost(plan())
    assert term not in gradients(without, batch())["terms"]


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("terms", [ALL, {"masked_tokens": 1.0}], ids=["together", "alone"])
def test_chunks_equal_the_whole_batch(terms, chunk):
    with jax.enable_x64(True):
        # Pictures are normalised in float32, whose rounding hangs on how a program is cut.
        regions = {"regions": jnp.asarray(np.random.default_rng(2).normal(size=(B, 2, 3))), "boxes": jnp.ones((B, 2, 4))}
        rows = {name: value for name, value in batch().items() if name != "image"} | regions
        whole, chunked = (gradients(plan(terms, chunk=size), rows) for size in (None, chunk))
    a, b = tree.flatten(whole), tree.flatten(chunked)
    assert a.keys() == b.keys()
    largest = max(np.abs(x).max() for x in jax.tree.leaves(whole["grads"]))
    for path in a:
        assert np.abs(a[path] - b[path]).max() <= 1e-9 * max(np.abs(a[path]).max(), 1e-6 * largest), path


def test_what_is_no_term_and_what_is_no_share_is_said():
    with pytest.raises(UserError, match=r"task.weights: 'matchng' is not one of: masked_tokens, .*Did you mean 'matching'\?"):
        Pretraining({"matchng": 1.0})
    with pytest.raises(UserError, match=r"task.weights {'matching': 0.0} leaves nothing to learn"):
        Pretraining({"matching": 0.0})
    with pytest.raises(UserError, match=r"task\.foreign 1.0 is not between 0 and 1"):
        Pretraining(ALL, foreign=1.0)


def test_a_term_without_its_field_is_said():
    rows = {name: x for name, x in batch().items() if name != "mlm_labels"}
    with pytest.raises(UserError, match=r"masked_tokens needs 'mlm_labels' in config\.batch"):
        Pretraining(ALL).encode(Binder(MODEL, {}), {}, rows, None)
