"""Tar shards as a source: their index, in a bucket too, and what is read by it."""

# ruff: noqa: F811  a fixture of another file

import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from test_tar import BLOCK, folder, pairs, png, tar_of  # noqa: F401

from mmjax.core.errors import UserError
from mmjax.data.sources import tar_index, tar_members
from mmjax.data.sources.folders import PairsFolder
from mmjax.data.sources.tar import WebDataset


@pytest.fixture
def scans(monkeypatch):
    """The sizes of the shards that are read for an index."""
    sizes, scan = [], tar_index.scan
    monkeypatch.setattr(tar_index, "scan", lambda read, size: sizes.append(size) or scan(read, size))
    return sizes


def test_an_index_is_made_once_and_mended(folder, scans):
    before = list(WebDataset(folder))
    assert len(scans) == 2
    assert list(WebDataset(folder)) == before
    assert len(scans) == 2
    (folder / "00000.tar").write_bytes(tar_of(*pairs(7, 1)))  # changed
    (folder / "00002.tar").write_bytes(tar_of(*pairs(20, 1)))  # new
    assert [r["text"] for r in WebDataset(folder)] == [f"caption {i}" for i in (7, 10, 11, 12, 20)]
    assert len(scans) == 4
    (folder / "00001.tar").unlink()
    assert [r["text"] for r in WebDataset(folder)] == ["caption 7", "caption 20"]
    assert len(scans) == 4
    moved = folder.rename(folder.with_name("moved"))
    assert [r["text"] for r in WebDataset(moved)] == ["caption 7", "caption 20"]
    assert len(scans) == 4
    os.utime(moved / "00002.tar", ns=(0, 0))
    WebDataset(moved)
    assert len(scans) == 5


def test_a_damaged_index_is_made_anew(folder, scans):
    WebDataset(folder)
    (index,) = folder.glob("*.index")
    content = index.read_bytes()
    # Two shards of three samples of two members.
    assert len(content) < 500
    for damaged in (content[:-1], content[:40], b"", b"x" + content[1:], content.replace(b'"files"', b'"tiles"')):
        index.write_bytes(damaged)
        assert len(WebDataset(folder)) == 6
        assert index.read_bytes() == content


def test_an_index_takes_10_bytes_a_member_and_4_a_sample(tmp_path):
    for n in (10, 110):
        (tmp_path / f"{n}.tar").write_bytes(tar_of(*pairs(0, n)))
        WebDataset(tmp_path / f"{n}.tar", index=str(tmp_path / str(n)))
    few, many = (next((tmp_path / n).iterdir()).stat().st_size for n in ("10", "110"))
    assert abs(many - few - 100 * 24) < 8  # but for the length of a number


def test_an_index_goes_where_it_can(folder, tmp_path, monkeypatch, scans):
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(tar_members.os, "access", lambda *_: False)
    monkeypatch.setattr(tar_members, "_share", lambda *_: None)  # what a folder that cannot be written comes to
    assert len(WebDataset(folder)) == len(WebDataset(folder)) == 6
    assert len(scans) == 2
    assert [path.parent for path in tmp_path.rglob("*.index")] == [tmp_path / "data" / "index"]
    monkeypatch.undo()
    WebDataset(folder, index=str(tmp_path / "there"))
    assert len(list((tmp_path / "there").glob("*.index"))) == 1
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot read the shards or write"):
        WebDataset(folder, index=str(tmp_path / "file"))


def test_what_was_read_before_a_failure_is_not_read_again(folder, scans):
    (folder / "00002.tar").write_bytes(b"\x1f\x8b")
    for _ in range(2):
        with pytest.raises(UserError, match="gzip"):
            WebDataset(folder)
    assert sorted(scans) == [2, 2, 10240, 10240]


@pytest.fixture
def bucket(folder, monkeypatch, tmp_path):
    """The two shards in fsspec's memory, and the ranges that are read there."""
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "data"))
    system, ranges = fsspec.filesystem("memory"), []
    system.store.clear()
    for path in folder.glob("*.tar"):
        system.pipe(f"/set/{path.name}", path.read_bytes())
    cat = type(system).cat_file

    def noted(self, path, start=None, end=None, **keywords):
        ranges.append((path, start, end))
        return cat(self, path, start=start, end=end, **keywords)

    monkeypatch.setattr(type(system), "cat_file", noted)
    yield ranges
    system.store.clear()


def test_a_bucket_holds_the_same_records(folder, bucket, scans, tmp_path):
    expected = list(WebDataset(folder))
    for path in ("memory://set", "memory://set/*.tar", "memory://set/{00000..00001}.tar"):
        assert list(WebDataset(path)) == expected
    with pytest.raises(UserError, match="1 of 3 shards are not there"):
        WebDataset("memory://set/{00000..00002}.tar")
    source = WebDataset("memory://set")
    bucket.clear()
    assert source[4] == expected[4]
    assert bucket == [("/set/00001.tar", 4 * BLOCK, 7 * BLOCK + len("caption 11\n"))]  # both members at once


