"""What a run says of itself: JSON lines and TensorBoard always, wandb when asked, and a progress bar."""

import importlib.util
import json
import math
import sys
import time
import zlib
from collections.abc import Mapping
from typing import Any

from clu import asynclib
from etils import epath
from tensorboardX import SummaryWriter
from tqdm import tqdm

from mmjax.core.errors import UserError


class Log:
    """Writes scalars of a run into `WORKDIR/metrics.jsonl` and `WORKDIR/tb/`, in a thread beside the loop.

    A line is {"step": ..., "time": seconds since 1970, NAME: value}; a run that resumed may repeat steps, the later
    line counts.
    """

    def __init__(self, workdir: str, config: Mapping[str, Any]):
        folder = epath.Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        if self._path.exists() and self._path.read_text()[-1:] not in ("", "\n"):
            with self._path.open("a") as file:  # a kill in the middle of a line
                file.write("\n")
        self._wandb = _wandb(workdir, config) if config["wandb"] else None
        self._board = SummaryWriter(str(folder / "tb"), flush_secs=10)
        self._pool = asynclib.Pool("log", max_workers=1)
        self._write_later = self._pool(self._write)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Queues one line; an error of an earlier write is raised here."""
        self._write_later(step, time.time(), dict(scalars))

    def close(self) -> None:
        """Waits for what is queued; an error of a write is raised here."""
        try:
            self._pool.join()
        finally:
            self._board.close()
            if self._wandb:
                self._wandb.finish()

    def _write(self, step: int, now: float, scalars: dict[str, float]) -> None:
        # json has no NaN: null keeps the line readable by everything.
        line = {"step": step, "time": round(now, 3)} | {k: v if math.isfinite(v) else None for k, v in scalars.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step, walltime=now)
        if self._wandb:
            self._wandb.log(scalars, step=step)


class Progress:
    """A bar on a terminal; elsewhere one line a log step."""

    def __init__(self, total: int, start: int, show: bool = True):
        self._total, self._show = total, show
        self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True) if show and sys.stderr.isatty() else None
        self._began, self._start = time.monotonic(), start

    def to(self, step: int, scalars: Mapping[str, float] | None = None) -> None:
        """Moves to `step`; `scalars` are shown when given."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            if scalars:
                self._bar.set_postfix_str(f"loss {scalars['loss']:.3f}, {scalars['examples_per_s']:.0f} examples/s")
        elif self._show and scalars:
            left = (time.monotonic() - self._began) / max(step - self._start, 1) * (self._total - step)
            print(
                f"step {step}/{self._total}  loss {scalars['loss']:.4f}  {scalars['examples_per_s']:.0f} examples/s  "
                f"{left // 60:.0f}:{left % 60:02.0f} left",
                file=sys.stderr,
                flush=True,
            )

    def say(self, line: str) -> None:
        """Prints a line without tearing the bar."""
        if self._show:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar where it stands."""
        if self._bar is not None:
            self._bar.close()


def check_client(config: Mapping[str, Any]) -> None:
    """Raises UserError where wandb is asked for and not installed."""
    if config["wandb"] and importlib.util.find_spec("wandb") is None:
        raise UserError("wandb is on and not installed: pip install 'mmjax[wandb]', or --config.wandb=false")


def _wandb(workdir: str, config: Mapping[str, Any]):
    try:
        import wandb
    except ImportError:
        raise UserError("wandb is on and not installed: pip install 'mmjax[wandb]', or --config.wandb=false") from None
    # One workdir is one run there too: the same id again goes on with it.
    name, number = epath.Path(workdir).name, zlib.crc32(str(epath.Path(workdir).absolute()).encode())
    return wandb.init(project="mmjax", name=name, id=f"{name}-{number:08x}", dir=workdir, config=dict(config), resume="allow")
