"""Tiled losses equal the dense formula in value and gradients, hold nothing quadratic, and refuse what they cannot do."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.core import flops, pin
from mmjax.core.errors import UserError
from mmjax.losses import CONTRASTIVE
from mmjax.losses import walk as walks
from mmjax.sharding import mesh as meshes

CASES = {
    "softmax": ("softmax", {}),
    "i2t": ("softmax", {"direction": "i2t"}),
    "t2i": ("softmax", {"direction": "t2i"}),
    "sigmoid": ("sigmoid", {}),
}


@pytest.fixture(scope="module", autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def draw(batch, width=5, seed=0):
    x = np.random.default_rng(seed).normal(size=(2, batch, width))
    image, text = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return jnp.asarray(image), jnp.asarray(text), jnp.float64(3.7), jnp.float64(-1.2)


def run(case, inputs, group, **options):
    name, fixed = CASES[case]

    def loss(*args):
        terms = CONTRASTIVE[name](*args, jnp.asarray(group, jnp.int32), **fixed, **options)
        return 1.3 * terms["contrastive"][0], terms

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))(*inputs)


def assert_same(case, inputs, group, tile):
    plain, tiled = (run(case, inputs, group, form=form, tile=tile) for form in ("dense", "tiled"))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(tiled), strict=True):
        assert a.dtype == b.dtype
        # Float64; the floor is for gradients that are zero but for rounding (a group of all, softmax's bias).
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


# Groups [0 1 2 0 1 2 ...] meet again in every tile; 7 in threes is 3 + 3 + 1 with padding, 6 in fours 3 + 3 without.
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("batch", "tile"), [(7, 3), (6, 4), (1, 1)])
def test_tiled_is_dense_with_groups_across_tiles(case, batch, tile):
    assert_same(case, draw(batch), np.arange(batch) % 3, tile)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(case=st.sampled_from(sorted(CASES)), batch=st.integers(1, 9), tile=st.integers(1, 12), data=st.data())
def test_tiled_is_dense_for_any_size_tile_and_grouping(case, batch, tile, data):
    group = data.draw(st.lists(st.integers(0, batch), min_size=batch, max_size=batch))
    assert_same(case, draw(batch, seed=batch), np.array(group), tile)


@pytest.mark.parametrize("case", CASES)
def test_logits_far_apart_neither_overflow_nor_vanish(case):
    """Logits of 0 and +-300: exp(300) is no float32, and a row's own largest is what it is measured by."""
    image = jnp.asarray([[1.0, 0], [0, 1], [-1, 0], [0.5, 0.5]], jnp.float32)
    inputs = image, image[::-1], jnp.float32(300), jnp.float32(0)
    a, b = (run(case, inputs, np.arange(4), form=form, tile=2) for form in ("dense", "tiled"))
    for (value, _), grads in (a, b):
        assert all(np.isfinite(x).all() for x in (value, *grads))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), a, b)


def test_bfloat16_embeddings_travel_and_gradients_stay_in_float32():
    inputs = [x.astype(jnp.float32) for x in draw(8, 16)]
    (exact, _), plain = run("softmax", inputs, np.arange(8), form="tiled", tile=4)
    (close, _), grads = run("softmax", inputs, np.arange(8), form="tiled", tile=4, dtype="bfloat16")
    assert 0 < abs(float(close - exact)) < 2e-2 * float(exact)
    assert all(g.dtype == jnp.float32 for g in grads)
    # More digits than bfloat16's eight bits have: the sums were not rounded to it.
    assert (grads[0] != grads[0].astype(jnp.bfloat16)).any()
    np.testing.assert_allclose(grads[0], plain[0], atol=2e-2 * float(jnp.abs(plain[0]).max()))


@pytest.mark.parametrize("name", CONTRASTIVE)
@pytest.mark.parametrize(("form", "low", "high"), [("dense", 1.3, 2.1), ("tiled", 0.9, 1.1)])
def test_memory_grows_as_the_square_or_with_the_batch(name, form, low, high):
    def bytes_of(batch):
        x, one = jax.ShapeDtypeStruct((batch, 8), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)

        def loss(image, text, scale, bias):
            group = jnp.arange(batch, dtype=jnp.int32)
            return CONTRASTIVE[name](image, text, scale, bias, group, form=form, tile=64)["contrastive"][0]

        memory = jax.jit(jax.grad(loss, (0, 1, 2, 3))).lower(x, x, one, one).compile().memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    assert low < math.log2(bytes_of(8192) / bytes_of(4096)) < high


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_flops_are_those_of_the_dense_form(name):
    x, one = jax.ShapeDtypeStruct((8, 3), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)

    def cost(form):
        def loss(*args):
            return CONTRASTIVE[name](*args, jnp.arange(8, dtype=jnp.int32), form=form, tile=4)["contrastive"][0]

        return flops.count(jax.grad(loss, (0, 1, 2, 3)), x, x, one, one)

    assert cost("tiled") == cost("dense") == 3 * 2 * 8 * 8 * 3


def test_auto_is_dense_while_a_device_holds_few_logits(monkeypatch):
    for name in ("DENSE_ALONE", "DENSE_SPLIT"):
        monkeypatch.setattr(walks, name, 64)
    assert walks.choose("auto", 4, None, 8) is None
    assert walks.choose("auto", 4, None, 9) == walks.Walk(4)
    mesh = meshes.abstract({"data": 2, "fsdp": 2}, 4)
    with pin.on(mesh, meshes.PINS):
        assert walks.choose("auto", 4, None, 16) is None
        assert walks.choose("auto", 4, "bfloat16", 20) == walks.Walk(4, "bfloat16", mesh)
        with pytest.raises(UserError, match="form 'tiled' is for one device and the batch is split over 4: use 'ring'"):
            walks.choose("tiled", 4, None, 20)
        with pytest.raises(UserError, match="a ring of 4 devices needs a batch that they divide, not 18"):
            walks.choose("ring", 4, None, 18)
    assert walks.choose("ring", 4, None, 9) == walks.Walk(4)  # a ring of one device


def test_unknown_words_are_named():
    with pytest.raises(UserError, match=r"form 'rings' is not one of: auto, dense, tiled, ring\. Did you mean 'ring'"):
        walks.choose("rings", 4, None, 8)
    with pytest.raises(UserError, match="tile 0 is not a positive number"):
        walks.choose("tiled", 0, None, 8)
