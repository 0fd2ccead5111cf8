"""Sizes of the mesh and the batch's divisibility."""

import inspect
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from mmjax.core.errors import UserError
from mmjax.sharding import mesh


@pytest.mark.smoke
@pytest.mark.parametrize(
    "config, devices, wanted",
    [
        ({}, 1, (1, 1, 1)),
        ({"data": -1}, 8, (8, 1, 1)),
        ({"data": -1, "fsdp": 2}, 8, (4, 2, 1)),
        ({"data": 2, "fsdp": -1, "model": 2}, 8, (2, 2, 2)),
        ({"data": 2, "fsdp": 4, "model": 1}, 8, (2, 4, 1)),
        ({"data": -1, "fsdp": 8}, 8, (1, 8, 1)),
    ],
)
def test_one_axis_takes_what_is_left(config, devices, wanted):
    assert mesh.sizes(config, devices) == dict(zip(("data", "fsdp", "model"), wanted, strict=True))


@pytest.mark.parametrize(
    "config, text",
    [
        ({"dat": 2}, "mesh: unknown axis 'dat'; the axes are: data, fsdp, model"),
        ({"data": -1, "fsdp": -1}, "mesh: data -1 x fsdp -1 x model 1: sizes are positive, and at most one may be -1"),
        ({"data": 0}, "mesh: data 0 x fsdp 1 x model 1: sizes are positive, and at most one may be -1"),
        (
            {"data": 3},
            "mesh: data 3 x fsdp 1 x model 1 needs 3 devices and there are 8: "
            "set one axis to -1, or change the sizes (--config.mesh.data=...)",
        ),
        (
            {"data": -1, "fsdp": 3},
            "mesh: data -1 x fsdp 3 x model 1 needs a multiple of 3 devices and there are 8: "
            "set one axis to -1, or change the sizes (--config.mesh.data=...)",
        ),
        (
            {"data": -1, "fsdp": 16},
            "mesh: data -1 x fsdp 16 x model 1 needs a multiple of 16 devices and there are 8: "
            "set one axis to -1, or change the sizes (--config.mesh.data=...)",
        ),
    ],
)
def test_sizes_that_do_not_fit_say_so(config, text):
    with pytest.raises(UserError) as error:
        mesh.sizes(config, 8)
    assert str(error.value) == text


def test_meshes_have_auto_axes():
    real, planned = mesh.make({"data": -1}, jax.devices()[:1]), mesh.abstract({"data": -1, "fsdp": 4}, 64)
    assert dict(real.shape) == {"data": 1, "fsdp": 1, "model": 1}
    assert dict(planned.shape) == {"data": 16, "fsdp": 4, "model": 1}
    assert set(real.axis_types) == set(planned.axis_types) == {AxisType.Auto}


@pytest.mark.smoke
@pytest.mark.parametrize("batch, mend", [(100, "use 96 or 104"), (4, "use 8"), (0, "use 8")])
def test_a_batch_that_does_not_divide_is_told_its_neighbours(batch, mend):
    with pytest.raises(UserError) as error:
        mesh.check_batch(batch, {"data": 4, "fsdp": 2, "model": 1})
    assert str(error.value) == f"batch_size {batch} is not divisible by 8 (data 4 x fsdp 2): {mend}"


def test_a_batch_that_divides_passes():
    mesh.check_batch(96, {"data": 4, "fsdp": 2, "model": 3})
    with pytest.raises(UserError, match=r"^eval.batch_size 100 is"):
        mesh.check_batch(100, {"data": 4, "fsdp": 2}, where="eval.batch_size")


def shares(shape, processes):
    """The share of each process on a mesh of such a shape, whose devices belong, in order, to `processes`."""
    devices = np.array([SimpleNamespace(process_index=p) for p in processes]).reshape(shape)
    made = SimpleNamespace(devices=devices, shape=dict(zip(mesh.AXES, shape, strict=True)))
    found = []
    for process in sorted(set(processes)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mesh.jax, "process_index", lambda process=process: process)
            share = inspect.unwrap(mesh.share)(made)
        found.append((share["host"], share["hosts"]))
    return found


@pytest.mark.smoke
@pytest.mark.parametrize(
    "shape, processes, wanted",
    [
        ((2, 1, 1), [0, 1], [(0, 2), (1, 2)]),
        ((2, 2, 1), [0, 0, 1, 1], [(0, 2), (1, 2)]),
        ((1, 1, 2), [0, 1], [(0, 1), (0, 1)]),  # model spans both: both load all
        ((2, 1, 2), [0, 1, 2, 3], [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ((1, 2, 2), [0, 0, 1, 1], [(0, 2), (1, 2)]),
        ((2, 1, 1), [1, 0], [(1, 2), (0, 2)]),  # parts are numbered by the mesh
        ((4, 1, 1), [0, 1, 0, 1], [(0, 2), (1, 2)]),  # rows of one need not be neighbours
    ],
)
def test_a_process_loads_the_rows_that_its_devices_hold(shape, processes, wanted):
    assert shares(shape, processes) == wanted


@pytest.mark.parametrize("shape, processes", [((2, 1, 3), [0, 0, 1, 1, 2, 2]), ((3, 1, 1), [0, 0, 1])])
def test_rows_that_overlap_in_part_are_refused(shape, processes):
    with pytest.raises(UserError, match=r"^mesh: data \d x fsdp 1 x model \d: its \d processes hold rows .*mesh.model"):
        shares(shape, processes)
