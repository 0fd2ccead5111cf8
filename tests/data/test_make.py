"""Any source into shards: what comes back is what went in, also when the process is killed in between."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.data.make import fit, make, schema_of
from mmjax.data.sources import SOURCES
from mmjax.data.sources.folders import PairsFolder
from mmjax.data.sources.prepared import Tfds
from mmjax.data.transforms.text import Tokenise, load_tokenizer

HERE = Path(__file__).parent


class Slow:
    """So many small records, each of which takes its time."""

    def __init__(self, n, seconds=0.01):
        self._n, self._seconds = n, seconds

    def __len__(self):
        return self._n

    def __getitem__(self, i):
        time.sleep(self._seconds)
        return {"text": f"caption {i}", "id": f"slow-{i}", "label": i}


class Deadly(Slow):
    """A source whose record 7 kills whoever reads it, and whose record 9 cannot be read."""

    def __getitem__(self, i):
        if i == 7:
            os.kill(os.getpid(), signal.SIGSEGV)
        if i == 9:
            raise ValueError("nine is odd")
        return super().__getitem__(i)


class Mute(Slow):
    """Pictures without a word."""

    def __getitem__(self, i):
        return {"image": b"png"}


class All:
    """Every kind of field."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return {
            "image": np.full((4, 5, 3), 40 * i, np.uint8),
            "texts": ["一", "two"][: i + 1] if i < 2 else [],
            "audio": {"samples": np.arange(i + 1, dtype=np.float32), "rate": 8000},
            "question": "what?",
            "answers": ["this", "that"],
            "id": f"all-{i}",
            "group": i + 7,
            "present": {"image": i != 1},
        }


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    for name, row in {"slow": Slow, "deadly": Deadly, "all": All, "mute": Mute}.items():
        monkeypatch.setitem(SOURCES, name, row)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Seven pictures with a caption beside each; the fourth caption is empty of bytes that are UTF-8."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(7):
        Image.new("RGB", (8 + i, 6), (30 * i, 90, 10)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_bytes(f"caption {i}".encode() if i != 3 else b"\xff\xfe\xfd")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_comes_back_from_its_shards(folder, tmp_path):
    out = tmp_path / "out"
    spec = {"name": "pairs_folder", "path": str(folder)}
    manifest = make(spec, out, workers=2, shard=3)
    assert manifest["counts"] == {"train": 6}
    train = manifest["splits"]["train"]
    assert train["records"] == 7
    assert train["broken"] == 1
    assert list(train["broken_records"]) == ["#3"]
    assert [shard["examples"] for shard in train["shards"]] == [3, 2, 1]
    for shard in train["shards"]:
        assert hashlib.sha256((out / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]
    assert {"image": "image", "text": "text", "id": "text"}.items() <= manifest["schema"].items()
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert {path.name for path in out.iterdir()} == {
        *(f"data-train.array_record-0000{k}" for k in range(3)),
        *("dataset_info.json", "features.json", "manifest.json"),
    }
    before, after = PairsFolder(str(folder)), Tfds(path=str(out))
    assert len(after) == 6
    for i, j in enumerate([0, 1, 2, 4, 5, 6]):
        assert {key: after[i][key] for key in ("image", "text", "id")} == {
            "image": (folder / f"{j}.png").read_bytes(),
            "text": f"caption {j}",
            "id": before[j]["id"],
        }


def test_killed_in_between_it_goes_on_to_the_same_bytes(tmp_path):
    spec, out = {"name": "slow", "n": 120}, tmp_path / "out"
    code = (
        "from mmjax.data.make import make; from mmjax.data.sources import SOURCES; import test_make\n"
        f"SOURCES['slow'] = test_make.Slow; make({spec!r}, {str(out)!r}, workers=2, shard=10)"
    )
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    progress = out / "progress.jsonl"
    while not progress.exists() or len(progress.read_text().splitlines()) < 3:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = [json.loads(line)["file"] for line in progress.read_text().splitlines()[1:]]
    assert 2 <= len(whole) < 12
    assert not (out / "manifest.json").exists()
    made = {name: (out / name).stat().st_mtime_ns for name in whole}
    with open(progress, "a") as file:  # and torn in the middle of a line
        file.write('{"shard": 11, "exa')
    again = make(spec, out, workers=2, shard=10)
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == made
    assert again == make(spec, tmp_path / "at_once", workers=1, shard=10)
    assert contents(out) == contents(tmp_path / "at_once")
    assert make(spec, out, workers=1) == again  # and a third time there is nothing to do


def test_a_record_that_kills_its_reader_is_left_out_and_named(tmp_path):
    manifest = make({"name": "deadly", "n": 12, "seconds": 0}, tmp_path / "out", workers=2, shard=6)
    assert manifest["counts"] == {"train": 10}
    assert manifest["splits"]["train"]["broken_records"] == {
        "#7": "ended the process that read it (SIGSEGV)",
        "#9": "ValueError: nine is odd",
    }
    assert [record["label"] for record in Tfds(path=str(tmp_path / "out"))] == [0, 1, 2, 3, 4, 5, 6, 8, 10, 11]


def test_every_kind_of_field(tmp_path):
    manifest = make({"name": "all"}, tmp_path, workers=1, split="test")
    assert manifest["schema"]["audio"] == {"samples": {"dtype": "float32", "shape": [None]}, "rate": "int"}
    assert manifest["schema"]["present"] == {"image": "bool"}
    records = list(Tfds(path=str(tmp_path), split="test"))
    for i, record in enumerate(records):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(record["image"]))), All()[i]["image"])
        assert [text.decode() if isinstance(text, bytes) else text for text in record["texts"]] == All()[i]["texts"]
        assert record["audio"]["samples"].tolist() == list(range(i + 1))
        assert record["audio"]["rate"] == 8000
        assert record["group"] == i + 7
        assert bool(record["present"]["image"]) == (i != 1)


