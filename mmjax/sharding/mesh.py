"""The device mesh: three axes, data x fsdp x model; the batch is split over data and fsdp together."""

import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from mmjax.core.errors import UserError

AXES = ("data", "fsdp", "model")
AnyMesh = Mesh | AbstractMesh  # of devices, or of such as need not be here
ROWS = PartitionSpec(("data", "fsdp"))
# What core.pin asks for: a batch's rows over the data axes, the same under an axis of chunks, or a copy on each device.
PINS = {"rows": ROWS, "chunks": PartitionSpec(None, *ROWS), "whole": PartitionSpec()}


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


def row_parts(shape: Mapping[str, int]) -> int:
    """Into how many parts the data axes split a batch."""
    return math.prod(shape[axis] for axis in ROWS[0])


def check_batch(batch_size: int, shape: Mapping[str, int], where: str = "batch_size") -> None:
    """Raises UserError unless the global batch divides over the data axes, and so over the processes that load it."""
    parts = row_parts(shape)
    if batch_size % parts or batch_size < parts:
        below = batch_size // parts * parts
        fits = f"{below} or {below + parts}" if below else f"{parts}"
        raise UserError(
            f"{where} {batch_size} is not divisible by {parts} (data {shape['data']} x fsdp {shape['fsdp']}): use {fits}"
        )


def share(mesh: Mesh) -> dict[str, int]:
    """Which part of a batch this process loads: {"host": which, "hosts": of how many}, as the data room asks for it.

    A process loads the rows that its devices hold. Processes that a model axis spans hold the same rows, so they load the
    same part. Parts are numbered by their first row on the mesh; the rows of one need not be neighbours there, because a
    mesh follows the wires between chips.

    Raises:
      UserError: the rows of two processes overlap in part, or one has more than another; on all processes alike.
    """
    across = mesh.devices.reshape(mesh.shape["data"] * mesh.shape["fsdp"], -1)
    held: dict[int, list[int]] = {}
    for row, devices in enumerate(across):
        for process in {device.process_index for device in devices}:
            held.setdefault(process, []).append(row)
    parts = sorted(set(map(tuple, held.values())))
    if len(set(map(len, parts))) > 1 or sum(map(len, parts)) > len(across):
        shape = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
        raise UserError(
            f"mesh: {shape}: its {len(held)} processes hold rows of the batch that overlap in part or differ in number: let "
            f"model divide, or be a multiple of, the {jax.local_device_count()} devices of a process (--config.mesh.model=...)"
        )
    return {"host": parts.index(tuple(held[jax.process_index()])), "hosts": len(parts)}
