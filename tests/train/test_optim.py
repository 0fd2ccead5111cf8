"""Schedules at points computed by hand; which leaves decay, scale and clip touch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax.core import tree
from mmjax.core.config import load, plain
from mmjax.core.errors import UserError
from mmjax.train import optim

BASE = {
    "name": "adamw",
    "args": {},
    "lr": 0.1,
    "schedule": {"name": "constant"},
    "weight_decay": 0.0,
    "decay_rules": None,
    "lr_rules": [],
    "clip": None,
    "ema": None,
}
LEAVES = ["fc/kernel", "fc/bias", "ln/scale", "tokens/embedding", "positions", "class_token", "probe", "logit_scale"]


def update(grads=None, params=None, **config):
    """Updates of the first step, by path; gradients and parameters are 1 and 2 unless given."""
    params = params or tree.unflatten({path: jnp.full(3, 2.0) for path in LEAVES})
    grads = grads or jax.tree.map(jnp.ones_like, params)
    config = {**BASE, **config}
    tx = optim.make(config, params, optim.schedule(config["schedule"], config["lr"], 100))
    updates, state = tx.update(grads, tx.init(params), params)
    return {path: float(u.ravel()[0]) for path, u in tree.flatten(updates).items()}, state


@pytest.mark.smoke
@pytest.mark.parametrize(
    "spec, points",
    [
        ({"name": "cosine"}, {0: 1, 50: 0.5, 100: 0}),
        ({"name": "cosine", "warmup": 20}, {0: 0, 5: 0.25, 20: 1, 60: 0.5, 100: 0}),
        ({"name": "cosine", "warmup": 20, "end": 0.1}, {20: 1, 60: 0.55, 100: 0.1}),
        ({"name": "constant"}, {0: 1, 99: 1}),
        ({"name": "constant", "warmup": 4}, {0: 0, 1: 0.25, 4: 1, 99: 1}),
        ({"name": "linear", "warmup": 20, "end": 0.1}, {0: 0, 5: 0.25, 20: 1, 60: 0.55, 100: 0.1}),
        ({"name": "rsqrt", "timescale": 30}, {0: 1, 30: 0.5**0.5, 90: 0.5}),
        (
            {"name": "rsqrt", "timescale": 30, "warmup": 10, "cooldown": 20},
            {0: 0, 5: 0.5, 10: 1, 40: 0.5**0.5, 80: 0.3**0.5, 90: 0.5 * (3 / 11) ** 0.5, 100: 0},
        ),
    ],
)
def test_schedules_at_points_by_hand(spec, points):
    rate = optim.schedule(spec, 2.0, 100)
    for step, value in points.items():
        assert float(rate(step)) == pytest.approx(2 * value, rel=1e-6, abs=1e-9), step
        assert float(jax.jit(rate)(step)) == pytest.approx(2 * value, rel=1e-6, abs=1e-9), step


def test_unknown_names_and_keywords_are_named():
    with pytest.raises(UserError, match=r"optim.schedule: unknown name 'cosin'.*Did you mean 'cosine'\?"):
        optim.schedule({"name": "cosin"}, 1.0, 10)
    with pytest.raises(UserError, match="optim: unknown name 'adam'; choose one of: adafactor, adamw, lion, muon"):
        update(name="adam")
    with pytest.raises(UserError, match="optim: 'lion' takes no keyword 'eps'"):
        update(name="lion", args={"eps": 1e-3})


def test_a_mistyped_or_missing_setting_is_an_error():
    optim.check(BASE)
    with pytest.raises(UserError, match=r"^optim has no key 'weight_decy'; it has: name, .*Did you mean 'weight_decay'\?$"):
        optim.check({**BASE, "weight_decy": 0.1})
    with pytest.raises(UserError, match=r"^optim needs args, schedule, weight_decay, "):
        optim.check({"name": "lion", "lr": 1.0})


@pytest.mark.smoke
def test_by_default_only_matrices_decay():
    """Adam's first direction is the gradient's sign; decay adds 0.5 * 2 = 1 to it; times the rate 0.1."""
    found, _ = update(weight_decay=0.5)
    assert found == {
        path: pytest.approx(-0.2 if path in ("fc/kernel", "tokens/embedding") else -0.1, rel=1e-5) for path in LEAVES
    }


def test_decay_rules_replace_the_default():
    found, _ = update(weight_decay=0.5, decay_rules=[["ln/.*", 3.0], [".*", 0.0]])
    assert found == {path: pytest.approx(-0.4 if path == "ln/scale" else -0.1, rel=1e-5) for path in LEAVES}


def test_siglip_decays_as_big_vision_does():
    """There 1e-4 of a kernel is taken off at the schedule's peak, and nothing of any other leaf (its optax.py, wd_mults)."""
    recipe = plain(load("configs/siglip_b16.py"))["optim"]
    still = tree.unflatten({path: jnp.zeros(3) for path in LEAVES})
    said = {key: recipe[key] for key in ("lr", "weight_decay", "decay_rules", "args")}
    found, _ = update(grads=still, **said)
    assert found == {path: pytest.approx(-2e-4 if path == "fc/kernel" else 0, rel=1e-6) for path in LEAVES}


