"""`data check` over small folders whose faults are known."""

import io
import os
import shutil
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.data.inspect import check, even, quantity
from mmjax.data.sources import SOURCES
from mmjax.report.dataset import render


class Deadly:
    """Record 3 kills whoever reads it."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        if i == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        return {"text": f"caption {i}", "id": f"deadly-{i}"}


class Several:
    """Two records with the same id, of several captions."""

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return {"texts": ["one of two", f"caption {i}", "said by all"], "id": "same"}


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    for name, row in {"deadly": Deadly, "several": Several}.items():
        monkeypatch.setitem(SOURCES, name, row)


def drawing(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((60 + seed, 60), Image.Resampling.BICUBIC)


def write(folder: Path, name: str, picture: Image.Image | bytes, caption: str) -> None:
    folder.mkdir(exist_ok=True)
    if isinstance(picture, bytes):
        (folder / f"{name}.png").write_bytes(picture)
    else:
        picture.save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(caption, encoding="utf-8")


@pytest.fixture
def train(tmp_path) -> Path:
    """Six drawings, a copy of the first, the second at another size, one cut off, one grey, one without a caption's letters."""
    folder = tmp_path / "train"
    for i in range(6):
        write(folder, f"{i}", drawing(i), f"a drawing number {i}" if i != 5 else "红狐")
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "copy.txt").write_text("a drawing number 0")
    write(folder, "scaled", drawing(1).resize((90, 88), Image.Resampling.BICUBIC), "the second again")
    write(folder, "torn", (folder / "2.png").read_bytes()[:200], "torn")
    write(folder, "wide", Image.new("L", (200, 50), 128), "cafÃ©")
    return folder


@pytest.fixture
def held(train, tmp_path) -> Path:
    """Four drawings: one of training's, one that looks like one of its, one with a caption of its, and one that is new."""
    folder = tmp_path / "test"
    write(folder, "a", drawing(3), "new words")
    write(folder, "b", drawing(4).resize((100, 94), Image.Resampling.BICUBIC), "other words")
    write(folder, "c", drawing(11), "a drawing number 2")
    write(folder, "d", drawing(12), "nothing of it")
    shutil.copy(train / "3.png", folder / "a.png")
    return folder


def test_what_is_found_in_two_splits(train, held):
    specs = {name: {"name": "pairs_folder", "path": str(path)} for name, path in {"train": train, "test": held}.items()}
    found = check(specs, workers=1, shown=4)
    facts = found.facts["splits"]["train"]
    assert (facts["records"], facts["checked"]) == (10, 10)
    assert facts["formats"] == {"PNG": 10}
    assert facts["modes"] == {"RGB": 9, "L": 1}
    assert facts["scripts"] == {"Latin": 9, "Han": 1}
    pictures = facts["pictures"]
    assert pictures["count"] == 9
    assert facts["equal"] == {"contents": 1, "copies": 1, "records": [["0.png", "copy.png"]]}
    assert pictures["near"] == 2  # the second drawing and its other size
    assert pictures["flat"] == 1
    assert pictures["aspect"]["quantiles"]["max"] == 4.0
    assert (pictures["width"]["quantiles"]["min"], pictures["width"]["quantiles"]["max"]) == (60, 200)
    assert facts["captions"]["distinct"] == 9
    assert facts["captions"]["most"] == [["a drawing number 0", 2]]
    assert facts["captions"]["words"]["quantiles"]["median"] == 4
    kinds = {trouble["kind"]: [key for key, _ in trouble["records"]] for trouble in facts["broken"]}
    assert kinds.pop("caption: UTF-8 that was read as Latin-1") == ["wide.png"]
    ((kind, keys),) = kinds.items()
    assert kind.startswith("image: ")
    assert keys == ["torn.png"]
    assert facts["broken_records"] == 2

    (leak,) = found.facts["leaks"]
    assert (leak["from"], leak["in"], leak["records"]) == ("train", "test", 4)
    assert (leak["equal"], leak["near"], leak["captions"]) == (1, 1, 1)
    assert leak["examples"] == {"equal": ["a.png"], "near": ["b.png"], "captions": ["c.png"]}

    assert found.facts["bytes_kept"] == 14 * (48 + 24)
    assert [card["id"] for card in found.cards["train"]] == ["0.png", "3.png", "copy.png", "wide.png"]
    ((a, b, bits),) = found.pairs["train"]
    assert {a["id"], b["id"]} == {"1.png", "scaled.png"}
    assert 0 <= bits <= 4
    assert found.pairs["test"] == []


