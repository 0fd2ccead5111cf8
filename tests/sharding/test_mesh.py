"""Sizes of the mesh and the batch's divisibility."""

import jax
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
@pytest.mark.parametrize(
    "batch, processes, mend",
    [(100, 1, "use 96 or 104"), (4, 1, "use 8"), (0, 1, "use 8"), (100, 16, "use 96 or 112"), (20, 3, "use 24")],
)
def test_a_batch_that_does_not_divide_is_told_its_neighbours(batch, processes, mend):
    with pytest.raises(UserError, match=rf"^batch_size {batch} is not divisible by \d+ \(data 4 x fsdp 2, .*\): {mend}$"):
        mesh.check_batch(batch, {"data": 4, "fsdp": 2, "model": 1}, processes)


def test_a_batch_that_divides_passes():
    mesh.check_batch(96, {"data": 4, "fsdp": 2, "model": 3})
    mesh.check_batch(48, {"data": 4, "fsdp": 2, "model": 1}, 3)
    with pytest.raises(UserError) as error:
        mesh.check_batch(100, {"data": 4, "fsdp": 2}, where="eval.batch_size")
    assert str(error.value) == "eval.batch_size 100 is not divisible by 8 (data 4 x fsdp 2, 1 process): use 96 or 104"
