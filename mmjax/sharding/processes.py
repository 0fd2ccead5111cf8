"""Several processes as one: joined where a launcher says so, nothing on one process.

Every process runs the same command. What ends one ends all:

- What all come to know (bad settings, too many broken records, a loss that is not finite, SIGTERM to any of them): each says
  its line and exits with its status.
- An error of one alone: it says its line and waits GRACE seconds for the others; jax then aborts all of them (SIGABRT, status
  134). Measured on two CPU processes: 32 seconds from the error to the end of both.
- A process that is killed or loses its machine: where it was process 0, the others are aborted at once (measured); else
  after 100 seconds without a sign of life (jax's default), or GRACE seconds after a collective fails (CPUs; measured).
"""

import glob
import importlib.util
import json
import os
from typing import Any

import jax
import numpy as np

from mmjax.core.errors import UserError

# Variables that tell the number of processes: SLURM's job step and Open MPI, from which jax finds all the rest.
_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
# Seconds that a process which has come to its end waits for the others to come to theirs.
GRACE = 30
# A value that is gathered travels in a multiple of so many bytes: few shapes, so few programs.
_CHUNK = 4096


def connect() -> None:
    """Joins the processes of a run; call it before anything touches a device. One process needs nothing.

    - Started by srun or mpirun: all is found by itself.
    - TPU hosts: all is found by itself, from the environment (GKE) or from the machine's metadata server (TPU VMs). Where
      there is no such server (a notebook), the host is taken to be alone; `table` raises where it turns out not to be.
    - Machines of one's own: set JAX_COORDINATOR_ADDRESS=HOST:PORT (a free port of process 0's host), JAX_NUM_PROCESSES=N and
      JAX_PROCESS_ID=0 ... N - 1.
    - MMJAX_DISTRIBUTED=1 insists on what jax.distributed.initialize finds (Kubernetes, mpi4py): to find nothing is then an
      error. MMJAX_DISTRIBUTED=0 joins nothing, for several runs on the chips of one host.

    Raises:
      UserError: JAX_NUM_PROCESSES without the other two.
    """
    wish, count = os.environ.get("MMJAX_DISTRIBUTED"), os.environ.get("JAX_NUM_PROCESSES")
    if wish == "0" or jax.distributed.is_initialized():
        return
    if count is not None:
        if missing := [name for name in ("JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID") if name not in os.environ]:
            raise UserError(f"JAX_NUM_PROCESSES={count} needs {' and '.join(missing)} too (an address is HOST:PORT)")
        _initialize(num_processes=int(count), process_id=int(os.environ["JAX_PROCESS_ID"]))
    elif wish == "1" or any(int(os.environ.get(name, "1") or 1) > 1 for name in _LAUNCHERS):
        _initialize()
    elif _on_tpu():
        try:
            _initialize()
        except (ValueError, OSError):  # nobody to ask: jax finds no cluster, or no metadata server answers
            return


def gather(value: Any) -> list[Any]:
    """What each process gives (anything that json holds), in their order; all must call it, in the same order of calls."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental import multihost_utils

    said = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(len(said), np.int32))
    room = np.zeros(-(-int(sizes.max()) // _CHUNK) * _CHUNK, np.uint8)
    room[: len(said)] = said
    rows = multihost_utils.process_allgather(room)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def agree(value: Any) -> Any:
    """Process 0's value on every process: what is read from a file system that may show each of them something else."""
    return gather(value)[0]


def table() -> str:
    """One line on the devices and processes of the run.

    Raises:
      UserError: the devices belong to processes that have not joined each other.
    """
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise UserError(
            f"this is one of {jax.process_count()} hosts that have not joined (no metadata server, or MMJAX_DISTRIBUTED=0).\n"
            f"Set JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID on each."
        )
    kinds: dict[str, int] = {}
    for device in jax.devices():
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    devices = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
    return f"{devices}; {jax.process_count()} process{'es' if jax.process_count() > 1 else ''}, {jax.local_device_count()} here"


def _initialize(**known: int) -> None:
    # The loop handles SIGTERM: jax's own handler would swallow it until the loop begins.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(shutdown_timeout_seconds=GRACE, **known)


def _on_tpu() -> bool:
    """Whether jax is going to use TPU chips of this host; asked without waking them."""
    wanted = jax.config.jax_platforms or "tpu"
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return "tpu" in wanted and bool(chips) and importlib.util.find_spec("libtpu") is not None
