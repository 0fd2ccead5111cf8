"""Two processes that jax.distributed joins over loopback do what one does; they stop together and go on alone.

Both start as on machines of one's own: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID. The collectives of CPUs are
Gloo's. One device a process, and two in the one that they are compared with; the parameters are split over both.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.checkpoint import store
from mmjax.core import tree
from mmjax.sharding import mesh as meshes

HERE = Path(__file__).parent
STEPS, SAVED = 6, 4


def start(folder: Path, **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(HERE / "two_processes.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "JAX_PLATFORMS": "cpu", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def launch(folder: Path) -> list[tuple[int, str]]:
    """Runs the cases of two processes, SIGTERM to process 1 in the last; exit status and words of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [
        start(folder, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(i), XLA_FLAGS="")
        for i in range(2)
    ]
    try:
        deadline = time.monotonic() + 300
        metrics = folder / "stopped" / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text()) and all(p.poll() is None for p in both):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        both[1].send_signal(signal.SIGTERM)
        return [(p.wait(60), p.stdout.read()) for p in both]
    finally:
        for process in both:
            process.kill()


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of all cases, and how the two processes ended."""
    folder = tmp_path_factory.mktemp("two")
    how = launch(folder)
    assert (folder / "broken.1.json").exists(), how
    alone = start(folder, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    said, _ = alone.communicate(timeout=300)
    assert alone.returncode == 0, said
    return folder, how


def said(folder: Path, case: str) -> list[dict]:
    """What each process left of a case."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{case}.?.json"))]


def losses(workdir: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def state(workdir: Path) -> dict[str, np.ndarray]:
    """The newest checkpoint's leaves, on the one device here."""
    folder = store.find(str(workdir))
    with store.ocp.StandardCheckpointer() as reader:
        found = reader.metadata(folder / "state").item_metadata.tree
    here = NamedSharding(meshes.make({"data": 1}, jax.devices()[:1]), PartitionSpec())
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), found)
    return tree.flatten(jax.device_get(store.restore(folder, like, jax.tree.map(lambda _: here, like))))


def assert_same_run(one: Path, other: Path) -> None:
    """Equal but for the order in which sums over devices are rounded: float32 over six steps."""
    assert losses(one) == pytest.approx(losses(other), rel=1e-5)
    ours, theirs = state(one), state(other)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        if path.endswith("attn/key/bias"):  # softmax does not see it: Adam scales up the rounding of a gradient of zero
            continue
        np.testing.assert_allclose(theirs[path], leaf, atol=1e-5, rtol=1e-4, err_msg=path)
    a, b = (json.loads((workdir / "results.json").read_text()) for workdir in (one, other))
    assert a["validation"]["candidates"] == 40
    assert a["validation"] == pytest.approx(b["validation"], abs=1e-6)


def test_two_processes_equal_one(ended):
    folder, _ = ended
    first, second = said(folder, "first")
    (alone,) = said(folder, "one")
    assert (first["status"], second["status"], alone["status"]) == (0, 0, 0), first["err"] + second["err"] + alone["err"]
    halves = [dict(process["ids"]) for process in (first, second)]
    whole = dict(alone["ids"])
    for k in range(STEPS):
        assert halves[0][k] + halves[1][k] == whole[k]
    assert_same_run(folder / "one", folder / "two")
    assert len(losses(folder / "two")) == STEPS // 2
    assert first["err"].count("loss") == 3
    assert "2 processes" in first["err"]
    assert second["err"] == second["out"] == ""  # what is the same on all is said once


def test_the_work_is_found_done_by_both(ended):
    folder, _ = ended
    first, second = said(folder, "two")
    assert "already trained to step 6" in first["err"]
    assert (first["status"], second["status"], second["ids"]) == (0, 0, [])


def test_one_process_resumes_what_two_saved(ended):
    folder, _ = ended
    (resumed,) = said(folder, "resumed")
    assert resumed["status"] == 0, resumed["err"]
    assert f"resuming from step {SAVED}" in resumed["err"]
    whole = dict(said(folder, "one")[0]["ids"])
    assert resumed["ids"][0] == [SAVED, whole[SAVED]]
    assert_same_run(folder / "resumed", folder / "two")


def test_processes_that_a_model_axis_spans_load_the_same_rows(ended):
    folder, _ = ended
    first, second = said(folder, "across")
    assert (first["status"], second["status"]) == (0, 0), first["err"] + second["err"]
    whole = dict(said(folder, "one")[0]["ids"])
    for k in range(2):
        assert dict(first["ids"])[k] == dict(second["ids"])[k] == whole[k]
    assert losses(folder / "across")[2] == pytest.approx(losses(folder / "one")[2], rel=1e-5)


def test_processes_of_different_configs_are_refused_by_both(ended):
    first, second = said(ended[0], "differ")
    assert (first["status"], second["status"]) == (2, 2)
    message = "mmjax train: process 1 was started with another config than process 0: optim.lr: 0.001 -> 0.002."
    assert message in first["err"]
    assert message in second["err"]


def test_broken_records_of_one_stop_both_with_the_same_words(ended):
    folder, _ = ended
    first, second = said(folder, "broken")
    assert (first["status"], second["status"]) == (2, 2)
    message = first["err"][first["err"].index("mmjax train:") :]
    assert second["err"].endswith(message)
    assert "broken records among the latest 32, over max_broken 0.0001" in message
    assert "OSError: bad block" in message
    assert "replaced unreadable records: #" in second["err"]
    assert "replaced" not in first["err"]  # its own are whole


def test_other_data_than_before_or_than_the_other_has_stop_both(ended):
    folder, _ = ended
    for case, message in (("shrunk", "has 250 records; "), ("uneven", "has 255 records on process 1 and 256 on process 0")):
        both = said(folder, case)
        assert [one["status"] for one in both] == [2, 2]
        assert all(message in one["err"] and not one["ids"] for one in both), both


def test_sigterm_to_one_saves_and_ends_both(ended):
    folder, how = ended
    assert [status for status, _ in how] == [143, 143], how
    lines = [next(line for line in words.splitlines() if "SIGTERM" in line) for _, words in how]
    assert lines[0] == lines[1]
    assert f"after step {store.find(str(folder / 'stopped')).name}," in lines[0]
