"""Kills a run with SIGKILL at random times, resumes it, and compares its last state with that of a run left alone, bit by bit.

    python tests/train/kill.py --kills=50 --out=tests/train/kills.json

Every third kill waits for a checkpoint that is being written; the others come at a random time after the start of the
process, which may be before its first step. A run that reaches its end is compared, and the next begins.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CONFIG = Path(__file__).with_name("resume_config.py")


def kill_and_compare(kills: int, seed: int = 0, steps: int = 60, told: Callable[[dict], None] = lambda result: None) -> dict:
    """Counts of what happened; every finished run equalled the uninterrupted one, or an AssertionError says what differs.

    Args:
      told: is given the counts so far whenever a killed run has been finished and compared.
    """
    draw, folder = random.Random(seed), Path(tempfile.mkdtemp())
    try:
        _finish(folder / "alone", steps)
        began = time.monotonic()
        _finish(folder / "again", steps)  # its programs are compiled now, as those of the runs that will be killed
        length = time.monotonic() - began
        wanted, done, rounds = _last_state(folder / "alone"), [], 0
        while len(done) < kills or not rounds:
            workdir = folder / f"killed{rounds}"
            while len(done) < kills:
                where = "save" if len(done) % 3 == 2 else "clock"
                began = time.monotonic()
                landed = _kill(workdir, steps, where, draw.uniform(0.2, 0.9) * length)
                if landed is None:
                    length = min(length, time.monotonic() - began)  # a machine that others left is faster
                    break
                done.append(landed)
                print(f"kill {len(done)} of {kills}: {landed}", file=sys.stderr, flush=True)
            _finish(workdir, steps)
            _same(wanted, _last_state(workdir))
            rounds += 1
            shutil.rmtree(workdir)
            result = {
                "kills": len(done),
                "during_a_save": sum(k["during_save"] for k in done),
                "steps_saved_when_killed": [k["saved"] for k in done],
                "runs_compared": rounds,
                "leaves_compared": len(wanted),
                "bit_identical": True,
            }
            told(result)
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(workdir: Path, steps: int) -> list[str]:
    return [sys.executable, "-m", "mmjax", "train", f"--config={CONFIG}:{steps}", f"--workdir={workdir}", "--debug"]


def _finish(workdir: Path, steps: int) -> None:
    subprocess.run(_command(workdir, steps), check=True, capture_output=True, timeout=600)


def _kill(workdir: Path, steps: int, where: str, after: float) -> dict | None:
    """Starts the run and kills it and its workers; what stood in the workdir then, or None where it ended first."""
    process = subprocess.Popen(
        _command(workdir, steps), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    before, deadline = _saved(workdir), time.monotonic() + 300
    start = time.monotonic()
    while process.poll() is None and time.monotonic() < deadline:
        if where == "clock" and time.monotonic() - start > after:
            break
        # Some progress first: a run that is always killed before its first save would never end.
        if where == "save" and _saved(workdir) != before and _half_written(workdir):
            break
        time.sleep(0.002)
    if process.poll() is not None:
        return None
    during = _half_written(workdir)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {"during_save": during, "saved": _saved(workdir)}


def _half_written(workdir: Path) -> bool:
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(not (p / "commit_success.txt").exists() for p in folder.iterdir() if p.is_dir())


def _saved(workdir: Path) -> int:
    folder = workdir / "checkpoints"
    done = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    return max(done, default=0)


def _last_state(workdir: Path) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    from mmjax.checkpoint import store
    from mmjax.core import tree

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        state = tree.flatten(reader.restore(store.find(str(workdir)) / "state"))
    return {path: np.asarray(leaf) for path, leaf in state.items()}


def _same(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    assert wanted.keys() == found.keys()
    for path, leaf in wanted.items():
        assert leaf.dtype == found[path].dtype, path
        assert leaf.tobytes() == found[path].tobytes(), f"{path} differs after a kill"
    assert any("stats" in path for path in wanted)
    assert any(path.startswith("ema/") for path in wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    began = time.monotonic()
    import jax

    machine = {
        "machine": f"{os.cpu_count()} x {platform.machine()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "steps": args.steps,
    }

    def store(result: dict) -> None:
        seconds = {"seconds": round(time.monotonic() - began)}
        Path(args.out).write_text(json.dumps(result | seconds | machine, indent=2) + "\n")

    kill_and_compare(args.kills, args.seed, args.steps, store)


if __name__ == "__main__":
    main()
