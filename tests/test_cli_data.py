"""The verb `data` as a user meets it: a folder of pictures with their captions beside them."""

import json

import numpy as np
import pytest
from PIL import Image

from mmjax import cli
from mmjax.data.sources import SOURCES


class Tones:
    """Two sounds."""

    def __len__(self):
        return 2

    def __getitem__(self, i):
        samples = np.sin(np.arange(4000) * (i + 1) / 9).astype(np.float32)
        return {"audio": {"samples": samples, "rate": 8000}, "text": f"tone {i}", "id": f"tone-{i}"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SOURCES, "tones", Tones)


@pytest.fixture
def pictures(tmp_path):
    """Five pictures of different colours and captions; the last is cut off."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(5):
        small = np.random.default_rng(i).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((40, 30), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture {i}")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:100])
    return folder


def mmjax(capsys, *words) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of `mmjax data ...`."""
    status = 0
    try:
        cli.main(["data", *map(str, words)])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


def leaks(out: str) -> list[str]:
    return [line.strip() for line in out.split("too:")[1].splitlines()[1:4]]


def test_make_then_check_what_was_made(pictures, tmp_path, capsys):
    status, out, err = mmjax(capsys, "make", pictures, "--out=made", "--workers=1")
    assert status == 0, err
    assert "pairs_folder" in err  # the kind that was detected
    assert "5 of 5, split 'train'" in out
    source = json.loads(out.split("source: ")[1])
    assert source == {"name": "tfds", "path": str(tmp_path / "made"), "split": "train"}
    status, out, _ = mmjax(capsys, "check", "made", "--workers=1")
    assert status == 0
    assert "5 read of 5" in out
    assert "in trouble       1 records" in out
    assert "4.png" in out
    assert "check.html" in out
    assert (tmp_path / "check.html").read_text().count("<img") == 4


def test_check_is_strict_where_it_is_told(pictures, capsys):
    words = ("check", f"--source={{'name': 'pairs_folder', 'path': {str(pictures)!r}}}", "--workers=1")
    assert mmjax(capsys, *words)[0] == 0
    status, _, err = mmjax(capsys, *words, "--strict", "--out=strict.html")
    assert status == 1
    assert "1 records are in trouble" in err
    for name in ("4.png", "4.txt"):
        (pictures / name).unlink()
    assert mmjax(capsys, *words, "--strict")[0] == 0


def test_check_finds_leaks_between_splits(pictures, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((pictures / "2.png").read_bytes())
    (other / "a.txt").write_text("other words")
    status, out, _ = mmjax(capsys, "check", pictures, f"--splits=test={other}", "--workers=1")
    assert status == 0
    assert "of the 1 records of 'test', in 'all' too:" in out
    assert leaks(out) == ["equal pictures   1: a.png", "near duplicates  0", "equal captions   0"]


def test_all_splits_of_a_prepared_set_are_checked(pictures, tmp_path, capsys):
    import tensorflow_datasets as tfds

    from mmjax.data.builders.write import write_tfds

    features = {"text": tfds.features.Text(), "id": tfds.features.Text()}
    splits = {"test": [{"text": "b", "id": "2"}], "train": [{"text": "a", "id": "0"}, {"text": "b", "id": "1"}]}
    (tmp_path / "set").mkdir()
    write_tfds(tmp_path / "set", "letters", "1.0.0", features, splits, "two letters", "CC0")
    status, out, _ = mmjax(capsys, "check", "set", "--workers=1")
    assert status == 0
    assert "of the 1 records of 'test', in 'train' too:" in out
    assert leaks(out) == ["equal pictures   0", "near duplicates  0", "equal captions   1: 2"]


def test_show_draws_a_sheet(pictures, tmp_path, capsys):
    status, out, _ = mmjax(capsys, "show", pictures, "--n=3", "--out=sheet.png")
    assert status == 0
    assert "2 of 5 records: sheet.png" in out  # the first and the third; the last cannot be decoded
    assert "0.png: 'picture 0'" in out
    assert Image.open(tmp_path / "sheet.png").size == (10 + 2 * 202, 10 + 192 + 4 + 28 + 10)


def test_show_draws_spectrograms(tmp_path, capsys):
    pytest.importorskip("soundfile")
    status, out, _ = mmjax(capsys, "show", "{'name': 'tones'}")
    assert status == 0
    assert "2 of 2 records: show.png" in out
    assert len(Image.open(tmp_path / "show.png").convert("RGB").getcolors(1 << 20)) > 100


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check",), "give either SRC"),
        (("check", "nowhere"), "there is no nowhere"),
        (("check", "{'path': 'x'}"), "needs a 'name'"),
        (("check", "{'name': 'csvv'}"), "unknown name 'csvv'"),
        (("check", "[{'name': 'csv'}]"), "one by one"),
        (("check", "{'name': "), "neither json nor"),
        (("check", "{'name': 'tones'}", "--sample=0"), "--sample=0"),
        (("check", "{'name': 'tones'}", "--splits=test"), "--splits=NAME=SRC"),
        (("show", "{'name': 'tones'}", "--workers=0"), "--workers=0"),
        (("show", "{'name': 'tones'}", "--n=0"), "--n=0"),
        (("make", "{'name': 'tones'}", "--out=gs://bucket/x"), "written to a disk"),
        (("get", "openmojo"), "Did you mean 'openmoji'"),
    ],
    ids=str,
)
def test_bad_input_gets_a_clear_line(words, says, capsys):
    status, _, err = mmjax(capsys, *words)
    assert status == 2
    assert says in err
    assert err.startswith("mmjax data: ")


def test_list_names_the_shipped_sets(capsys):
    status, out, _ = mmjax(capsys, "list")
    assert status == 0
    assert "openmoji" in out