def test_a_sample_is_the_same_each_time():
    splits = {"all": {"name": "synthetic", "n": 50}}
    one, two = (check(splits, sample=8, workers=1, shown=8) for _ in range(2))
    assert one.facts["checked"] == 8
    assert one.facts["records"] == 50
    assert [card["id"] for card in one.cards["all"]] == [card["id"] for card in two.cards["all"]]
    assert len({card["id"] for card in one.cards["all"]}) == 8


def test_a_record_that_kills_its_reader_is_named():
    facts = check({"all": {"name": "deadly"}}, workers=1).facts["splits"]["all"]
    assert facts["checked"] == 6
    (trouble,) = facts["broken"]
    assert "SIGSEGV" in trouble["kind"]
    assert [key for key, _ in trouble["records"]] == ["#3"]


def test_what_a_source_leaves_out_is_trouble(tmp_path):
    picture = io.BytesIO()
    drawing(1).save(picture, "png")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in {"a.png": picture.getvalue(), "a.txt": b"a square", "b.png": b"1", "../c.png": b"2"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    spec = {"name": "webdataset", "path": str(tmp_path / "x.tar")}
    found = check({"all": spec}, workers=1)
    facts = found.facts["splits"]["all"]
    assert (facts["records"], facts["checked"], facts["broken_records"]) == (1, 1, 2)
    named = {trouble["kind"]: (trouble["count"], trouble["records"][0][0]) for trouble in facts["broken"]}
    assert named == {"left out: without text": (1, "x.tar: b.png"), "left out: unsafe name": (1, "x.tar: ../c.png")}
    assert "left out: unsafe name" in render(found.facts, found.cards, found.pairs, "x")


def test_several_captions_and_repeated_ids():
    facts = check({"all": {"name": "several"}}, workers=1).facts["splits"]["all"]
    assert facts["ids"] == {"repeated": 1, "records": ["same"]}
    assert (facts["captions"]["count"], facts["captions"]["distinct"]) == (6, 4)
    assert sorted(facts["captions"]["most"]) == [["one of two", 2], ["said by all", 2]]
    assert facts["pictures"] is None


def test_bad_input():
    with pytest.raises(UserError, match="Did you mean 'synthetic'"):
        check({"all": {"name": "sinthetic"}})
    with pytest.raises(UserError, match="train holds no record"):
        check({"train": {"name": "synthetic", "n": 0}})


def test_quantities_of_whole_and_other_numbers():
    words = quantity(np.array([1.0, 2, 2, 3, 3, 3, 90]))
    assert words["quantiles"] == {"min": 1, "1 %": 1, "25 %": 2, "median": 3, "75 %": 3, "99 %": 90, "max": 90}
    assert words["edges"][:3] == [1, 4, 7]  # three whole numbers a bar
    assert words["counts"][0] == 6
    assert sum(words["counts"]) + words["beyond"] == 7
    tail = quantity(np.r_[np.full(199, 2.0), 50.0])
    assert (tail["edges"], tail["counts"], tail["beyond"]) == ([2, 3], [199], 1)
    aspect = quantity(np.array([0.5, 1.0, 1.5, 1.5]))
    assert len(aspect["counts"]) == 30
    assert (aspect["counts"][0], aspect["counts"][-1], aspect["beyond"]) == (1, 2, 0)
    same = quantity(np.full(4, 1.5))
    assert sum(same["counts"]) == 4


def test_even_steps():
    assert even(10, 4) == [0, 3, 6, 9]
    assert even(3, 36) == [0, 1, 2]
    assert even(5, 1) == [0]
