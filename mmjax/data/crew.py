"""Processes that go through a source's records, each watched by a thread: one that dies is named, and nobody waits for it.

A process writes down which record it is at. When a decoder takes it along (a segmentation fault, the kernel's
out-of-memory killer), or needs longer than PATIENCE, its pipe closes, its thread reads where it was, and a fresh process does
the same work again without that record. (A concurrent.futures pool says that a process died, but neither which nor where.)
"""

import contextlib
import ctypes
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from mmjax.core.errors import UserError
from mmjax.data.sources.source import Source

PATIENCE = 60  # seconds for one record
DEATHS = 100  # so many, and something is wrong with the machine, not with a record
Work = Callable[[Source, Any, Iterable[int]], Any]


class Dead(NamedTuple):
    """A record that ended its reader, and how."""

    number: int
    reason: str


class Crew:
    """Runs `work(source, about, numbers)` in processes.

    Args:
      work: a function that pickle can name. It goes through `numbers` once, with nothing left open when it is killed half way:
        it may be called again with the same `about` and fewer numbers.
      source: travels to each process by pickle.
      workers: processes.
      patience: seconds for one record.
    """

    def __init__(self, work: Work, source: Source, workers: int, patience: int = PATIENCE):
        self._work, self._source, self._workers, self._patience = work, source, workers, patience
        self._crew: list[_Worker] = []
        self._mine = threading.local()
        self._deaths, self._closed = 0, False

    def each(self, chunks: Iterable[tuple[Any, Sequence[int]]], tick: Callable[[int], Any]) -> Iterator[tuple[Any, list[Dead]]]:
        """(what `work` returned, records left out because they ended their reader) for each chunk, in order.

        Args:
          chunks: (about, numbers).
          tick: called now and then, from any thread, with the records done since its last call.

        Raises:
          UserError: DEATHS records ended their reader. Whatever `work` raises is raised here.
        """
        waiting: deque[Any] = deque()
        with ThreadPoolExecutor(self._workers) as threads:
            try:
                for about, numbers in chunks:
                    waiting.append(threads.submit(self._do, about, numbers, tick))
                    if len(waiting) > 2 * self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                self._closed = True
                for future in waiting:
                    future.cancel()
                for worker in self._crew:
                    worker.process.kill()

    def _do(self, about: Any, numbers: Sequence[int], tick: Callable[[int], Any]) -> tuple[Any, list[Dead]]:
        dead: list[Dead] = []
        while True:
            left_out = {number for number, _ in dead}
            worker = self._worker()
            try:
                return worker.ask(about, [n for n in numbers if n not in left_out] if dead else numbers, tick), dead
            except (EOFError, ConnectionError):
                self._mine.worker = None
                if self._closed:
                    raise
                dead.append(worker.autopsy())
                self._deaths += 1
                if self._deaths >= DEATHS:
                    last = dead[-1]
                    raise UserError(
                        f"{self._deaths} records ended the process that read them, the last #{last.number}: {last.reason}\n"
                        "is there memory enough for so many processes? --workers=1 needs least"
                    ) from None

    def _worker(self) -> "_Worker":
        if getattr(self._mine, "worker", None) is None:
            self._mine.worker = _Worker(self._work, self._source, self._patience)
            self._crew.append(self._mine.worker)
        return self._mine.worker


class _Worker:
    """A process, the pipe to it, and what it writes down: the record it is at (-1: none) and how many it has begun."""

    def __init__(self, work: Work, source: Source, patience: int):
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        self._pipe, end = context.Pipe()
        self._note = context.RawArray(ctypes.c_int64, [-1, 0])
        self._told, self._patience = 0, patience
        self.process = context.Process(target=_serve, args=(end, self._note, work, source, patience), daemon=True)
        self.process.start()
        end.close()  # so that the process's own end is the last: the pipe closes with it

    def ask(self, about: Any, numbers: Sequence[int], tick: Callable[[int], Any]) -> Any:
        self._pipe.send((about, numbers))
        while not self._pipe.poll(0.5):
            self._tell(tick)
        result, error = self._pipe.recv()
        self._tell(tick)
        if error is not None:
            raise error
        return result

    def autopsy(self) -> Dead:
        self.process.join()
        code, number = self.process.exitcode, self._note[0]
        if number < 0:
            raise RuntimeError(f"a worker process ended outside of any record, with exit code {code}")
        if code == -signal.SIGALRM:
            return Dead(number, f"took more than {self._patience} s")
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return Dead(number, f"ended the process that read it ({how}{', out of memory?' if code == -signal.SIGKILL else ''})")

    def _tell(self, tick: Callable[[int], Any]) -> None:
        begun = self._note[1]
        tick(begun - self._told)
        self._told = begun


def _serve(pipe: Any, note: Any, work: Work, source: Source, patience: int) -> None:
    """A process's life: it ends when its parent's end of the pipe does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            about, numbers = pipe.recv()
            result, error = None, None
            try:
                result = work(source, about, _noted(numbers, note, patience))
            except Exception as raised:  # a full disk, a bug: the parent's to raise
                error = raised
            signal.alarm(0)
            note[0] = -1
            pipe.send((result, error))


def _noted(numbers: Sequence[int], note: Any, patience: int) -> Iterator[int]:
    for number in numbers:
        note[0], note[1] = number, note[1] + 1
        signal.alarm(patience)  # its default action ends the process, also inside a decoder that never returns
        yield number
    signal.alarm(0)
    note[0] = -1
