"""Losses around a ring, and chunks, on fake devices: equal to the plain formula, with the collectives that they should cost."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from eight_devices import VIT, B, config, filled, rows

from mmjax.core import pin, tree
from mmjax.core.keys import rows as keys
from mmjax.losses.contrastive import sigmoid, softmax
from mmjax.losses.negatives import fetch, hard_negatives
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place
from mmjax.train import loop, step

LOSSES = {"softmax": softmax, "sigmoid": sigmoid}
WIDTH = 6


@pytest.fixture(autouse=True)
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def draw(batch):
    rng = np.random.default_rng(batch)
    x = rng.normal(size=(2, batch, WIDTH))
    image, text = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return image, text, np.float64(3.7), np.float64(-1.2), (np.arange(batch) % max(1, batch - 3)).astype(np.int32)


def value_and_gradients(name, form, mesh, tile):
    def loss(image, text, scale, bias, group):
        terms = LOSSES[name](image, text, scale, bias, group, form=form, tile=tile)
        return terms["contrastive"][0], terms

    def run(*args):
        with pin.on(mesh, meshes.PINS):
            return jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(*args)

    return run


def split(mesh, inputs):
    image, text, scale, bias, group = inputs
    placed = place.batch({"image": image, "text": text, "group": group}, mesh)
    return placed["image"], placed["text"], scale, bias, placed["group"]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("shape", "devices", "batch", "tile"),
    [
        ({"data": 1}, 1, 5, 2),
        ({"data": 2}, 2, 6, 100),
        ({"data": 1, "fsdp": 4}, 4, 4, 3),  # one row a device: nothing to halve
        ({"data": 4, "fsdp": 2}, 8, 24, 2),  # blocks of 3, in tiles of 2, in halves of 1 and 2
    ],
    ids=["1", "2", "4", "8"],
)
def test_the_ring_is_the_formula(name, shape, devices, batch, tile):
    inputs, mesh = draw(batch), meshes.make(shape, jax.devices()[:devices])
    plain = jax.jit(value_and_gradients(name, "dense", None, tile))(*map(jnp.asarray, inputs))
    ring = jax.jit(value_and_gradients(name, "ring", mesh, tile))(*split(mesh, inputs))
    for (path, a), (_, b) in zip(*(jax.tree_util.tree_leaves_with_path(x) for x in (plain, ring)), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= 1e-12 * max(np.abs(a).max(), 1), path


def collectives(name):
    """{(primitive, sign of the way round): times} of loss and gradients on 8 devices, and the compiled text."""
    mesh, inputs = meshes.make({"data": 8}), draw(48)
    run = value_and_gradients(name, "ring", mesh, 4)
    return jax.make_jaxpr(run)(*inputs), jax.jit(run).lower(*split(mesh, inputs)).compile().as_text()


def hops(jaxpr, times=1):
    """(way round, shape, times) of every ppermute, loops multiplied out."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "ppermute":
            (source, target), *_ = eqn.params["perm"]
            yield 1 if (target - source) % 8 == 1 else -1, eqn.invars[0].aval.shape, times
        inner = times * eqn.params.get("length", 1)
        for value in eqn.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                body = getattr(item, "jaxpr", item)
                if hasattr(body, "eqns"):
                    yield from hops(body, inner)


@pytest.mark.parametrize(("name", "walks"), [("softmax", 2), ("sigmoid", 1)])
def test_a_ring_of_8_hops_7_times_each_way_and_gathers_nothing(name, walks):
    traced, compiled = collectives(name)
    found = list(hops(traced.jaxpr))
    for way in (1, -1):
        texts = [times for found_way, shape, times in found if found_way == way and shape == (3, WIDTH)]
        # The half of the texts hops 7 times a walk, and so do, in the walk that makes it, the sums of its gradient.
        assert texts == [7] * (walks + 1), way
    assert {times for *_, times in found} == {7}
    assert not re.findall(r" all-(?:gather|to-all)(?:-start)?\(", compiled)
    assert len(re.findall(r" collective-permute(?:-start)?\(", compiled)) <= len(found)
    # Sums of terms, scale and bias: reduced once, outside of the ring's loop.
    bodies = re.findall(r"^%?\S*(?:while|body|region)\S* .*?^}", compiled, re.M | re.S)
    assert not [b for b in bodies if "collective-permute(" in b and "all-reduce(" in b]