def test_a_record_that_does_not_fit_the_schema():
    schema = schema_of({"id": "a", "image": b"png", "text": "t", "label": 3, "present": {"image": True}})
    present = {"id": "b", "text": "t", "present": {"image": False}}
    assert fit(present, schema) == {**present, "image": b"", "label": -1}
    for record, says in [
        ({**present, "question": "?"}, "has a field 'question'"),
        ({**present, "present": {"image": True}}, "lacks the field 'image'"),
        ({**present, "text": 3}, "field 'text' is int, not text"),
        ({**present, "image": b""}, "field 'image' is empty"),
    ]:
        with pytest.raises(ValueError, match=says):
            fit(record, schema)


def test_a_video_that_is_named_by_its_path_is_kept_whole(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"frames")
    record = {"video": str(tmp_path / "a.mp4")}
    assert fit(record, schema_of(record)) == {"video": b"frames"}


def test_a_tokenizer_is_trained_on_the_captions_and_another_split_joins(tmp_path):
    out, captions = tmp_path / "out", ["A red cat", "a red dog", "红色的猫", "红色的狗"]
    for split, texts in {"train": captions, "val": ["unseen 鸟", "red 猫"]}.items():
        rows = [json.dumps({"image": f"{i}.png", "caption": text}, ensure_ascii=False) for i, text in enumerate(texts)]
        (tmp_path / f"{split}.json").write_text(f"[{', '.join(rows)}]")
    for i in range(4):
        Image.new("RGB", (6, 6), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    train, val = ({"name": "json", "path": str(tmp_path / f"{split}.json")} for split in ("train", "val"))
    make(train, out, workers=1)
    manifest = make(train, out, workers=1, tokenizer=("wordpiece", 60))  # to shards that are there
    tokenise = Tokenise(str(out), length=9)
    note, tokens = manifest["tokenizer"], load_tokenizer(str(out / "tokenizer.json"))
    assert note == {"kind": "wordpiece", "vocabulary": 60, "tokens": tokens.get_vocab_size(), "split": "train"}
    assert [tokens.id_to_token(i) for i in range(5)] == ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]"]
    for text, pieces in {"A RED cat": ["a", "red", "cat"], "红色的猫": ["红", "色", "的", "猫"], "鸟": ["[UNK]"]}.items():
        ids = [2, *map(tokens.token_to_id, pieces), 3]
        assert tokenise({"text": text}, np.random.default_rng(0))["text"].tolist() == ids + [0] * (9 - len(ids))
    before = (out / "tokenizer.json").stat().st_mtime_ns
    both = make(val, out, workers=1, split="val", tokenizer=("wordpiece", 60))
    assert both["counts"] == {"train": 4, "val": 2}
    assert both["splits"]["train"] == manifest["splits"]["train"]
    assert make(train, out, tokenizer=("wordpiece", 60)) == both
    assert (out / "tokenizer.json").stat().st_mtime_ns == before
    assert [record["text"] for record in Tfds(path=str(out), split="val")] == ["unseen 鸟", "red 猫"]
    assert [record["text"] for record in Tfds(path=str(out))] == captions
    with pytest.raises(UserError, match="vocabulary of 60, and this call asks for 'words' and 60: remove it"):
        make(train, out, tokenizer=("words", 60))
    (out / "tokenizer.json").unlink()
    assert make(train, out, tokenizer=("words", 60))["tokenizer"]["kind"] == "words"
    for asked, says in [
        (("letters", 60), "kind 'letters' is none of"),
        (("bpe", 100), "too small for kind 'bpe': at least 261"),
    ]:
        with pytest.raises(UserError, match=says):
            make(train, tmp_path / "other", tokenizer=asked)
    with pytest.raises(UserError, match="the records have no text, only id, image"):
        make({"name": "mute", "n": 2}, tmp_path / "other", workers=1, tokenizer=("words", 60))
    assert not (tmp_path / "other").exists()


def test_another_folder_or_another_source_is_refused(folder, tmp_path):
    spec, out = {"name": "pairs_folder", "path": str(folder)}, tmp_path / "out"
    with pytest.raises(UserError, match="holds something else"):
        make(spec, folder)
    make(spec, out, workers=1)
    with pytest.raises(UserError, match="was made with source"):
        make({**spec, "encoding": "latin-1"}, out)
    Image.new("RGB", (5, 5)).save(folder / "8.png")
    (folder / "8.txt").write_text("one more")
    with pytest.raises(UserError, match="was made with records 7, and this call has 8"):
        make(spec, out)
    with pytest.raises(UserError, match="written to a disk"):
        make(spec, "gs://bucket/out")


def test_nothing_to_read_is_an_error(folder, tmp_path):
    for path in folder.glob("*.txt"):
        path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(UserError, match="none of the first 7 records can be read; the last: #6"):
        make({"name": "pairs_folder", "path": str(folder)}, tmp_path / "out", workers=1)
