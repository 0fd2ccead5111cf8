"""Host batches to global arrays, a few steps ahead."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from mmjax.sharding.mesh import ROWS


def batch(rows: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's share of a batch (mesh.share), (B / hosts, ...), as global arrays (B, ...) split over the data axes.

    A row's place is that of the device that holds it: all fields of a batch are in one order, which on some meshes is
    not that of the hosts.
    """
    sharding = NamedSharding(mesh, ROWS)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in rows.items()}


class Ahead:
    """Runs an iterator in a thread, `depth` items ahead, so that loading and the device work at the same time.

    An error in the iterator is raised where its item would have come. `close` stops the thread.
    """

    def __init__(self, items: Iterator[Any], prepare: Callable[[Any], Any], depth: int = 2):
        self._queue: queue.Queue = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(items, prepare), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Any]:
        while True:
            item, error = self._queue.get()
            if error is not None:
                if isinstance(error, StopIteration):
                    return
                raise error
            yield item

    def close(self) -> None:
        """Stops the thread and waits for it."""
        self._closed.set()
        self._thread.join(timeout=30)

    def _fill(self, items: Iterator[Any], prepare: Callable[[Any], Any]) -> None:
        try:
            for item in items:
                if not self._put((prepare(item), None)):
                    break
            else:
                self._put((None, StopIteration()))
        except BaseException as error:
            self._put((None, error))
        finally:
            if hasattr(items, "close"):
                items.close()

    def _put(self, item: Any) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
