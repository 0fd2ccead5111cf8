"""The command line as a user meets it: the shrunk quickstart from end to end, and what bad input gets."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mmjax import cli
from mmjax.data.builders.write import write_tfds

ROOT = Path(__file__).parents[1]
QUICK = f"--config={ROOT}/configs/quickstart.py:debug"


def run(*words, **env):
    """Runs mmjax in a process of its own; returns (exit status, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "mmjax", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **env},
        cwd=ROOT,
    )
    return done.returncode, done.stdout, done.stderr


def refused(capsys, *words) -> str:
    """What a refused command says: one to three lines, and exit status 2."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    assert stop.value.code == 2
    said = capsys.readouterr().err
    message = said[said.index(f"mmjax {words[0]}:") :].strip()
    assert len(message.splitlines()) <= 3
    return message


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The quickstart's config, shrunk, trained by the command of its docstring."""
    workdir = tmp_path_factory.mktemp("quick")
    status, out, err = run("train", QUICK, f"--workdir={workdir}")
    assert status == 0, err
    return workdir, out, err


@pytest.mark.smoke
def test_train_writes_a_workdir(trained):
    workdir, out, err = trained
    assert {"config.json", "metrics.jsonl", "results.json", "report.html", "checkpoints", "tb"} <= {
        p.name for p in workdir.iterdir()
    }
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == [5, 10, 15, 20]
    assert training[-1]["loss"] < training[0]["loss"]
    for name in ("loss/contrastive", "accuracy/i2t", "accuracy/t2i", "logit_scale", "grad_norm", "param_norm", "learning_rate"):
        assert name in training[0]
    for name in ("examples_per_s", "examples_per_s_chip", "data_wait"):
        assert training[0][name] >= 0
    results = json.loads((workdir / "results.json").read_text())
    assert results["heldout_pairs"]["candidates"] == 64
    assert {"t2i/R@1", "i2t/R@1", "zeroshot/top1"} <= results["heldout_pairs"].keys()
    assert results["seed"] == 0
    assert results["train_seconds"] > 0
    assert "report.html" in out
    assert list((workdir / "tb").iterdir())
    assert "loss" in err  # progress


def test_again_finds_the_work_done(trained):
    workdir, _, _ = trained
    before = (workdir / "metrics.jsonl").read_text()
    status, _, err = run("train", QUICK, f"--workdir={workdir}")
    assert status == 0
    assert "already trained to step 20" in err
    assert (workdir / "metrics.jsonl").read_text() == before


def test_evaluate_finds_what_training_found(trained):
    workdir, _, _ = trained
    told = json.loads((workdir / "results.json").read_text())
    (workdir / "results.json").unlink()
    status, _, err = run("evaluate", f"--checkpoint={workdir}")
    assert status == 0, err
    found = json.loads((workdir / "results.json").read_text())
    for name in ("heldout_pairs", "unseen_concepts"):
        assert found[name] == pytest.approx(told[name], abs=1e-6)


def test_check_is_quick_and_draws_a_batch(tmp_path):
    status, out, err = run("check", QUICK, f"--sheet={tmp_path}/sheet.png")
    assert status == 0, err
    assert "image_encoder/stack/blocks/attn/query/kernel" in out
    assert "flops a step" in out
    assert "batch 0, its first 32 rows:" in out
    assert (tmp_path / "sheet.png").stat().st_size > 1000


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--config.optim.lrr=1e-3"], ["optim", "'lrr'", "Did you mean 'lr'"]),
        (["--config.steps=many"], ["steps", "needs an int", "'many'"]),
        (["--config.mesh.data=4"], ["mesh: data 4", "there are 1", "-1"]),
        (["--config.model.image.name=vitt"], ["model.image", "'vitt'", "Did you mean 'vit'"]),
        (["--config.model.image.patch=5"], ["32", "patch 5"]),
        (["--config.task.loss.name=hinge"], ["task.loss", "softmax"]),
        (["--config.freeze=[['image_encoderr/.*', True]]"], ["freeze", "covers no"]),
        (["--config.compute_dtype=float8"], ["compute_dtype", "bfloat16"]),
        (['--config.data.sources=[{"source": {"name": "tfds", "dataset": "nosuch"}}]'], ["nosuch", "mmjax data get"]),
        (["--config.batch.image=[[64, 64, 3], 'uint8']"], ["image", "[32, 32, 3]", "[64, 64, 3]"]),
        (["--config.model.text.vocab=50"], ["vocab"]),
        (["--config.eval.params=ema"], ["optim.ema"]),
    ],
    ids=lambda x: x[0].split("=")[0] if x[0].startswith("--") else "",
)
def test_bad_input_gets_a_clear_line(words, says, tmp_path, capsys):
    message = refused(capsys, "train", QUICK, f"--workdir={tmp_path}/run", *words)
    for word in says:
        assert word in message


def test_no_such_config(tmp_path, capsys):
    assert "there is no file 'nosuch.py'" in refused(capsys, "train", "--config=nosuch.py", f"--workdir={tmp_path}")


def test_no_such_checkpoint(tmp_path, capsys):
    assert "no checkpoint in" in refused(capsys, "evaluate", f"--checkpoint={tmp_path}")


def test_another_model_in_the_workdir_is_refused_with_the_difference(trained, capsys):
    workdir, _, _ = trained
    message = refused(capsys, "train", QUICK, f"--workdir={workdir}", "--config.model.dim=64")
    assert "model.dim: 32 -> 64" in message


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_examples(tmp_path, capsys):
    # A learning rate at which the first steps are finite and a later one is not.
    words = (
        "train",
        QUICK,
        f"--workdir={tmp_path}",
        "--config.optim.lr=1e30",
        "--config.optim.clip=none",
        "--config.save_every=1",
    )
    message = refused(capsys, *words)
    assert "not finite at step" in message
    assert "synthetic-" in message
    assert "last good checkpoint" in message
    step = int(message.split("not finite at step ")[1].split(" ")[0])
    saved = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert max(saved) <= step


def picture(i: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), (i * 5, 100, 200)).save(file, "PNG")
    return file.getvalue()


def test_unreadable_pictures_are_replaced_and_counted_and_too_many_stop_the_run(tmp_path, capsys):
    import tensorflow_datasets as tfds

    records = [{"image": picture(i), "text": f"caption {i}", "id": f"good-{i}"} for i in range(45)]
    records[7] |= {"image": records[7]["image"][:60], "id": "bad-7"}
    features = {"image": tfds.features.Image(encoding_format="png"), "text": tfds.features.Text(), "id": tfds.features.Text()}
    folder = tmp_path / "pictures" / "1.0.0"
    folder.mkdir(parents=True)
    write_tfds(folder, "pictures", "1.0.0", features, {"train": records}, "a test", "none")
    words = ["train", QUICK, f"--config.data.sources={[{'source': {'name': 'tfds', 'path': str(folder)}}]!r}"]
    words += ["--config.eval.sets=[]", "--config.model.image.depth=0", "--config.optim.name=adamw", "--config.optim.args={}"]
    cli.main([*words, f"--workdir={tmp_path}/few", "--config.steps=5"])
    assert "bad-7" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "few" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["broken_records"] > 0
    message = refused(capsys, *words, f"--workdir={tmp_path}/many", "--config.data.max_broken=1e-4")
    assert "bad-7" in message
    assert "max_broken" in message
