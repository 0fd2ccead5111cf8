import json
import pickle

import pytest

from mmjax.core.errors import UserError
from mmjax.data.sources import files
from mmjax.data.sources.folders import ClassFolder, PairsFolder
from mmjax.data.sources.source import group_of


def write(folder, contents):
    """Files by name."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def test_pairs_of_pictures_and_texts(tmp_path):
    write(
        tmp_path,
        {
            "b.JPG": b"1",
            "b.txt": "\ufeff a bird é \n",
            "a/c.png": b"2",
            "a/c.json": json.dumps({"url": "x", "caption": ["p", "q"]}),
        },
    )
    write(
        tmp_path,
        {"both.jpg": b"3", "both.txt": "text", "both.json": '{"caption": "json"}', ".DS_Store": "", "notes.md": "no picture"},
    )
    write(tmp_path, {".hidden.jpg": b"4", "__MACOSX/b.jpg": b"5"})
    source = PairsFolder(str(tmp_path))
    assert list(source) == [
        {"id": "a/c.png", "image": b"2", "texts": ["p", "q"], "group": group_of("a/c.png")},
        {"id": "b.JPG", "image": b"1", "text": "a bird é"},
        {"id": "both.jpg", "image": b"3", "text": "text"},
    ]
    assert list(pickle.loads(pickle.dumps(source))) == list(source)


def test_a_bad_pair_breaks_its_record_alone(tmp_path):
    write(
        tmp_path,
        {
            "a.jpg": b"1",
            "a.txt": "",
            "b.jpg": b"1",
            "b.txt": b"\xe9",
            "c.jpg": b"",
            "c.txt": "x",
            "d.jpg": b"1",
            "e.jpg": b"1",
            "e.json": "[" * 100_000,
        },
    )
    write(
        tmp_path,
        {
            "f.jpg": b"1",
            "f.json": '{"a": 1}',
            "g.jpg": b"1",
            "g.json": "no json",
            "h.jpg": b"1",
            "h.txt": "x" * 100_000,
            "i.jpg": b"1",
            "i.txt": "\0",
        },
    )
    source = PairsFolder(str(tmp_path))
    reasons = [
        "a.txt: the text is empty",
        "b.txt: .*can't decode byte 0xe9 in position 0",
        "c.jpg is empty",
        "d.jpg has no .txt or .json beside it",
        "e.json: (nested too deeply|.*recursion)",
        "f.json: one key should be the text; there are: 'a'",
        "g.json: Expecting value",
    ]
    for i, reason in enumerate(reasons):
        with pytest.raises(ValueError, match=reason):
            source[i]
    assert source[7]["text"] == "x" * 100_000
    with pytest.raises(ValueError, match=r"i.txt: .*NUL"):
        source[8]
    assert PairsFolder(str(tmp_path), encoding="cp1252")[1]["text"] == "é"
    with pytest.raises(ValueError, match="limit of 0 bytes"):
        PairsFolder(str(tmp_path), max_bytes=0)[7]


def test_the_key_of_a_text_can_be_named(tmp_path):
    write(tmp_path, {"a.jpg": b"1", "a.json": '{"caption": "x", "title": "y"}'})
    with pytest.raises(ValueError, match="say text="):
        PairsFolder(str(tmp_path))[0]
    assert PairsFolder(str(tmp_path), text="title")[0]["text"] == "y"


def test_a_folder_without_pairs(tmp_path):
    write(tmp_path, {"a.jpg": b"1", "b.txt": "x"})
    with pytest.raises(UserError, match=r"holds 1 pictures, none with a .txt"):
        PairsFolder(str(tmp_path))
    with pytest.raises(UserError, match="there is no"):
        PairsFolder(str(tmp_path / "nope"))


def test_a_folder_a_class(tmp_path):
    write(tmp_path, {"cat/1.jpg": b"1", "cat/deep/2.png": b"2", "dog/1.jpg": b"3", "top.jpg": b"4", "readme/x.txt": "x"})
    source = ClassFolder(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert list(source) == [
        {"id": "cat/1.jpg", "image": b"1", "label": 0, "group": 0},
        {"id": "cat/deep/2.png", "image": b"2", "label": 0, "group": 0},
        {"id": "dog/1.jpg", "image": b"3", "label": 1, "group": 1},
    ]
    assert [record["label"] for record in ClassFolder(str(tmp_path), classes=["dog", "eel", "cat"])] == [2, 2, 0]
    with pytest.raises(UserError, match=r"dog is none of the 1 classes"):
        ClassFolder(str(tmp_path), classes=["cat"])
    with pytest.raises(UserError, match="no folders with pictures"):
        ClassFolder(str(tmp_path / "readme"))


def test_links_that_go_in_circles_end(tmp_path):
    write(tmp_path, {"cat/1.jpg": b"1", "dog/1.jpg": b"1"})
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "dog")
    assert sorted(files.walk(str(tmp_path))) == ["cat/1.jpg", "dog/1.jpg", "set/dog/1.jpg"]
    assert ClassFolder(str(tmp_path / "set")).classes == ("dog",)


def test_strings_are_a_list_of_strings():
    names = ["a", "", "é/鸟", "x" * 1000, "b\udcff"]
    packed = pickle.loads(pickle.dumps(files.Strings(names)))
    assert list(packed) == names
    assert len(files.Strings([])) == 0
