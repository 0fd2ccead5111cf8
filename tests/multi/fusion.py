"""One device equals eight for pretraining and for answers: foreign texts, masked regions, chunks; float64 on fake devices."""

import jax
import numpy as np
import pytest
from eight_devices import _largest, _pairs, filled

from mmjax.core.config import plain
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place, rules
from mmjax.train import loop, step

B, T, S, F, SIZE, ANSWERS = 24, 5, 3, 6, 8, 4
BLOCKS = {"width": 16, "depth": 1, "heads": 2, "mlp": 24, "dropout": 0.1}
TEXT = {"name": "bert", "vocab": 24, "length": T, **BLOCKS}
HEADS = {"words": True, "match": True, "answers": ANSWERS}
LXMERT = {
    "name": "lxmert",
    "text": {**TEXT, "pooler": False},
    "image": {"name": "regions", "features": F, **BLOCKS},
    "cross": {"name": "co_attention", **BLOCKS},
    "heads": {**HEADS, "objects": {"feature": F, "label": 7, "attribute": 5}},
}
VILT = {
    "name": "vilt",
    "image": {"name": "vit", "size": SIZE, "patch": 4, **BLOCKS},
    "text": {**TEXT, "depth": 0, "pool": "pooler"},
    "heads": HEADS,
}
VISUALBERT = {"name": "visualbert", "text": TEXT, "visual": {"name": "patches", "size": SIZE, "patch": 4}, "heads": HEADS}
CROSS = {
    "name": "cross_encoder",
    "image": {"name": "vit", "size": SIZE, "patch": 4, **BLOCKS, "class_token": False, "pool": "mean"},
    "text": {**TEXT, "pooler": False},
    "cross": {"name": "co_attention", **BLOCKS},
    "heads": HEADS,
}
TERMS = ("masked_tokens", "matching", "answers")
REGIONS = ("region_feature", "region_label", "region_attribute")


def rows():
    rng = np.random.default_rng(0)
    text = rng.integers(1, 24, (B, T), dtype=np.int32)
    masked = rng.random((B, S)) < 0.4
    return {
        "image": rng.integers(0, 256, (B, SIZE, SIZE, 3), dtype=np.uint8),
        "text": text,
        "question": text,
        "mlm_labels": np.where(rng.random((B, T)) < 0.4, text, -1).astype(np.int32),
        "text_cut": np.zeros(B, np.int32),
        "answer_scores": np.float64(rng.random((B, ANSWERS)) * (rng.random((B, 1)) < 0.8)),
        "group": (np.arange(B) % 5).astype(np.int32),
        "boxes": np.tile(np.array([0.1, 0.1, 0.5, 0.5]), (B, S, 1)),
        "regions": rng.normal(size=(B, S, F)),
        "region_targets": rng.normal(size=(B, S, F)),
        "region_masked": np.float64(masked),
        "region_objects": rng.integers(0, 7, (B, S), dtype=np.int32),
        "region_object_scores": rng.random((B, S)),
        "region_attributes": rng.integers(0, 5, (B, S), dtype=np.int32),
        "region_attribute_scores": rng.random((B, S)),
    }


def run(model, task, shape, devices, chunk=None):
    """Loss, terms and gradients in float64 on this mesh."""
    from configs.base import get_config

    c = plain(get_config()) | {"batch_size": B, "model": model, "task": task, "compute_dtype": "float64", "chunk": chunk}
    mesh = meshes.make(shape, jax.devices()[:devices])
    plan = loop.plan(c, mesh)
    batch = {name: x for name, x in rows().items() if name not in (("regions", "boxes") if model["name"] != "lxmert" else ())}

    def fn(made, batch):
        with step.pin.on(mesh, meshes.PINS):
            value, terms, _, grads, _ = step.gradients(plan, made, batch)
        return value, grads, terms

    return jax.device_get(jax.jit(fn)(filled(plan), place.batch(batch, mesh)))


@pytest.mark.parametrize(
    ("model", "task", "shape", "chunk"),
    [
        (LXMERT, {"name": "pretraining", "weights": dict.fromkeys((*TERMS, *REGIONS), 1.0)}, {"data": 8}, 8),
        (CROSS, {"name": "pretraining", "weights": dict.fromkeys(TERMS, 1.0)}, {"data": 4, "fsdp": 2}, 8),
        (VILT, {"name": "pretraining", "weights": dict.fromkeys(TERMS, 1.0)}, {"data": 2, "fsdp": 4}, 8),
        (VISUALBERT, {"name": "answers", "loss": "softmax"}, {"data": 4, "fsdp": 2}, 16),
    ],
    ids=["lxmert", "cross_encoder", "vilt", "visualbert"],
)
def test_one_device_equals_eight(monkeypatch, model, task, shape, chunk):
    monkeypatch.setattr(rules, "SMALL", 1)  # toy leaves are split too
    with jax.enable_x64(True):
        one, eight = run(model, task, {"data": 1}, 1), run(model, task, shape, 8, chunk)
    assert abs(one[0] - eight[0]) <= 1e-9 * abs(one[0])
    for path, here, there in _pairs(one[1:], eight[1:]):
        scale = max(np.abs(here).max(), 1e-6 * _largest(one[1]))
        assert np.abs(here - there).max() <= 1e-9 * scale, path
    if task["name"] == "pretraining":
        own = one[2]["masked_tokens"][1]
        assert 0 < own < (rows()["mlm_labels"] >= 0).sum()  # some texts are foreign, and not all
