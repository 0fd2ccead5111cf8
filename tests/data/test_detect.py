import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmjax.core.errors import UserError
from mmjax.data.sources import index
from mmjax.data.sources.detect import detect, found


def write(folder, *names, content=b"x"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.csv", "csv"), ("a.TSV", "csv"), ("a.parquet", "parquet"), ("a.tar", "webdataset"), ("a.array_record", "arrayrecord")],
)
def test_files_by_their_suffix(tmp_path, file, name):
    write(tmp_path, file)
    assert detect(str(tmp_path / file)) == {"name": name, "path": str(tmp_path / file)}


@pytest.mark.parametrize(
    ("path", "name"),
    [("gs://bucket/{00000..41455}.tar", "webdataset"), ("/data/train-*.parquet", "parquet"), ("/data/{a,b}.tar", "webdataset")],
)
def test_patterns_and_ranges_are_not_opened(path, name):
    assert detect(path) == {"name": name, "path": path}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ([{"image": "a.jpg", "caption": "x"}], "json"),
        ({"images": [{"filename": "a", "sentences": []}] * 200, "dataset": "coco"}, "karpathy"),
        ({"info": {}, "questions": []}, "vqa"),
    ],
)
def test_json_by_what_is_in_it(tmp_path, monkeypatch, content, name):
    monkeypatch.setattr(index, "CHUNK", 64)
    (tmp_path / "a.json").write_text(json.dumps(content))
    spec, why = found(str(tmp_path / "a.json"))
    assert spec["name"] == name
    assert "a.json" in why


def test_json_lines(tmp_path):
    write(tmp_path, "a.jsonl", "b.json", content=b'{"image": "x", "caption": "y"}\n{"image": "x", "caption": "y"}')
    assert [detect(str(tmp_path / name))["name"] for name in ("a.jsonl", "b.json")] == ["json", "json"]


def test_vqa_answers_beside_their_questions(tmp_path):
    questions, answers = "v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json"
    write(tmp_path, questions, content=b'{"questions": []}')
    assert "annotations" not in detect(str(tmp_path / questions))
    write(tmp_path, answers, content=b'{"annotations": []}')
    assert detect(str(tmp_path / questions))["annotations"] == str(tmp_path / answers)
    with pytest.raises(UserError, match="annotations alone"):
        detect(str(tmp_path / answers))


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["0.tar", "1.tar", "index.json"], "webdataset"),
        (["0.parquet", "README.md"], "parquet"),
        (["0.array_record"], "arrayrecord"),
        (["a.jpg", "a.txt", "captions.csv"], "pairs_folder"),
        (["x/a.jpg", "x/a.json", "y/b.jpg"], "pairs_folder"),
        (["cat/a.jpg", "dog/b.png"], "class_folder"),
        (["a.wav", "b.flac", "a.txt"], "audio_folder"),
        (["a.mp4", "b.webm", "captions.csv"], "video_folder"),
    ],
)
def test_folders_by_their_files(tmp_path, names, name):
    write(tmp_path, *names)
    spec, why = found(str(tmp_path))
    assert spec == {"name": name, "path": str(tmp_path)}
    assert str(tmp_path) in why


def test_the_one_table_of_a_folder(tmp_path):
    write(tmp_path, "img/a.jpg", "captions.csv")
    assert detect(str(tmp_path)) == {"name": "csv", "path": str(tmp_path / "captions.csv")}
    write(tmp_path, "more.tsv")
    with pytest.raises(UserError, match=r"holds captions.csv, more.tsv: say which"):
        detect(str(tmp_path))


def test_tfds_folders_and_prepared_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path))
    write(tmp_path, "mine/1.9.0/dataset_info.json", "mine/1.10.0/dataset_info.json")
    newest = {"name": "tfds", "path": str(tmp_path / "mine" / "1.10.0")}
    assert detect(str(tmp_path / "mine")) == detect(str(tmp_path / "mine" / "1.10.0")) == newest
    monkeypatch.chdir(tmp_path.parent)
    assert detect("mine") == {"name": "tfds", "dataset": "mine"}


def test_splits_are_not_mixed(tmp_path):
    table = pa.table({"image": [b"x"], "text": ["x"]})
    (tmp_path / "data").mkdir()
    for name in ("train-0", "train-1", "test-0"):
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet")
    with pytest.raises(UserError, match=r"several splits \(test, train\): name one, such as '(.*)'") as error:
        detect(str(tmp_path))
    pattern = str(error.value).split("'")[1]
    assert pattern == str(tmp_path / "data" / "*test*.parquet")
    assert detect(pattern)["name"] == "parquet"
    write(tmp_path / "b", "train/cat/1.jpg", "val/cat/2.jpg")
    with pytest.raises(UserError, match=r"name one, such as .*/b/"):
        detect(str(tmp_path / "b"))
    write(tmp_path / "c", "x/0.tar", "y/0.tar")
    with pytest.raises(UserError, match=r"holds .tar files in 'x', 'y'"):
        detect(str(tmp_path / "c"))


@pytest.mark.parametrize("names", [["a.jpg", "b.jpg"], ["a.xyz"], []])
def test_what_is_nothing_lists_the_kinds(tmp_path, names):
    write(tmp_path, *names)
    with pytest.raises(UserError, match=r"(?s)A source is .*csv.*parquet.*tfds") as error:
        detect(str(tmp_path))
    assert str(error.value).count("\n") < 3


def test_a_path_that_is_not_there(tmp_path):
    for path in ("nope", str(tmp_path / "nope.csv"), "memory://nope/a.csv"):
        with pytest.raises(UserError, match="there is no"):
            detect(path)
    write(tmp_path, "a.docx")
    with pytest.raises(UserError, match=r"a .docx file says nothing"):
        detect(str(tmp_path / "a.docx"))
