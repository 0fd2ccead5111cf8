"""One device equals eight: loss, gradients, bytes, pins and collectives of the real task on fake devices."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.convert import readers, table
from mmjax.convert.families import clip
from mmjax.convert.init import Init
from mmjax.core import tree
from mmjax.core.config import plain
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place, rules
from mmjax.train import loop, step

B, T, SIZE = 40, 7, 16  # a batch like no width, so that shapes tell what they are
VIT = {
    "name": "vit",
    "size": SIZE,
    "patch": 4,
    "width": 32,
    "depth": 2,
    "heads": 4,
    "mlp": 64,
    "pool": "map",
    "class_token": False,
}
BATCHNORM = {"name": "resnet", "stages": [1, 1], "widths": [8, 16], "block": "basic", "stem": "small", "stem_width": 8}
TEXT = {"name": "text_transformer", "vocab": 64, "length": T, "width": 32, "depth": 2, "heads": 4, "mlp": 64}
TENSOR = [
    [".*(query|key|value|fc1)/kernel", ["fsdp", "model"]],
    [".*(out|fc2)/kernel", ["model", "fsdp"]],
    [".*", "fsdp"],
]


def config(image=VIT, loss="softmax", sharding=None, **changes):
    from configs.base import get_config

    c = plain(get_config())
    c["batch_size"], c["steps"] = B, 4
    c["model"] = {"name": "dual_encoder", "dim": 16, "image": image, "text": TEXT, "logit_bias": -2.0}
    c["task"] = {"name": "contrastive", "loss": {"name": loss}}
    c["sharding"] = sharding or c["sharding"]
    c["batch"] = {"image": [[SIZE, SIZE, 3], "uint8"], "text": [[T], "int32"], "group": [[], "int32"]}
    return {**c, **changes}


def rows():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (B, SIZE, SIZE, 3), dtype=np.uint8),
        "text": rng.integers(1, 64, (B, T), dtype=np.int32),
        # Groups that cross devices: positives are not only on the diagonal.
        "group": np.array([i % 13 for i in range(B)], np.int32),
    }


def run(c, shape, devices):
    """Loss and gradients in float64 on this mesh."""
    mesh = meshes.make(shape, jax.devices()[:devices])
    plan = loop.plan(c, mesh)
    made = filled(plan)

    def fn(made, batch):
        with step.pin.on(mesh, meshes.PINS):
            value, _, stats, grads, _ = step.gradients(plan, made, batch)
        return value, grads, stats

    return jax.device_get(jax.jit(fn)(made, place.batch(rows(), mesh)))


def filled(plan):
    """A state made by numpy: compiling an initialiser for each mesh would take longer than the test."""
    rng = np.random.default_rng(1)
    return jax.device_put(tree.map_with_path(lambda path, x: _fill(path, x, rng), plan.abstract()), plan.shardings())


def _fill(path, leaf, rng):
    if leaf.dtype == jnp.int32:
        return np.zeros(leaf.shape, np.int32)
    centre = 1.0 if path.endswith(("/scale", "/var", "logit_scale")) else 0.0
    return np.abs(centre + rng.normal(0, 0.2, leaf.shape)) if centre else rng.normal(0, 0.2, leaf.shape)


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


DROPOUTS = {"image": {**VIT, "dropout": 0.1, "patch_dropout": 0.5}}


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ({"data": 8}, {}),
        ({"data": 2, "fsdp": 4}, {"loss": "sigmoid"}),
        ({"data": 1, "fsdp": 8}, DROPOUTS),
        ({"data": 2, "fsdp": 2, "model": 2}, {"sharding": TENSOR}),
        ({"data": 4, "fsdp": 2}, {"image": BATCHNORM}),
    ],
    ids=["data", "fsdp-sigmoid", "fsdp-dropouts", "tensor", "batchnorm"],
)
def test_one_device_equals_eight(x64, monkeypatch, shape, changes):
    monkeypatch.setattr(rules, "SMALL", 1)  # toy leaves are split too
    c = config(**changes, compute_dtype="float64")
    one, eight = run(c, {"data": 1}, 1), run(c, shape, 8)
    assert abs(one[0] - eight[0]) <= 1e-9 * abs(one[0])
    for path, here, there in _pairs(one[1:], eight[1:]):
        scale = max(np.abs(here).max(), 1e-6 * _largest(one[1]))
        assert np.abs(here - there).max() <= 1e-9 * scale, path


def _pairs(one, eight):
    a, b = tree.flatten(one), tree.flatten(eight)
    assert a.keys() == b.keys()
    return [(path, a[path], b[path]) for path in a]


def _largest(grads):
    return max(np.abs(x).max() for x in jax.tree.leaves(grads))


def test_fsdp_state_takes_an_eighth_of_the_bytes_on_each_device(monkeypatch):
    monkeypatch.setattr(rules, "SMALL", 256)
    c = config()
    c["optim"]["ema"] = 0.9
    plan = loop.plan(c, meshes.make({"data": 1, "fsdp": 8}))
    made = plan.make()
    told = rules.bytes_a_device(plan.placements(), plan.abstract(), plan.mesh)
    leaves = tree.flatten(made)
    for device in jax.devices():
        here = {
            path: sum(shard.data.nbytes for shard in leaf.addressable_shards if shard.device == device)
            for path, leaf in leaves.items()
        }
        assert here == told
    for part in ("params/", "opt/", "ema/"):  # Adam's moments and the average too: jit alone would replicate them
        whole = sum(leaf.nbytes for path, leaf in leaves.items() if path.startswith(part))
        small = sum(leaf.nbytes for path, leaf in leaves.items() if path.startswith(part) and told[path] == leaf.nbytes)
        assert sum(told[path] for path in told if path.startswith(part)) == (whole - small) // 8 + small
        assert small < 0.2 * whole


def test_pins_stand_at_every_block_and_at_the_loss():
    plan = loop.plan(config(), meshes.make({"data": 8}))
    text = str(jax.make_jaxpr(lambda s, b: step.step(plan, s, b))(plan.abstract(), loop.tasks.abstract_batch(config())))
    bodies = re.findall(r"scan\[", text)
    assert len(bodies) >= 4  # two towers, forward and backward
    # On each of the two towers' scanned blocks, on the embeddings and on the logits, and again for their transposes.
    assert text.count("sharding_constraint[") >= 8
    bare = str(jax.make_jaxpr(lambda s, b: step.gradients(plan, s, b)[3])(plan.abstract(), loop.tasks.abstract_batch(config())))
    assert "sharding_constraint[" not in bare  # outside of the step there is no mesh


def test_no_batch_sized_activation_is_gathered(monkeypatch):
    monkeypatch.setattr(rules, "SMALL", 256)
    c = config()
    plan = loop.plan(c, meshes.make({"data": 2, "fsdp": 4}))
    hlo = step.compiled(plan).lower(plan.abstract(), loop.tasks.abstract_batch(c)).compile().as_text()
    gathered = re.findall(r"= \(?\w+\[([\d,]*)\][^=]*? all-gather(?:-start)?\(", hlo)
    assert gathered, "parameters split over fsdp must be gathered"
    shapes = [[int(x) for x in dims.split(",") if x] for dims in gathered]
    # The loss needs every text embedding (B, dim) on each device, by its nature; nothing with positions or pixels.
    assert not [s for s in shapes if B in s and len([x for x in s if x != 1]) > 2], shapes


def test_step_keeps_the_state_where_the_rules_put_it(monkeypatch):
    monkeypatch.setattr(rules, "SMALL", 256)
    plan = loop.plan(config(), meshes.make({"data": 2, "fsdp": 4}))
    made = jax.tree.map(lambda x, like: x.astype(like.dtype), filled(plan), plan.abstract())
    made, batch = jax.device_put(made, plan.shardings()), place.batch(rows(), plan.mesh)
    after, _ = step.compiled(plan)(made, batch)
    places = tree.flatten(plan.shardings())  # traces the whole state: once, not for each leaf
    for path, leaf in tree.flatten(after).items():
        assert leaf.sharding.is_equivalent_to(places[path], leaf.ndim), path
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(made["params"]))  # donated


def test_weights_from_a_file_come_to_each_device_by_its_share(monkeypatch, tmp_path):
    monkeypatch.setattr(rules, "SMALL", 256)
    part = {"width": 32, "depth": 2, "heads": 4, "mlp": 64, "act": "gelu", "norm_eps": 1e-5}
    spec = {"name": "dual_encoder", "dim": 16, "image": clip.image_spec(part, SIZE, 4), "text": clip.text_spec(part, 64, T, 63)}
    own, rng = tree.flatten(models.build(spec).abstract), np.random.default_rng(0)
    leaves = {path: table.tensor(rng.normal(size=leaf.shape).astype(np.float16)) for path, leaf in own.items()}
    tensors = table.write(table.expand(clip.hf_table(spec), own), leaves)
    readers.write_safetensors(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps(clip.hf_config(spec)))
    split = {}
    for shape, devices in (({"data": 1}, 1), ({"data": 1, "fsdp": 8}, 8)):
        plan = loop.plan({**config(), "model": spec}, meshes.make(shape, jax.devices()[:devices]))
        fresh = filled(plan)
        found = Init({"from": str(tmp_path)}, plan.model.abstract)({part: fresh[part] for part in ("params", "stats")})
        told, places = rules.bytes_a_device(plan.placements(), plan.abstract(), plan.mesh), tree.flatten(fresh)
        for path, leaf in tree.flatten(found).items():
            assert leaf.dtype == np.float32
            assert np.array_equal(leaf, leaves[path].read().astype(np.float32)), path
            assert leaf.sharding == places[path].sharding
            assert {shard.data.nbytes for shard in leaf.addressable_shards} == {told[path]}, path
            split[devices, path] = told[path]
    eighth = [path for path in own if split[8, path] * 8 == split[1, path]]
    assert sum(split[1, path] for path in eighth) > 0.8 * sum(split[1, path] for path in own)
