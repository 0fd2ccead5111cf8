"""Lines of metrics.jsonl, and progress where there is no terminal."""

import json
import time

import pytest
from clu.asynclib import AsyncError

from mmjax.core.errors import UserError
from mmjax.train.log import Log, Progress

CONFIG = {"wandb": False}


def lines(folder) -> list:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.smoke
def test_a_line_a_write_in_order(tmp_path):
    before = time.time()
    log = Log(str(tmp_path / "run"), CONFIG)
    for step in (1, 2, 3):
        log.write(step, {"loss": 1 / step, "set/t2i/R@1": 0.5})
    log.close()
    found = lines(tmp_path / "run")
    assert [(line["step"], line["loss"], line["set/t2i/R@1"]) for line in found] == [
        (1, 1.0, 0.5),
        (2, 0.5, 0.5),
        (3, 1 / 3, 0.5),
    ]
    assert all(before - 1 < line["time"] < time.time() + 1 for line in found)
    assert list((tmp_path / "run" / "tb").glob("events.*"))


@pytest.mark.smoke
def test_what_json_cannot_hold_is_null(tmp_path):
    log = Log(str(tmp_path), CONFIG)
    log.write(1, {"loss": float("nan"), "norm": float("inf"), "rate": 0.5})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (line,) = lines(tmp_path)
    assert (line["loss"], line["norm"], line["rate"]) == (None, None, 0.5)


@pytest.mark.parametrize("left, kept", [('{"step": 1}\n{"st', 2), ('{"step": 1}\n', 1), ("", 0)])
def test_a_line_cut_short_does_not_swallow_the_next(tmp_path, left, kept):
    (tmp_path / "metrics.jsonl").write_text(left)
    log = Log(str(tmp_path), CONFIG)
    log.write(2, {"loss": 1.0})
    log.close()
    found = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert found[:kept] == left.splitlines()
    assert [json.loads(line)["step"] for line in found[kept:]] == [2]


def test_what_fails_in_the_thread_is_raised_later(tmp_path):
    log = Log(str(tmp_path), CONFIG)
    (tmp_path / "metrics.jsonl").mkdir()
    log.write(1, {"loss": 1.0})
    with pytest.raises(AsyncError, match="Is a directory"):
        log.close()


def test_wandb_that_is_not_installed_says_how(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'mmjax\[wandb\]', or --config.wandb=false"):
        Log(str(tmp_path), {"wandb": True})


def test_progress_prints_a_line_a_log_step(capsys):
    progress = Progress(10, 4)
    progress.to(5)
    progress.to(6, {"loss": 0.25, "examples_per_s": 12.4})
    progress.say("a word")
    progress.close()
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("step 6/10  loss 0.2500  12 examples/s  0:0")
    assert said[1:] == ["a word"]
    silent = Progress(10, 0, show=False)
    silent.to(5, {"loss": 0.25, "examples_per_s": 12.4})
    silent.say("a word")
    assert capsys.readouterr().err == ""
