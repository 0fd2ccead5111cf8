"""One device equals eight for cross-modal encoders: outputs' sum and all gradients, in float64 on fake devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core import keys, pin, tree
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place, rules

B, T, S, F, SIZE = 16, 5, 3, 6, 8
BLOCKS = {"width": 16, "depth": 1, "heads": 2, "mlp": 24}
REGIONS = {"name": "regions", "features": F, **BLOCKS}
VIT = {"name": "vit", "size": SIZE, "patch": 4, **BLOCKS}
TEXT = {"name": "bert", "vocab": 24, "length": T, "pooler": False, **BLOCKS}
HEADS = {"words": True, "match": True, "answers": 4}
SPEC = {"text": TEXT, "cross": {"name": "co_attention", **BLOCKS, "depth": 2, "dropout": 0.1}, "heads": HEADS}
STREAM = {"text": {**TEXT, "dropout": 0.1}, "heads": HEADS}


def rows():
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(size=(B, S, 2, 2)), axis=2).reshape(B, S, 4)
    boxes[::3, 2] = 0  # padding
    boxes[5] = 0  # no picture at all
    image = rng.normal(size=(B, SIZE, SIZE, 3))
    text = rng.integers(1, 24, (B, T)) * (np.arange(T) < rng.integers(1, T + 1, (B, 1)))
    return {"regions": rng.normal(size=(B, S, F)), "boxes": boxes, "image": image, "text": text}


def run(spec, shape, devices):
    mesh = meshes.make(shape, jax.devices()[:devices])
    model = models.build(spec, dtype="float64")
    rng = np.random.default_rng(1)

    def fill(path, leaf):
        return rng.normal(path.endswith("/scale"), 0.2, leaf.shape)

    placements = rules.place([[".*", "fsdp"]], model.abstract["params"], mesh)
    params = tree.map_with_path(fill, model.abstract["params"])
    params = jax.device_put(params, rules.shardings(placements, params, mesh))

    def loss(params, batch):
        with pin.on(mesh, meshes.PINS):
            live = model.bind(params)
            z, _ = live.fuse(batch, batch["text"], keys.rows(jax.random.key(0), B))
            answers = [live.words(z["text"]), live.match(z["joint"]), live.answer(z["joint"]), z["visual"]]
            return sum(jnp.sin(x).sum() for x in answers)

    return jax.device_get(jax.jit(jax.value_and_grad(loss))(params, place.batch(rows(), mesh)))


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ({"name": "cross_encoder", "image": VIT, **SPEC}, {"data": 8}),
        ({"name": "lxmert", "image": REGIONS, **SPEC}, {"data": 2, "fsdp": 4}),
        ({"name": "visualbert", "visual": {"name": "regions", "features": F}, **STREAM}, {"data": 4, "fsdp": 2}),
        ({"name": "vilt", "image": {**VIT, "dropout": 0.1}, **STREAM, "text": {**TEXT, "depth": 0}}, {"data": 2, "fsdp": 4}),
    ],
    ids=["cross_encoder", "lxmert", "visualbert", "vilt"],
)
def test_one_device_equals_eight(monkeypatch, spec, shape):
    monkeypatch.setattr(rules, "SMALL", 1)  # toy leaves are split too
    with jax.enable_x64(True):
        (value, gradient), (again, gradients) = run(spec, {"data": 1}, 1), run(spec, shape, 8)
    assert abs(value - again) <= 1e-9 * abs(value)
    one, eight = tree.flatten(gradient), tree.flatten(gradients)
    largest = max(np.abs(x).max() for x in one.values())
    for path in one:
        assert np.abs(one[path] - eight[path]).max() <= 1e-9 * max(np.abs(one[path]).max(), 1e-6 * largest), path
