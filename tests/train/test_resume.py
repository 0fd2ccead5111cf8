"""Exact resume: SIGKILL and SIGTERM from outside; the rest of the run is as if nothing had happened."""

import json
import os
import signal
import subprocess
import time

import kill


def test_three_kills_leave_no_trace():
    result = kill.kill_and_compare(kills=3, steps=60)
    assert result["kills"] == 3
    assert result["during_a_save"] >= 1
    assert result["bit_identical"]
    assert result["leaves_compared"] > 50


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
