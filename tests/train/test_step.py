"""One step on a toy: what it changes, what it leaves alone, and what it says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.core import flops, module, tree
from mmjax.core.errors import UserError
from mmjax.layers.norm import BatchNorm
from mmjax.sharding import mesh as meshes
from mmjax.tasks import build as tasks
from mmjax.tasks.task import Task
from mmjax.train import state as states
from mmjax.train import step as steps

B = 4
OPTIM = {
    "name": "adamw",
    "args": {},
    "lr": 0.1,
    "schedule": {"name": "constant"},
    "weight_decay": 0.1,
    "decay_rules": None,
    "lr_rules": [],
    "clip": 1.0,
    "ema": 0.75,
}
CONFIG = {
    "freeze": [],
    "optim": OPTIM,
    "steps": 100,
    "seed": 0,
    "chunk": None,
    "accumulation": "gradcache",
    "bad_steps": "stop",
    "sharding": [[".*", "fsdp"]],
}


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(3, 5, rngs=rngs)
        self.norm = BatchNorm(5)
        self.last = nnx.Linear(5, 1, use_bias=False, rngs=rngs)

    def __call__(self, x, train: bool):
        return self.last(self.norm(self.first(x), train))[:, 0]


class Regression(Task):
    weights = {"square": 2.0}

    def read(self, bind, params, z, aux, key):
        error = bind(params)(z["x"], key is not None) - z["y"]
        return {"square": (jnp.square(error).sum(), jnp.float32(B)), "absolute": (jnp.abs(error).sum(), jnp.float32(B))}


def plan(**changes) -> states.Plan:
    model = module.define(lambda key: Net(module.rngs(key)))
    return states.plan({**CONFIG, **changes}, model, Regression(), meshes.make({"data": -1}, jax.devices()[:1]))


def batch(seed=0, bad=False):
    x, y = np.split(np.random.default_rng(seed).normal(size=(B, 4)).astype(np.float32), [3], axis=1)
    x[0, 0] = np.nan if bad else x[0, 0]
    return {"x": jnp.asarray(x), "y": jnp.asarray(y[:, 0])}


def copy(state):
    return jax.tree.map(np.array, state)


def run(static: states.Plan, batches):
    """The state after each of the batches, the first one before them, and the steps' measures."""
    one, state, found, measures = steps.compiled(static), static.make(), [], []
    found.append(copy(state))
    for rows in batches:
        state, said = one(state, rows)
        found.append(copy(state))
        measures.append(copy(said))
    return found, measures


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)))


@pytest.fixture(scope="module")
def two_steps():
    return run(plan(), [batch(0), batch(1)])


@pytest.mark.smoke
def test_a_step_changes_every_part_of_the_state(two_steps):
    states_, _ = two_steps
    for before, after in itertools.pairwise(states_):
        for part in ("params", "stats", "ema", "opt"):
            assert not equal(before[part], after[part]), part
        assert after["step"] == before["step"] + 1
        assert after["guard"] == {"first_bad_step": -1, "bad_steps": 0}


@pytest.mark.smoke
def test_ema_is_a_mean_with_decaying_weights(two_steps):
    first, second, third = two_steps[0]
    assert equal(first["ema"], first["params"])
    for before, after in ((first, second), (second, third)):
        wanted = jax.tree.map(lambda e, p: 0.75 * e + 0.25 * p, before["ema"], after["params"])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), after["ema"], wanted)


def test_terms_are_sums_and_counts(two_steps):
    states_, (measures, _) = two_steps
    rows = batch(0)
    live = plan().model.bind(*(jax.tree.map(jnp.asarray, states_[0][part]) for part in ("params", "stats")))
    error = live(rows["x"], True) - rows["y"]
    np.testing.assert_allclose(measures["terms/square"], [np.square(error).sum(), B], rtol=1e-5)
    np.testing.assert_allclose(measures["terms/absolute"], [np.abs(error).sum(), B], rtol=1e-5)
    assert measures["loss"] == pytest.approx(2 * np.square(error).sum() / B, rel=1e-5)  # a weighted mean
    assert {measures[name].dtype for name in measures} == {np.dtype(np.float32)}


def test_norms_are_those_of_the_step(two_steps):
    (before, after, _), (measures, _) = two_steps
    change = jax.tree.map(lambda a, b: a - b, after["params"], before["params"])
    for name, part in (("update_norm", change), ("param_norm", after["params"])):
        assert measures[name] == pytest.approx(np.sqrt(sum(np.square(x).sum() for x in jax.tree.leaves(part))), rel=1e-5)


def test_without_ema_there_is_none():
    static = plan(optim={**OPTIM, "ema": None})
    assert static.abstract()["ema"] == {}
    assert run(static, [batch()])[0][1]["ema"] == {}


