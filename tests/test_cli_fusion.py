"""A model of picture and text on the command line: trained shrunk, evaluated, its report, and what it is asked."""

import json

import pytest
from PIL import Image
from test_cli import ROOT, refused

from mmjax import cli


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("fusion") / "run"
    cli.main(["train", f"--config={ROOT}/configs/visualbert.py:debug", f"--workdir={workdir}", "--config.steps=2"])
    return workdir


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "red.png"
    Image.new("RGB", (32, 32), (220, 40, 40)).save(path)
    return path


def test_results_stand_beside_the_baselines_and_the_page_shows_questions(trained):
    found = json.loads((trained / "results.json").read_text())["drawings"]
    assert {"accuracy", "majority/accuracy", "question_only/accuracy", "unlisted", "truncated"} <= found.keys()
    assert found["questions"] == 32
    page = (trained / "report.html").read_text()
    assert "what colour is the" in page
    assert "question only" in page


def test_evaluate_finds_what_training_found(trained):
    before = json.loads((trained / "results.json").read_text())["drawings"]
    cli.main(["evaluate", f"--checkpoint={trained}"])
    assert json.loads((trained / "results.json").read_text())["drawings"] == pytest.approx(before, abs=1e-6)


def test_predict_answers(trained, picture, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    asked = "--texts=what colour is the ground?"
    cli.main(["predict", "answer", f"--checkpoint={trained}", f"--images={picture}", asked, "--top=6", f"--out={sheet}"])
    line = next(line for line in capsys.readouterr().out.splitlines() if "what colour" in line)
    answers = line.split("?")[1].split(",")
    assert {answer.split()[0] for answer in answers} == {"red", "green", "blue", "yellow", "black", "white"}
    assert sum(float(answer.split()[1]) for answer in answers) == pytest.approx(1, abs=0.01)  # three digits of six
    assert sheet.exists()


def test_what_a_checkpoint_cannot_do_is_said(trained, picture, capsys):
    words = (f"--checkpoint={trained}", f"--images={picture}", "--texts=a red circle")
    assert "its task gives no match" in refused(capsys, "predict", "match", *words)
