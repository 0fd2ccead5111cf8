"""ALBEF on fake devices: one equals eight after a step, teacher and queue too; where they lie, and what travels."""

import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))

import tiny_albef as tiny
from eight_devices import filled

from mmjax.core import tree
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place, rules
from mmjax.tasks import build as tasks
from mmjax.train import loop, step

B, SLOTS = 16, 3
GROUPS = [i % 13 for i in range(B)]  # positives across devices
# An epsilon beside which Adam's square root is small: a gradient that is rounding alone would count as much as any.
OPTIM = {**tiny.OPTIM, "args": {"eps": 1.0}}
DROPOUTS = {"image": {**tiny.IMAGE, "dropout": 0.1, "patch_dropout": 0.4}, "text": {**tiny.TEXT, "dropout": 0.1}}


def config(**changes):
    task = {"queue": SLOTS * B, "ramp": 2}
    return tiny.config(task, DROPOUTS, B, optim=OPTIM, **changes)


def state(plan):
    """Filled by numpy; two of three slots hold something, the pair of example 3 among it."""
    made, rng = filled(plan), np.random.default_rng(2)

    def put(leaf, value):
        return jax.device_put(np.broadcast_to(np.asarray(value, leaf.dtype), leaf.shape), leaf.sharding)

    made["params"]["temperature"] = put(made["params"]["temperature"], 0.2)
    groups = rng.integers(100, 200, (SLOTS, B))
    groups[1, 9] = 3
    made["extra"]["queue"]["group"] = put(made["extra"]["queue"]["group"], groups)
    made["extra"]["step"], made["step"] = put(made["extra"]["step"], 2), put(made["step"], 2)
    made["guard"] = jax.tree.map(lambda x: put(x, -1), made["guard"])
    made["opt"] = jax.tree.map(lambda x: put(x, 0), made["opt"])  # a second moment is never negative
    return made


def after(shape, devices, **changes):
    """The state and the measures after one step in float64."""
    c = config(compute_dtype="float64", mesh=shape, **changes)
    mesh = meshes.make(shape, jax.devices()[:devices])
    plan = loop.plan(c, mesh)
    batch = place.batch(tiny.rows(B, groups=GROUPS), mesh)
    return jax.device_get(jax.jit(lambda s, b: step.step(plan, s, b))(state(plan), batch))


@pytest.fixture(scope="module")
def one():
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        patch.setattr(rules, "SMALL", 1)
        yield after({"data": 1}, 1)


@pytest.mark.parametrize(
    ("shape", "chunk"), [({"data": 8}, None), ({"data": 2, "fsdp": 2, "model": 2}, 8)], ids=["data", "tensor-chunks"]
)
def test_one_device_equals_eight(one, monkeypatch, shape, chunk):
    monkeypatch.setattr(rules, "SMALL", 1)  # toy leaves are split too
    with jax.enable_x64(True):
        eight = after(shape, 8, chunk=chunk)
    for here, there in zip(one, eight, strict=True):
        a, b = tree.flatten(here), tree.flatten(there)
        assert a.keys() == b.keys()
        for path in a:
            assert np.isfinite(a[path]).all(), path
            # Measures are kept in float32.
            close = 1e-9 if here is one[0] else 1e-6
            assert np.abs(a[path] - b[path]).max(initial=0) <= close * max(np.abs(a[path]).max(initial=0), 1e-3), path
    assert (one[0]["extra"]["queue"]["group"][2] == GROUPS).all()
    assert float(one[1]["terms/negatives"][0]) == 2 * B


def test_teacher_and_queue_lie_with_parameters_and_rows_and_no_tokens_are_gathered(monkeypatch):
    monkeypatch.setattr(rules, "SMALL", 1)
    mesh = meshes.make({"data": 2, "fsdp": 4})
    c = config(mesh={"data": 2, "fsdp": 4})
    plan = loop.plan(c, mesh)
    places = plan.placements()
    for path in tree.flatten(plan.abstract()["params"]):
        assert places[f"extra/teacher/{path}"].spec == places[f"params/{path}"].spec
    assert places["extra/queue/image"].spec == jax.sharding.PartitionSpec(None, ("data", "fsdp"), None)
    hlo = step.compiled(plan).lower(plan.abstract(), tasks.abstract_batch(c)).compile().as_text()
    gathered = [
        [int(n) for n in dims.split(",") if int(n) != 1]
        for dims in re.findall(r"= \(?\w+\[([\d,]+)\][^=]*? all-gather(?:-start)?\(", hlo)
    ]
    assert [B, tiny.DIM] in gathered  # every device needs the batch's own features
    # Nothing of a batch with positions or pixels, and nothing of the queue.
    assert not [dims for dims in gathered if (B in dims or 3 * B in dims) and len(dims) > 2], gathered
