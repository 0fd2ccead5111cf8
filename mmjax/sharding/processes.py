"""Several processes as one: automatic where a launcher says so, nothing on one process."""

import os

import jax

# Variables that tell the number of processes: SLURM's job step and Open MPI, from which jax finds all the rest.
_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def connect() -> None:
    """Joins the processes that srun or mpirun started, or the hosts of a TPU pod slice on GKE; a no-op on one process.

    Call it before anything touches a device. Elsewhere (TPU VMs without GKE, a cluster of one's own) set
    MMJAX_DISTRIBUTED=1: jax.distributed.initialize then finds what it can and says what it misses.
    """
    started = any(int(os.environ.get(name, "1") or 1) > 1 for name in _LAUNCHERS)
    pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    if started or pod or os.environ.get("MMJAX_DISTRIBUTED") == "1":
        jax.distributed.initialize()


def table() -> str:
    """One line on the devices and processes of the run."""
    kinds: dict[str, int] = {}
    for device in jax.devices():
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    devices = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
    return f"{devices}; {jax.process_count()} process{'es' if jax.process_count() > 1 else ''}, {jax.local_device_count()} here"
