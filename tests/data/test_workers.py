"""Worker processes: one that dies is reported with what it was at, and none reaches for the accelerator."""

import os
import subprocess
import sys

from mmjax.data import workers

SCRIPT = """
import os
from mmjax.data import sources, stream

class Killer(sources.Synthetic):
    def __getitem__(self, i):
        if i == 11:
            os._exit(7)
        return super().__getitem__(i)

sources.SOURCES["killer"] = Killer
if __name__ == "__main__":
    entry = {"source": {"name": "killer", "n": 16, "size": 8}}
    for k, _ in stream.Stream([entry], [], batch_size=8, fields=("image",), workers=1).batches():
        if k > 2:
            break
"""


def test_a_worker_that_dies_is_reported_with_its_record(tmp_path):
    script = tmp_path / "killer.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "MMJAX_TEST_ANNOTATIONS": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 1
    assert "a data worker died (exit code 7) at record 11 of data.sources[0]." in run.stderr


def test_workers_are_kept_off_the_accelerator(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    monkeypatch.setattr(workers.threading.Thread, "start", lambda self: None)  # this process has no parent to follow
    monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
    monkeypatch.setattr(workers, "_note", None)
    workers._start_worker(str(tmp_path), 0, 1)
    assert os.environ["JAX_PLATFORMS"] == "cpu"


def test_a_note_is_the_last_words_of_its_process_only(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "_note", bytearray(workers.NOTE))
    workers.note("a long record's name")
    workers.note("é" * workers.NOTE)
    workers.note("cat.jpg")
    (tmp_path / "999999999").write_bytes(bytes(workers._note))
    (tmp_path / str(os.getpid())).write_bytes(b"not this one\0")
    assert workers._last_words(tmp_path) == "cat.jpg"