def test_hard_negatives_are_the_same_around_the_ring():
    mesh, (image, text, scale, _, group) = meshes.make({"data": 8}), draw(24)
    placed = place.batch({"image": image, "text": text, "group": group}, mesh)

    def run(mesh, form):
        def pick(image, text, group):
            with pin.on(mesh, meshes.PINS):
                key = keys(jax.random.key(0), 24)
                args = image, text, jnp.asarray(scale), group
                return hard_negatives(*args, form=form, tile=2), hard_negatives(*args, key, form=form, tile=2)

        return jax.device_get(jax.jit(pick)(placed["image"], placed["text"], placed["group"]))

    jax.tree.map(np.testing.assert_array_equal, run(None, "dense"), run(mesh, "ring"))


DROPOUTS = {"image": {**VIT, "dropout": 0.1, "patch_dropout": 0.5}}


def chunkable():
    c = config(**DROPOUTS, compute_dtype="float64")
    c["model"]["text"] = {"name": "bag_of_words", "vocab": 64, "width": 32, "unknown_id": 1, "word_dropout": 0.3}
    return c


@pytest.fixture(scope="module")
def whole():
    with jax.enable_x64(True):
        return gradients(chunkable(), meshes.make({"data": 1}, jax.devices()[:1]))[0]


@pytest.mark.parametrize("form", ["dense", "ring"])
def test_chunks_on_eight_devices_equal_the_whole_batch_on_one(whole, form):
    """Batch 40 by 16: of 5 rows a device two at a time and a last one; groups cross chunks and devices."""
    c = chunkable()
    c["task"]["loss"]["form"], c["chunk"] = form, 16
    chunked, compiled = gradients(c, meshes.make({"data": 4, "fsdp": 2}))
    a, b = tree.flatten(whole), tree.flatten(chunked)
    largest = max(np.abs(x).max() for x in a.values())
    for path in a:
        assert np.abs(a[path] - b[path]).max() <= 1e-9 * max(np.abs(a[path]).max(), 1e-6 * largest), path
    # Rows stay on their devices: no batch of pixels, tokens or positions changes place for being cut into chunks.
    moved = re.findall(r"= \(?\w+\[([\d,]*)\][^=]*? (?:all-to-all|all-gather|collective-permute)(?:-start)?\(", compiled)
    sizes = [[int(x) for x in dims.split(",") if x] for dims in moved]
    assert not [s for s in sizes if len(s) > 2 and s[0] in (2, 5, 16, B)], sizes


def gradients(c, mesh):
    plan = loop.plan(c, mesh)
    made = filled(plan)

    def fn(made, batch):
        with pin.on(mesh, meshes.PINS):
            value, terms, _, grads, _ = step.gradients(plan, made, batch)
        return {"loss": value, "terms": terms, "grads": grads}

    compiled = jax.jit(fn).lower(made, place.batch(rows(), mesh)).compile()
    return jax.device_get(compiled(made, place.batch(rows(), mesh))), compiled.as_text()


@pytest.mark.parametrize("shape", [{"data": 8}, {"data": 2, "fsdp": 2, "model": 2}], ids=["data", "model"])
def test_fetched_rows_travel_and_their_gradients_return(shape):
    mesh, rng = meshes.make(shape), np.random.default_rng(0)
    x, valid, by = rng.normal(size=(16, 3, 5)), rng.random((16, 3)) < 0.5, rng.normal(size=(16, 3, 5))
    places = np.asarray([15, 0, 3, -1, 3, 9, 8, 8, 1, 14, 2, -1, 6, 3, 11, 10], np.int32)

    def run(x, valid, places, by):
        with pin.on(mesh, meshes.PINS):
            return jax.value_and_grad(lambda x: (fetch(x, places) * by).sum())(x), fetch({"v": valid}, places)["v"]

    placed = place.batch({"x": x, "valid": valid, "places": places, "by": by}, mesh)
    compiled = jax.jit(run).lower(*placed.values()).compile()
    (value, gradient), fetched = compiled(*placed.values())
    there = places >= 0
    assert float(value) == pytest.approx((x[places] * by)[there].sum())
    expected = np.zeros_like(x)
    np.add.at(expected, places[there], by[there])
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    np.testing.assert_array_equal(fetched, valid[places] & there[:, None])
    assert not re.search(r" all-gather(-start)?\(", compiled.as_text())  # no device holds more than two blocks