def test_lr_rules_multiply_the_whole_update():
    found, _ = update(weight_decay=0.5, lr_rules=[["fc/.*", 0.5], ["ln/.*", 0.0]])
    wanted = dict.fromkeys(LEAVES, -0.1) | {"fc/kernel": -0.1, "fc/bias": -0.05, "ln/scale": 0.0, "tokens/embedding": -0.2}
    assert found == {path: pytest.approx(value, rel=1e-5) for path, value in wanted.items()}


LAYERED = {
    "text_encoder/embed/embedding": (2, 4),
    "text_encoder/stack/blocks/mlp/fc1/kernel": (3, 4, 4),
    "text_encoder/stack/blocks/ln1/scale": (3, 4),
    "text_encoder/ln_final/scale": (4,),
    "image_encoder/stem/conv/kernel": (1, 1, 4, 4),
    "image_encoder/layers/0/project/conv/kernel": (1, 1, 4, 4),
    "image_encoder/layers/1/project/conv/kernel": (1, 1, 4, 4),
    "image_encoder/last/conv/kernel": (1, 1, 4, 4),
    "head/kernel": (4, 2),
}


@pytest.mark.parametrize("name", ["adamw", "muon", "lion"])
def test_layer_wise_rates(name):
    """Three stacked layers of decay 1/2: 1/8, 1/4, 1/2, before them 1/16, after them 1; two numbered ones times 0.1 of that."""
    rng = np.random.default_rng(0)
    grads = tree.unflatten({path: jnp.asarray(rng.normal(size=shape), jnp.float32) for path, shape in LAYERED.items()})

    def updates(lr_rules):
        config = {**BASE, "name": name, "lr": 1.0, "lr_rules": lr_rules}
        tx = optim.make(config, grads, optim.schedule(config["schedule"], 1.0, 100))
        return tree.flatten(tx.update(grads, tx.init(grads), grads)[0])

    plain = updates([])
    found = updates([["image_encoder/.*", {"decay": 0.5, "factor": 0.1}], [".*", {"decay": 0.5}]])
    layers = np.array([1 / 8, 1 / 4, 1 / 2])
    wanted = {
        "text_encoder/embed/embedding": 1 / 16,
        "text_encoder/stack/blocks/mlp/fc1/kernel": layers[:, None, None],
        "text_encoder/stack/blocks/ln1/scale": layers[:, None],
        "text_encoder/ln_final/scale": 1,
        "image_encoder/stem/conv/kernel": 0.1 / 8,
        "image_encoder/layers/0/project/conv/kernel": 0.1 / 4,
        "image_encoder/layers/1/project/conv/kernel": 0.1 / 2,
        "image_encoder/last/conv/kernel": 0.1,
        "head/kernel": 1,
    }
    for path, factor in wanted.items():
        np.testing.assert_allclose(found[path], plain[path] * factor, rtol=1e-5, err_msg=path)


def test_layers_of_a_lone_encoder_without_a_prefix():
    shapes = {"stack/blocks/fc/kernel": (2, 3, 3), "positions": (4, 3), "ln_post/scale": (3,)}
    leaves = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}
    found = optim.layer_wise({path: {"decay": 0.5} for path in leaves}, leaves)
    assert np.ravel(found["stack/blocks/fc/kernel"]).tolist() == [0.25, 0.5]
    assert (found["positions"], found["ln_post/scale"]) == (0.125, 1.0)


def test_a_decay_by_layers_needs_layers():
    with pytest.raises(UserError, match=r"optim.lr_rules: a decay by layers covers no layer"):
        update(lr_rules=[[".*", {"decay": 0.5}]])
    with pytest.raises(UserError, match=r"optim.lr_rules: \{'decoy': 0.5\} is neither a number nor"):
        update(lr_rules=[[".*", {"decoy": 0.5}]])