def test_a_buckets_index_is_shared(bucket, scans, monkeypatch, tmp_path):
    WebDataset("memory://set")
    assert len(scans) == 2
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "another machine"))
    assert len(WebDataset("memory://set")) == 6
    assert len(scans) == 2
    fsspec.filesystem("memory").pipe("/set/00001.tar", tar_of(*pairs(5, 1)))  # the same size at another time
    assert [r["text"] for r in WebDataset("memory://set")][3:] == ["caption 5"]
    assert len(scans) == 3


def test_a_bucket_that_nobody_may_write_to_does(bucket, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("403")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", refuse)
    assert len(WebDataset("memory://set")) == 6


def test_distant_members_are_read_one_by_one(folder, bucket):
    content = tar_of(("0.jpg", b"P"), ("1.jpg", b"x" * 100_000), ("0.txt", b"zero"), ("1.txt", b"one"))
    fsspec.filesystem("memory").pipe("/set/00000.tar", content)
    source = WebDataset("memory://set/00000.tar")
    bucket.clear()
    assert (source[0]["text"], len(bucket)) == ("zero", 2)
    assert (source[1]["text"], len(bucket)) == ("one", 3)


def test_a_window_reads_ahead():
    asked = []
    content = bytes(range(100))

    def fetch(start, end):
        asked.append((start, end))
        return content[start:end]

    window = tar_index.Window(fetch, 100, 10)
    assert window(0, 4) == content[:4]
    assert window(6, 10) == content[6:10]
    assert window(8, 12) == content[8:12]
    assert window(95, 105) == content[95:]
    assert window(200, 300) == b""
    assert asked == [(0, 10), (8, 18), (95, 100)]


def test_threads_and_pickles_read_the_same(folder, monkeypatch):
    monkeypatch.setattr(tar_members, "HANDLES", 1)  # so that files are closed while others read
    source = WebDataset(folder)
    expected = list(source)
    copy = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 2000
    with ThreadPoolExecutor(8) as pool:
        order = np.random.default_rng(0).integers(0, 6, 2000).tolist()
        assert list(pool.map(source.__getitem__, order)) == [expected[i] for i in order]
    assert list(copy) == expected


def test_a_pickle_of_an_index_that_was_replaced_is_refused(folder):
    data = pickle.dumps(WebDataset(folder))
    (folder / "00000.tar").write_bytes(tar_of(*pairs(7, 1)))
    WebDataset(folder)
    with pytest.raises(UserError, match="start this run again"):
        pickle.loads(data)


def test_files_are_closed(folder):
    def count():
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    before = count()
    for _ in range(5):
        assert WebDataset(folder)[0]
    assert count() <= before + 2


def test_a_shard_that_changes_while_it_is_read_is_broken_not_wrong(folder):
    source = WebDataset(folder)
    (folder / "00000.tar").write_bytes(tar_of(*pairs(0, 1)))
    (folder / "00001.tar").write_bytes(tar_of(*(pair for i in range(3) for pair in list(pairs(10 + i, 1))[::-1])))
    assert source[0]["text"] == "caption 0"
    for i in (1, 3):
        with pytest.raises(ValueError, match="has changed since it was indexed"):
            source[i]


def test_the_records_are_those_of_the_folder_that_was_packed(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i, colour in enumerate(("red", "green", "blue")):
        (pictures / f"{colour}.png").write_bytes(png(colour))
        (pictures / f"{colour}.txt").write_text(f"number {i}\n")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for path in sorted(pictures.iterdir()):
            tar.add(path, path.name)
    records = list(PairsFolder(str(pictures)))
    assert list(WebDataset(tmp_path / "x.tar")) == records
    assert [(r["id"], r["text"]) for r in records] == [
        ("blue.png", "number 2"),
        ("green.png", "number 1"),
        ("red.png", "number 0"),
    ]


def test_a_hostile_json_is_one_broken_record(tmp_path):
    members = [("0.jpg", b"P"), ("0.json", b'{"caption":' + b"[" * 100_000), ("1.jpg", b"P"), ("1.json", b'{"caption": "one"}')]
    (tmp_path / "x.tar").write_bytes(tar_of(*members))
    source = WebDataset(tmp_path)
    with pytest.raises(ValueError, match=r"0\.jpg: text: "):
        source[0]
    assert source[1]["text"] == "one"


def test_labels_are_whole_numbers(tmp_path):
    members = [("0.jpg", b"P"), ("0.cls", b"1.5"), ("1.jpg", b"P"), ("1.cls", b" 7\n"), ("2.jpg", b"P"), ("3.jpg", b"")]
    (tmp_path / "x.tar").write_bytes(tar_of(*members))
    source = WebDataset(tmp_path)
    with pytest.raises(ValueError, match=r"0\.jpg: label: '1\.5' is no whole number"):
        source[0]
    assert (source[1]["label"], "label" in source[2]) == (7, False)
    with pytest.raises(ValueError, match=r"3\.jpg: image: empty"):
        source[3]


def test_a_cache_keeps_pixels(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of(("0.png", png("red"))))
    source = WebDataset(tmp_path, cache=True)
    np.testing.assert_array_equal(np.asarray(source[0]["image"]), np.broadcast_to([255, 0, 0], (4, 4, 3)))
    assert source[0] is source[0]
    assert pickle.loads(pickle.dumps(source))[0] is not source[0]
    with pytest.raises(IndexError):
        source[1]
