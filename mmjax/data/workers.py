"""Batches made ahead of time, by threads or by worker processes, and what becomes of them when something dies.

A worker process writes down which record it is at, where its parent can read it: a decoder that takes the process with
it (a segmentation fault, the kernel's out-of-memory killer) is then reported with the record that did it.
"""

import atexit
import contextlib
import functools
import mmap
import multiprocessing.util  # its exit hook has to be registered before ours, and so run after it
import os
import re
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mmjax.core.errors import UserError

Batch = dict[str, Shaped[np.ndarray, "B ..."]]
NOTE = 512  # bytes of a worker's note
_OPEN: weakref.WeakSet = weakref.WeakSet()
_note: mmap.mmap | None = None  # this process's, where it is a worker


def ahead(batches: Any, workers: int) -> Iterator[Batch]:
    """Iterates a Grain MapDataset, some elements ahead: by threads, or by worker processes that compute one each.

    Raises:
      UserError: a worker process died; it names the record.
    """
    import grain
    from absl import flags

    if not workers:
        threads = min(8, os.cpu_count() or 1)
        made = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2))
        return _opened(_own(iter(made)))
    if not flags.FLAGS.is_parsed():  # Grain asks absl for its own flags, whose defaults will do
        flags.FLAGS.mark_as_parsed()
    notes = tempfile.TemporaryDirectory(prefix="mmjax-workers-")
    here = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    made = here.mp_prefetch(options, worker_init_fn=functools.partial(_start_worker, notes.name))
    return _opened(_own(iter(made), notes))


def note(text: str) -> None:
    """Writes down what this process is about to do; nothing outside worker processes."""
    if _note is not None:
        line = text.encode()[: NOTE - 1]
        _note[: len(line) + 1] = line + b"\0"


def _opened(generator: Iterator[Batch]) -> Iterator[Batch]:
    _OPEN.add(generator)
    return generator


def _own(iterator: Any, notes: tempfile.TemporaryDirectory | None = None) -> Iterator[Batch]:
    """The batches as arrays of the caller's own: a worker's lie in shared memory, which lasts as long as the worker."""
    try:
        yield from map(_copy, iterator)
    except RuntimeError as error:
        code = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
        if notes is None or code is None:
            raise
        raise UserError(
            f"a data worker died (exit code {code[1]}) at {_last_words(Path(notes.name))}.\n"
            "Leave that record out, or lower its decoder's limits; -9 may mean that memory ran out: use fewer workers."
        ) from None
    finally:
        iterator.close()
        if notes is not None:
            notes.cleanup()


def _last_words(folder: Path) -> str:
    """What the workers that are no more had noted."""
    said = []
    for path in sorted(folder.iterdir()):
        line = path.read_bytes().split(b"\0")[0].decode(errors="replace")
        if line and not _alive(int(path.name)):
            said.append(line)
    return "; ".join(said) or "its start"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _copy(batch: Batch) -> Batch:
    return {name: np.array(value) if type(value) is not np.ndarray else value for name, value in batch.items()}


@atexit.register
def _close_open() -> None:
    """Ends the workers of whoever leaves with a stream open, while the modules that they need are still there."""
    for generator in list(_OPEN):
        with contextlib.suppress(ValueError):  # another thread waits in it, and dies with the process
            generator.close()


def _start_worker(notes: str, index: int, count: int) -> None:
    """Keeps a worker process off the accelerator, opens its note, and ends it with its parent.

    Grain's workers poll a flag of their parent's; one that is killed outright never raises it.
    """
    # A launcher signals the whole process group: the parent decides what ends, and needs its batches until it has saved.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    global _note
    with open(Path(notes, str(os.getpid())), "w+b") as file:
        file.truncate(NOTE)
        _note = mmap.mmap(file.fileno(), NOTE)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:  # Grain imports it before this runs; no backend is up yet
        sys.modules["jax"].config.update("jax_platforms", "cpu")

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
