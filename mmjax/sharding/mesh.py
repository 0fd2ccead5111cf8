"""The device mesh: three axes, data x fsdp x model; the batch is split over data and fsdp together."""

import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from mmjax.core.errors import UserError

AXES = ("data", "fsdp", "model")
AnyMesh = Mesh | AbstractMesh  # of devices, or of such as need not be here
ROWS = PartitionSpec(("data", "fsdp"))
# What core.pin asks for: a batch's rows over the data axes, or a copy on each device.
PINS = {"rows": ROWS, "whole": PartitionSpec()}


def sizes(config: Mapping[str, int], devices: int) -> dict[str, int]:
    """Axis sizes with the one -1 filled in from the number of devices.

    Raises:
      UserError: an unknown axis, more than one -1, or a product that is not the number of devices.
    """
    unknown = [name for name in config if name not in AXES]
    if unknown:
        raise UserError(f"mesh: unknown axis {unknown[0]!r}; the axes are: {', '.join(AXES)}")
    wanted = {axis: int(config.get(axis, 1)) for axis in AXES}
    free = [axis for axis, size in wanted.items() if size == -1]
    fixed = math.prod(size for size in wanted.values() if size != -1)
    shape = " x ".join(f"{axis} {size}" for axis, size in wanted.items())
    if len(free) > 1 or any(size < 1 and size != -1 for size in wanted.values()):
        raise UserError(f"mesh: {shape}: sizes are positive, and at most one may be -1")
    if free and devices % fixed == 0:
        wanted[free[0]] = devices // fixed
    elif free or fixed != devices:
        raise UserError(
            f"mesh: {shape} needs {'a multiple of ' if free else ''}{fixed} devices and there are {devices}: "
            f"set one axis to -1, or change the sizes (--config.mesh.data=...)"
        )
    return wanted


def make(config: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of the config over `devices` (default: all). Axes are Auto: the compiler partitions as rules and pins say."""
    devices = list(jax.devices() if devices is None else devices)
    shape = sizes(config, len(devices))
    return jax.make_mesh(tuple(shape.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def abstract(config: Mapping[str, int], devices: int) -> AbstractMesh:
    """The mesh of the config over `devices` devices that need not be here: enough for shapes and placements."""
    shape = sizes(config, devices)
    return AbstractMesh(tuple(shape.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def check_batch(batch_size: int, shape: Mapping[str, int], processes: int = 1, where: str = "batch_size") -> None:
    """Raises UserError unless the global batch divides over the data axes and over the processes that load it."""
    parts = math.lcm(shape["data"] * shape["fsdp"], processes)
    if batch_size % parts or batch_size < parts:
        below = batch_size // parts * parts
        fits = f"{below} or {below + parts}" if below else f"{parts}"
        raise UserError(
            f"{where} {batch_size} is not divisible by {parts} "
            f"(data {shape['data']} x fsdp {shape['fsdp']}, {processes} process{'es' if processes > 1 else ''}): use {fits}"
        )