@pytest.mark.smoke
@pytest.mark.parametrize("bad_steps", ["stop", "skip"])
def test_a_bad_batch_changes_nothing_but_the_guard(bad_steps):
    good, bad = batch(0), batch(1, bad=True)
    (_, before, after, later, last), measures = run(plan(bad_steps=bad_steps), [good, bad, good, bad])
    for part in ("params", "stats", "ema", "opt", "extra"):
        assert equal(before[part], after[part]), part
    assert np.isnan(measures[1]["loss"])
    assert before["guard"]["first_bad_step"] == -1
    assert after["guard"] == {"first_bad_step": 1, "bad_steps": 1}
    assert [int(s["step"]) for s in (before, after, later, last)] == [1, 2, 3, 4]
    assert last["guard"] == {"first_bad_step": 1, "bad_steps": 2}
    for part in ("params", "stats", "ema", "opt"):  # after a bad step, only "skip" goes on
        assert equal(after[part], later[part]) == (bad_steps == "stop"), part
        assert equal(later[part], last[part]), part


@pytest.fixture(scope="module")
def frozen():
    return plan(freeze=[["first/.*", True], ["norm/.*", True]])


def test_frozen_leaves_have_no_moments_and_stay(frozen):
    assert frozen.frozen == {"first/kernel", "first/bias", "norm/scale", "norm/bias"}
    assert {path.partition("mu/")[2] for path in tree.flatten(frozen.abstract()["opt"]) if "mu/" in path} == {"last/kernel"}
    (before, after), _ = run(frozen, [batch()])
    assert equal(before["params"]["first"], after["params"]["first"])
    assert equal(before["params"]["norm"], after["params"]["norm"])
    assert not equal(before["params"]["last"], after["params"]["last"])
    assert equal(before["stats"], after["stats"])  # a frozen BatchNorm runs in inference mode


def test_frozen_leaves_cost_no_backward(frozen):
    first, last = 2 * B * 3 * 5, 2 * B * 5  # operations of the two products, forward
    rows = jax.eval_shape(batch)

    def cost(static):
        return flops.count(lambda state, rows: steps.gradients(static, state, rows)[3], static.abstract(), rows)

    assert cost(plan()) == first + last + first + 2 * last  # the pictures need no gradient
    assert cost(frozen) == first + last + last


def test_freezing_rules_are_checked():
    params = plan().model.abstract["params"]
    assert states.frozen_paths([["last/.*", False], [".*", True]], params) == {
        "first/kernel", "first/bias", "norm/scale", "norm/bias",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"freeze: rule 'frist/.\*' covers no leaf"):
        states.frozen_paths([["frist/.*", True]], params)
    with pytest.raises(UserError, match="freeze: every parameter is frozen"):
        states.frozen_paths([[".*", True]], params)


def test_a_mistyped_optim_setting_ends_the_plan():
    with pytest.raises(UserError, match=r"optim has no key 'wd'"):
        plan(optim={**OPTIM, "wd": 1.0})


@pytest.mark.smoke
def test_the_contrastive_task_learns_four_pairs():
    config = {
        **CONFIG,
        "model": {
            "name": "dual_encoder",
            "dim": 8,
            "image": {"name": "vit", "size": 4, "patch": 2, "width": 8, "depth": 0, "heads": 2, "mlp": 8,
                      "pool": "mean", "class_token": False},
            "text": {"name": "text_transformer", "vocab": 8, "length": 2, "width": 8, "depth": 0, "heads": 2, "mlp": 8,
                     "pool": "mean", "positions": "none"},
        },
        "task": {"name": "contrastive", "loss": {"name": "softmax"}},
        "compute_dtype": "float32",
        "remat": "none",
        "optim": {**OPTIM, "lr": 0.01, "ema": None},
    }  # fmt: skip
    tasks.check(config)
    static = states.plan(config, *tasks.build(config), meshes.make({"data": -1}, jax.devices()[:1]))
    rng = np.random.default_rng(0)
    rows = {
        "image": jnp.asarray(rng.integers(0, 256, (4, 4, 4, 3)), jnp.uint8),
        "text": jnp.asarray([[0, 1], [2, 3], [4, 5], [6, 7]], jnp.int32),
        "group": jnp.arange(4, dtype=jnp.int32),
    }
    _, measures = run(static, [rows] * 30)
    assert set(measures[0]) == {"loss", "grad_norm", "param_norm", "update_norm"} | {
        f"terms/{name}" for name in ("contrastive", "accuracy/i2t", "accuracy/t2i", "cosine/positive", "logit_scale")
    }
    assert measures[0]["terms/contrastive"][1] == 8  # four rows, two directions
    assert measures[0]["terms/logit_scale"].tolist() == [pytest.approx(1 / 0.07, rel=1e-5), 1]
    assert measures[-1]["terms/accuracy/i2t"].tolist() == [4, 4]
    assert measures[-1]["loss"] < 0.1 < measures[0]["loss"]
