"""Several processes as one: automatic where a launcher says so, nothing on one process."""

import os

import jax

# Variable -> the number of processes it speaks of: SLURM's job step, Open MPI, jax's own.
_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "JAX_NUM_PROCESSES")


def connect() -> None:
    """Joins the processes that a launcher started (SLURM, Open MPI, JAX_* variables, a TPU pod); a no-op on one process.

    Call it before anything touches a device.
    """
    started = any(int(os.environ.get(name, "1") or 1) > 1 for name in _LAUNCHERS)
    pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    if started or pod:
        jax.distributed.initialize()


def table() -> str:
    """One line on the devices and processes of the run."""
    kinds: dict[str, int] = {}
    for device in jax.devices():
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    devices = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
    return f"{devices}; {jax.process_count()} process{'es' if jax.process_count() > 1 else ''}, {jax.local_device_count()} here"
