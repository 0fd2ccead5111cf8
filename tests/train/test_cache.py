"""A run on kept vectors of frozen encoders: which rows a batch holds, and that its steps are those of the live encoders."""

from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax.core import tree
from mmjax.core.config import load, plain
from mmjax.core.errors import UserError
from mmjax.data.stream import Stream
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place
from mmjax.train import loop
from mmjax.train import step as steps
from mmjax.train.cache import Cache

ROOT = Path(__file__).parents[2]


def config(*overrides):
    return plain(load(f"{ROOT}/configs/lit_tuxpaint.py:debug", overrides))


@pytest.fixture(scope="module")
def made():
    """(plan, state, stream, its cache of two batches)"""
    settings = config()
    plan = loop.plan(settings, meshes.make(settings["mesh"], jax.devices()[:1]))
    state = plan.make()
    keywords = {"fields": tuple(settings["batch"])} | settings["data"]
    stream = Stream(**keywords, batch_size=settings["batch_size"], seed=settings["seed"])
    return plan, state, stream, Cache(stream, plan, state["params"], state["stats"], 2)


def test_each_pass_holds_every_row_once_in_an_order_of_its_own(made):
    _, _, stream, cache = made
    once = sorted(np.concatenate([stream.batch_at(k)["id"] for k in range(2)]).tolist())
    passes = [np.concatenate([cache.batch_at(k)["id"] for k in (2 * n, 2 * n + 1)]).tolist() for n in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == once
    assert passes[0] != passes[1]
    at, batch = next(cache.batches(3))
    assert at == 3
    np.testing.assert_array_equal(batch["id"], cache.batch_at(3)["id"])
    assert set(batch) == {"image_encoded", "text_encoded", "group", "id", "caption", "broken"}


def test_a_step_on_vectors_is_the_step_on_their_pictures_and_texts(made):
    plan, state, stream, cache = made
    source = [stream.batch_at(k) for k in range(2)]
    rows = {name: np.concatenate([batch[name] for batch in source]) for name in source[0]}
    encoded = cache.batch_at(0)
    where = [rows["id"].tolist().index(name) for name in encoded["id"]]
    live = {name: rows[name][where] for name in ("image", "text", "group")}
    kept = {name: encoded[name] for name in ("image_encoded", "text_encoded", "group")}
    step = jax.jit(lambda state, rows: steps.gradients(plan, state, rows))
    a, b = (step(state, place.batch(batch, plan.mesh)) for batch in (live, kept))
    np.testing.assert_allclose(a[0], b[0], rtol=1e-5)
    for path, gradient in tree.flatten(a[3]).items():
        np.testing.assert_allclose(gradient, tree.flatten(b[3])[path], rtol=1e-4, atol=1e-6, err_msg=path)
    assert {path.split("/")[0] for path in tree.flatten(a[3])} == {"image_projection", "text_projection"}


def test_there_has_to_be_something_to_keep():
    settings = config("freeze=[['logit_scale', True]]")
    with pytest.raises(UserError, match="cache keeps what frozen encoders make of the data, and none is frozen"):
        loop.plan(settings, meshes.make(settings["mesh"], jax.devices()[:1]))
