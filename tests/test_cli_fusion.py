"""A model of picture and text on the command line: trained shrunk, evaluated, its report, and what it is asked."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_cli import ROOT, refused

from mmjax import cli
from mmjax.data.transforms.text import Tokenise
from mmjax.predict.answer import match
from mmjax.predict.encoder import Encoder
from mmjax.tasks.normalise import normalise


def train(tmp_path_factory, arg):
    workdir = tmp_path_factory.mktemp(arg) / "run"
    cli.main(["train", f"--config={ROOT}/tests/fusion_config.py:{arg}", f"--workdir={workdir}", "--config.steps=2"])
    return workdir


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory, "both")


@pytest.fixture(scope="module")
def ranking(tmp_path_factory):
    return train(tmp_path_factory, "rank")


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


@pytest.mark.parametrize("checkpoint", ["trained", "ranking"])
def test_predict_answers(checkpoint, request, picture, tmp_path, capsys):
    sheet, checkpoint = tmp_path / "sheet.png", request.getfixturevalue(checkpoint)
    asked = "--texts=what colour is the ground?"
    cli.main(["predict", "answer", f"--checkpoint={checkpoint}", f"--images={picture}", asked, "--top=6", f"--out={sheet}"])
    line = next(line for line in capsys.readouterr().out.splitlines() if "what colour" in line)
    answers = line.split("?")[1].split(",")
    assert {answer.split()[0] for answer in answers} == {"red", "green", "blue", "yellow", "black", "white"}
    assert sum(float(answer.split()[1]) for answer in answers) == pytest.approx(1, abs=0.01)  # three digits of six
    assert sheet.exists()


def test_an_answer_is_ranked_by_the_matching_head(ranking, picture):
    """Log odds that question and answer belong to the picture; the list is evaluated and its loss is logged."""
    encoder = Encoder(str(ranking))
    assert json.loads((ranking / "results.json").read_text())["drawings"]["questions"] == 32
    assert "answers" in (ranking / "metrics.jsonl").read_text()
    asked = "what colour is the ring?"
    found = encoder.pairs("answers", [picture.read_bytes()], [asked])
    model = encoder._model.bind(encoder._params, encoder._stats)
    listed = encoder.meta["answers"]
    told = jnp.stack([Tokenise("bytes", 48, pair="b").rows((asked, one))["text"] for one in listed])
    logits = model.match(model.fuse({"image": seen([picture] * len(listed))}, told)[0]["joint"])
    np.testing.assert_allclose(found[0], logits[:, 1] - logits[:, 0], atol=1e-5)  # float32
    assert len(set(found[0].round(6).tolist())) == len(listed) == 6


def test_predict_matches_texts_with_pictures(trained, picture, tmp_path, capsys):
    """Every text beside each picture, the likeliest first, as the matching head says; what is no picture is left out."""
    other, texts = tmp_path / "blue.png", ["a large red circle on blue", "a small blue ring on red", "a ring"]
    Image.new("RGB", (48, 32), (40, 40, 220)).save(other)
    (tmp_path / "a.png").write_bytes(picture.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    words = (f"--images={tmp_path}", f"--texts={tmp_path / 'texts.txt'}", f"--out={tmp_path / 'out' / 'sheet.jpg'}")
    cli.main(["predict", "match", f"--checkpoint={trained}", *words])
    said = capsys.readouterr()
    assert "left out, cannot be decoded" in said.err
    lines = [line for line in said.out.splitlines() if not line.startswith("contact")]
    assert [lines[0], lines[4]] == [str(tmp_path / "a.png"), str(other)]
    encoder = Encoder(str(trained))
    model = encoder._model.bind(encoder._params, encoder._stats)
    told = jnp.stack([Tokenise("bytes", 40).rows((text,))["text"] for text in texts])
    for first, path in ((1, picture), (5, other)):
        logits = np.asarray(model.match(model.fuse({"image": seen([path] * 3)}, told)[0]["joint"]), np.float64)
        expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        found = match(encoder, [path.read_bytes()], texts)[0]
        np.testing.assert_allclose(found, expected, atol=1e-6)  # float32
        assert np.ptp(expected) > 1e-4
        assert lines[first : first + 3] == [f"  {found[i]:.3f}  {texts[i]}" for i in np.argsort(-found)]
    assert Image.open(tmp_path / "out" / "sheet.jpg").width > 96


def test_albef_goes_from_pretraining_to_retrieval_and_to_answers(tmp_path, picture, capsys):
    """The shipped recipes one after the other, shrunk: heads and k in results.json, then what predict makes of either."""

    def run(name, *words):
        cli.main(
            ["train", f"--config={ROOT}/configs/{name}.py:debug", f"--workdir={tmp_path / name}", "--config.steps=2", *words]
        )
        return json.loads((tmp_path / name / "results.json").read_text())

    run("albef", "--config.eval.sets=[]")
    found = run("albef_retrieval", f"--config.init.from={tmp_path / 'albef'}")["validation"]
    assert {f"{head}/{way}/R@1" for head in ("itc", "itm", "sum") for way in ("t2i", "i2t")} <= found.keys()
    assert (found["shortlist"], found["candidates"]) == (8, 32)
    assert 32 * 8 <= found["fused"] <= 2 * 32 * 8
    asked = run("albef_vqa", f"--config.init.from={tmp_path / 'albef'}")["drawings"]
    assert {"accuracy", "majority/accuracy", "question_only/accuracy"} <= asked.keys()
    capsys.readouterr()
    long = "a large red circle on blue, and then some more words than it can read"
    words = (f"--images={picture}", f"--texts={long}", f"--out={tmp_path / 'sheet.png'}")
    cli.main(["predict", "match", f"--checkpoint={tmp_path / 'albef_retrieval'}", *words])
    said = capsys.readouterr()
    assert "1 of 1 texts are longer than the model reads" in said.err
    assert 0 < float(said.out.splitlines()[1].split()[0]) < 1
    asked = "--texts=what colour is the ground?"
    cli.main(["predict", "answer", f"--checkpoint={tmp_path / 'albef_vqa'}", *words[::2], asked, "--top=6"])
    said = capsys.readouterr()
    assert "longer than" not in said.err
    assert {"red", "green", "blue"} <= {answer.split()[0] for answer in said.out.splitlines()[1].split("?")[1].split(",")}


def test_what_a_checkpoint_cannot_do_is_said(ranking, picture, capsys):
    words = (f"--checkpoint={ranking}", f"--images={picture}", "--texts=a red circle")
    assert "its task gives no match" in refused(capsys, "predict", "match", *words)


def seen(paths):
    """Pictures of the size that the model is shown, normalised."""
    pictures = np.stack([np.asarray(Image.open(path).resize((32, 32))) for path in paths])
    return normalise(jnp.asarray(pictures), "imagenet")