@pytest.mark.parametrize("table", ["lr_rules", "decay_rules"])
def test_a_rule_that_covers_no_leaf_is_an_error(table):
    with pytest.raises(UserError, match=rf"optim.{table}: rule 'fc/kernal' covers no leaf; .* Did you mean 'fc/kernel'\?"):
        update(**{table: [["fc/kernal", 0.5]]})


def test_the_gradient_is_clipped_by_its_global_norm():
    """Norm 5, clipped to 1: Adam's first moment is 0.1 of (3, 4) / 5."""
    grads, params = {"a": jnp.asarray([3.0]), "b": jnp.asarray([4.0])}, {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    for clip, scale in ((1.0, 0.2), (10.0, 1.0), (None, 1.0)):
        moments = {path: float(m[0]) for path, m in tree.flatten(update(grads, params, clip=clip)[1]).items() if "/mu/" in path}
        assert sorted(moments.values()) == pytest.approx([0.3 * scale, 0.4 * scale], rel=1e-5)


def test_muon_makes_kernels_orthogonal_and_leaves_the_rest_to_adam():
    """Each layer of a stack by itself; Newton-Schulz leaves singular values of 0.7 to 1.2, scaled by 0.2 sqrt(larger side)."""
    rng = np.random.default_rng(0)
    shapes = {"stack/blocks/fc/kernel": (3, 8, 5), "conv/kernel": (2, 2, 3, 4), "fc/bias": (5,), "tokens/embedding": (6, 4)}
    grads = tree.unflatten({path: jnp.asarray(rng.normal(size=shape), jnp.float32) for path, shape in shapes.items()})
    config = {**BASE, "name": "muon", "lr": 1.0}
    tx = optim.make(config, grads, optim.schedule(config["schedule"], 1.0, 100))
    updates = tree.flatten(tx.update(grads, tx.init(grads), grads)[0])
    for layer, g in zip(updates["stack/blocks/fc/kernel"], grads["stack"]["blocks"]["fc"]["kernel"], strict=True):
        u, _, v = np.linalg.svd(g, full_matrices=False)
        values = np.diag(u.T @ np.asarray(layer) @ v.T)  # the singular vectors are the gradient's own
        assert np.all((-values > 0.65 * 0.2 * 8**0.5) & (-values < 1.25 * 0.2 * 8**0.5)), values
    values = np.linalg.svd(np.asarray(updates["conv/kernel"]).reshape(12, 4), compute_uv=False)
    assert np.all((values > 0.65 * 0.2 * 12**0.5) & (values < 1.25 * 0.2 * 12**0.5)), values
    for path in ("fc/bias", "tokens/embedding"):  # Adam's first direction is the sign
        np.testing.assert_allclose(updates[path], -np.sign(tree.flatten(grads)[path]), rtol=1e-4)


@pytest.mark.parametrize(
    "name, args",
    [
        ("adamw", {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "mu_dtype": "bfloat16"}),
        ("lion", {"mu_dtype": "bfloat16"}),
        ("muon", {}),
        ("adafactor", {"min_dim_size": 4}),
        ("adafactor", {"min_dim_size": 4, "momentum": 0.9}),
    ],
)
def test_every_optimizer_reduces_a_quadratic(name, args):
    target = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)
    params = {"w": {"kernel": jnp.zeros((4, 5))}}
    config = {**BASE, "name": name, "args": args, "schedule": {"name": "cosine"}}
    tx = optim.make(config, params, optim.schedule(config["schedule"], 0.2, 60))

    def one(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda p: jnp.square(p["w"]["kernel"] - target).sum())(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    (params, state), losses = jax.jit(lambda carry: jax.lax.scan(one, carry, None, 60))((params, tx.init(params)))
    assert losses[-1] < 0.02 * losses[0]
    assert params["w"]["kernel"].dtype == jnp.float32
    shapes = {path: (leaf.shape, leaf.dtype) for path, leaf in tree.flatten(state).items()}
    if name == "adafactor":
        assert {shape for path, (shape, _) in shapes.items() if "v_row" in path or "v_col" in path} == {(4,), (5,)}
    if "mu_dtype" in args or "momentum" in args:
        assert [str(dtype) for path, (shape, dtype) in shapes.items() if "mu" in path or "ema" in path] == ["bfloat16"]
