"""What test_two_processes.py runs: the command line, case after case, on every process that the environment tells of.

    python tests/multi/two_processes.py FOLDER

Each case leaves FOLDER/CASE (a workdir) and FOLDER/CASE.PROCESS.json: exit status, words, and the ids of each batch here.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

from mmjax import cli
from mmjax.data import sources, stream
from mmjax.sharding import rules

ROOT = Path(__file__).parents[2]
PROCESS = os.environ.get("JAX_PROCESS_ID", "0")
COMMON = [
    "train",
    f"--config={ROOT}/configs/clip_b32.py:debug",
    "--config.compute_dtype=float32",
    "--config.remat=none",
    "--config.optim.ema=0.9",
    "--config.model.text.depth=0",  # half of what there is to compile
    "--config.save_every=2",
    "--config.mesh.data=1",
    "--config.mesh.fsdp=-1",
    # Two batches and a half, of which process 1 has nothing in the last.
    "--config.eval.sets.0.source.n=40",
]


TINY = "--config.model.image.depth=0"  # where only the stopping counts


class Flaky(sources.Synthetic):
    """Drawings on a disk of which process 1 cannot read a quarter."""

    def __getitem__(self, i):
        if PROCESS == "1" and i % 4 == 0:
            raise OSError("bad block")
        return super().__getitem__(i)


class Uneven(sources.Synthetic):
    """Drawings of which process 1 holds one less."""

    def __len__(self):
        return super().__len__() - int(PROCESS)


def run(folder: Path, case: str, *words: str) -> None:
    """One command; its exit status is noted, not taken."""
    ids, batches = [], stream.Stream.batches

    def noted(self, start=0):
        for k, batch in batches(self, start):
            ids.append([k, batch["id"].tolist()])
            yield k, batch

    stream.Stream.batches = noted
    err, out, status = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
            cli.main([*COMMON, f"--workdir={folder / case}", *words])
    except SystemExit as stop:
        status = stop.code
    finally:
        stream.Stream.batches = batches
    said = {"status": status, "err": err.getvalue(), "out": out.getvalue(), "ids": ids}
    (folder / f"{case}.{PROCESS}.json").write_text(json.dumps(said))


def synthetic(n: int) -> list[dict]:
    return [{"source": {"name": "synthetic", "n": n, "size": 40}}]


def main(folder: Path) -> None:
    """The cases of two processes, or those of one."""
    rules.SMALL = 256  # toy leaves are split over the processes too
    sources.SOURCES |= {"flaky": Flaky, "uneven": Uneven}
    if "JAX_NUM_PROCESSES" not in os.environ:
        run(folder, "one")
        shutil.copytree(folder / "two", folder / "resumed")
        shutil.rmtree(folder / "resumed/checkpoints/6")
        (folder / "resumed/results.json").unlink()
        run(folder, "resumed")
        return
    run(folder, "two")
    shutil.move(folder / f"two.{PROCESS}.json", folder / f"first.{PROCESS}.json")
    run(folder, "two", "--config.steps=8", f"--config.data.sources={synthetic(250)}")
    shutil.move(folder / f"two.{PROCESS}.json", folder / f"shrunk.{PROCESS}.json")
    run(folder, "two")  # finds its work done
    run(folder, "across", "--config.mesh.fsdp=1", "--config.mesh.model=2", "--config.steps=2", "--config.eval.sets=[]")
    run(folder, "differ", f"--config.optim.lr={'2e-3' if PROCESS == '1' else '1e-3'}")
    uneven = [{"source": {"name": "uneven", "n": 256, "size": 40}}]
    run(folder, "uneven", f"--config.data.sources={uneven}", TINY)
    flaky = [{"source": {"name": "flaky", "n": 256, "size": 40}}]
    run(folder, "broken", f"--config.data.sources={flaky}", "--config.data.max_broken=1e-4", TINY)
    cli.main([*COMMON, TINY, f"--workdir={folder / 'stopped'}", "--config.steps=100000", "--config.save_every=100000"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
