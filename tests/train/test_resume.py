"""Exact resume: SIGKILL and SIGTERM from outside; the rest of the run is as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import kill
import pytest
from PIL import Image

from mmjax import cli

QUICK = f"--config={Path(__file__).parents[2]}/configs/quickstart.py:debug"


def test_three_kills_leave_no_trace():
    result = kill.kill_and_compare(kills=3, steps=60)
    assert result["kills"] == 3
    assert result["during_a_save"] >= 1
    assert result["bit_identical"]
    assert result["leaves_compared"] > 50


@pytest.mark.parametrize("name", ["albef", "visualbert", "vilt", "lxmert", "cross_encoder"])
def test_what_reads_two_modalities_goes_on_as_if_it_had_not_stopped(name, tmp_path, capsys):
    """From the checkpoint of step 3, bit by bit; of ALBEF with its teacher and its queue."""
    recipe = f"--config={Path(__file__).parents[2]}/configs/{name}.py:debug"
    words = ["train", recipe, "--config.eval.sets=[]", "--config.optim.name=adamw", "--config.optim.args={}"]
    cli.main([*words, f"--workdir={tmp_path / 'whole'}"])
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped/checkpoints/6")
    (tmp_path / "stopped/results.json").unlink()
    capsys.readouterr()
    cli.main([*words, f"--workdir={tmp_path / 'stopped'}"])
    assert "resuming from step 3" in capsys.readouterr().err
    whole, found = (kill._last_state(tmp_path / workdir) for workdir in ("whole", "stopped"))
    assert whole.keys() == found.keys()
    assert [path for path, leaf in whole.items() if leaf.tobytes() != found[path].tobytes()] == []
    if name == "albef":
        assert {"teacher", "queue"} <= {path.split("/")[1] for path in whole if path.startswith("extra/")}
        assert whole["extra/queue/image"].any(axis=(1, 2)).all()  # four batches are held, and all slots are filled


def test_sigterm_saves_exits_and_the_same_command_resumes(tmp_path):
    steps = 100_000  # more than it will reach
    # As a launcher does: a process group of its own, told to stop as a whole, workers included.
    process = subprocess.Popen(kill._command(tmp_path, steps), stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not kill._saved(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "SIGTERM" in words
    assert "Traceback" not in words
    stopped = kill._saved(tmp_path)
    assert f"after step {stopped}" in words
    process = subprocess.Popen(kill._command(tmp_path, steps), stderr=subprocess.PIPE, text=True)
    while kill._saved(tmp_path) == stopped and time.monotonic() < deadline + 60:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=60)
    assert f"resuming from step {stopped}" in words
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) > stopped


def test_a_source_that_shrinks_between_runs_is_refused_and_an_old_checkpoint_is_not(tmp_path, capsys):
    Image.new("RGB", (48, 48), "red").save(tmp_path / "a.png")
    rows = ["image,text", *(f"a.png,caption {i}" for i in range(40))]
    table, workdir = tmp_path / "pairs.csv", tmp_path / "run"
    sources = [{"source": {"name": "synthetic", "n": 64, "size": 48}}, {"source": {"name": "csv", "path": str(table)}}]
    words = ["train", QUICK, f"--workdir={workdir}", f"--config.data.sources={sources!r}", "--config.eval.sets=[]"]
    words += ["--config.model.image.depth=0", "--config.optim.name=adamw", "--config.optim.args={}"]  # little to compile
    table.write_text("\n".join(rows))
    cli.main([*words, "--config.steps=2"])
    table.write_text("\n".join(rows[:-3]))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--config.steps=3"])
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"data.sources[1], csv {table}, has 37 records; {workdir} was trained on 40 of csv" in said
    assert "bring them back, or give another --workdir" in said
    # Before sources were noted, checkpoints had none in their meta.
    meta = workdir / "checkpoints/2/meta/metadata"
    held = json.loads(meta.read_text())
    assert held.pop("sources")[0] == {"name": "synthetic", "path": "", "records": 64}
    meta.write_text(json.dumps(held))
    cli.main([*words, "--config.steps=3"])
    assert json.loads((workdir / "results.json").read_text())["step"] == 3
