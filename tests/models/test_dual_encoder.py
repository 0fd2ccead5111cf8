"""The dual encoder and the checks of its specs."""

import copy
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core import module, tree
from mmjax.core.errors import UserError

TINY = {
    "name": "dual_encoder",
    "dim": 6,
    "image": {"name": "vit", "size": 8, "patch": 4, "width": 8, "depth": 2, "heads": 2, "mlp": 12},
    "text": {"name": "text_transformer", "vocab": 9, "length": 5, "width": 8, "depth": 1, "heads": 2, "mlp": 12},
}
IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 3)), jnp.float32)
IDS = jnp.array([[1, 2, 3], [4, 5, 6]])

VIT_B = {"name": "vit", "size": 224, "width": 768, "depth": 12, "heads": 12, "mlp": 3072}
TEXT_512 = {"name": "text_transformer", "vocab": 49408, "length": 77, "width": 512, "depth": 12, "heads": 8, "mlp": 2048}
CLIP_B_32 = {
    "name": "dual_encoder",
    "dim": 512,
    "image": {**VIT_B, "patch": 32, "pre_norm": True, "patch_bias": False},
    "text": {**TEXT_512, "causal": True, "pool": "eos", "eos_id": 49407},
}
SIGLIP_B_16 = {
    "name": "dual_encoder",
    "dim": 768,
    "image": {**VIT_B, "patch": 16, "pool": "map", "class_token": False},
    "text": {**TEXT_512, "vocab": 32000, "length": 64, "width": 768, "heads": 12, "mlp": 3072},
    "image_projection": "none",
    "text_projection": "bias",
    "logit_scale": 10.0,
    "max_logit_scale": None,
    "logit_bias": -10.0,
}


def spec(**changes):
    """TINY with changes such as image__patch=3."""
    new = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = new
        for parent in parents:
            node = node[parent]
        node[last] = value
    return new


def fill(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), model.abstract["params"])


@pytest.mark.parametrize(("published", "size"), [(CLIP_B_32, 151_277_313), (SIGLIP_B_16, 203_155_970)])
def test_published_sizes(published, size):
    assert sum(leaf.size for leaf in jax.tree.leaves(models.build(published).abstract["params"])) == size


def test_vectors_have_length_one_in_float32():
    model = models.build(TINY, dtype="bfloat16")

    @jax.jit
    def run(params):
        bound = model.bind(params)
        return bound.image(IMAGES), bound.text(IDS)

    (z_image, image), (z_text, text) = run(fill(model))
    for z in (z_image, z_text):
        assert (z.shape, z.dtype) == ((2, 6), jnp.float32)
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-6)
    assert image["blocks"]["attention"].shape == (2, 2, 2, 5, 5)
    assert text["blocks"]["output"].shape == (1, 2, 3, 8)
    assert image["pooled"].dtype == jnp.bfloat16


def test_an_empty_bag_of_words_has_a_finite_gradient():
    model = models.build(spec(text__depth=0, text__pool="mean", text__positions="none", text__final_norm=False, text__pad_id=0))
    gradient = jax.jit(jax.grad(lambda p: model.bind(p).text(jnp.array([[1, 0], [0, 0]]))[0].sum()))(fill(model))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_scale_and_bias():
    def both(log=None, **options):
        model = models.build(spec(**options))
        params, _ = jax.eval_shape(model.init, jax.random.key(0))
        params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), params)
        if log is not None:
            params["logit_scale"] = jnp.float32(log)
        bound = model.bind(params)
        return float(bound.scale()), float(bound.bias())

    assert both(log=math.log(20.0)) == pytest.approx((20.0, 0.0))
    assert both(log=9.0) == pytest.approx((100.0, 0.0))
    assert both(log=9.0, max_logit_scale=None) == pytest.approx((math.exp(9.0), 0.0))


def test_scale_and_bias_start_where_the_spec_says():
    small = {"name": "gru", "vocab": 4, "width": 2, "hidden": 2}
    tower = {"name": "resnet", "stages": (1,), "widths": (2,), "block": "basic", "stem": "small", "stem_width": 2}
    model = models.build({**TINY, "image": tower, "text": small, "logit_scale": 10.0, "logit_bias": -10.0})
    params, stats = model.init(jax.random.key(0))
    bound = model.bind(params, stats)
    assert (float(bound.scale()), float(bound.bias())) == pytest.approx((10.0, -10.0))
    assert params["logit_scale"] == pytest.approx(math.log(10.0))


def test_every_leaf_has_a_gradient_but_attention_key_biases():
    """Softmax does not change when all keys move together, so a key bias has none."""
    model = models.build(TINY)

    def loss(params):
        bound = model.bind(params)
        return (bound.scale() * bound.image(IMAGES)[0] @ bound.text(IDS)[0].T)[0, 1]

    gradient = tree.flatten(jax.jit(jax.grad(loss))(fill(model)))
    dead = {path for path, leaf in gradient.items() if np.abs(leaf).max() < 1e-5}
    assert dead == {path for path in gradient if path.endswith("key/bias")}


def test_remat_reaches_transformer_blocks_only():
    mixed = spec(text={"name": "gru", "vocab": 9, "width": 4, "hidden": 8})
    plain, again = models.build(mixed), models.build(mixed, remat="full")

    def products(model):
        gradient = jax.grad(lambda p: model.bind(p).image(IMAGES)[0].sum())
        return str(jax.make_jaxpr(gradient)(model.abstract["params"])).count("dot_general")

    assert products(again) == products(plain) + 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "dual_encodr"}, "model: unknown name 'dual_encodr'.*Did you mean 'dual_encoder'"),
        ({"dims": 4}, "model: 'dual_encoder' takes no keyword 'dims'.*Did you mean 'dim'"),
        ({"image__name": "vitt"}, "model.image: unknown name 'vitt'"),
        ({"text__widht": 8}, "model.text: 'text_transformer' takes no keyword 'widht'.*Did you mean 'width'"),
        ({"text": {"name": "gru", "vocab": 9}}, "model.text: 'gru' needs 'width', 'hidden'"),
        ({"image__size": 10}, "model.image: size 10 is not divisible by patch 4: use size 8 or 12"),
        ({"text__heads": 3}, "model.text: width 8 is not divisible by heads 3: use width 6 or 9"),
        ({"image_projection": "none"}, "model.image_projection: 'none' needs dim 6 to be the encoder's width 8"),
        ({"text_projection": "liner"}, "model.text_projection: unknown name 'liner'.*Did you mean 'linear'"),
    ],
)
def test_check_names_value_place_and_mend(changes, message):
    with pytest.raises(UserError, match=message):
        models.check(spec(**changes))


def test_check_needs_every_part_before_building():
    with pytest.raises(UserError, match="model: 'dual_encoder' needs 'dim'"):
        models.check({"name": "dual_encoder", "image": TINY["image"]})
    with pytest.raises(UserError, match="model: two of image, audio, text are read together; given: image"):
        models.check({"name": "dual_encoder", "image": TINY["image"], "dim": 6})
    models.check(TINY)
    assert isinstance(models.build(TINY), module.Model)
