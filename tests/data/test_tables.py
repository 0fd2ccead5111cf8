import csv
import io
import json
import os
import pickle
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmjax.core.errors import UserError
from mmjax.data.sources import files, index, parquet
from mmjax.data.sources.parquet import Parquet
from mmjax.data.sources.prepared import ArrayRecord
from mmjax.data.sources.source import group_of
from mmjax.data.sources.tables import Csv, Json

CAPTIONS = ["a cat", 'she said "no", twice', "two\nlines", "鸟 на é"]


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2), (shade, 0, 0)).save(file, "png")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Four pictures in img/ and nothing else."""
    (tmp_path / "img").mkdir()
    for i in range(4):
        (tmp_path / "img" / f"{i}.png").write_bytes(png(i))
    return tmp_path


def write_csv(path, rows, encoding="utf-8", **how):
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file, **how).writerows(rows)
    return str(path)


def rows_of(captions=CAPTIONS):
    return [{"n": f"r{i}", "image": f"img/{i}.png", "caption": text, "class": i * 2} for i, text in enumerate(captions)]


def write_array_record(path, rows, root):
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for row in rows:
        example = tf_example_pb2.Example()
        feature = example.features.feature
        feature["image"].bytes_list.value.append((root / row["image"]).read_bytes())
        for name in ("n", "caption"):
            feature[name].bytes_list.value.append(row[name].encode())
        feature["class"].int64_list.value.append(row["class"])
        writer.write(example.SerializeToString())
    writer.close()


def sources_of_the_same(folder):
    """The same records in each format."""
    rows, names = rows_of(), ["n", "image", "caption", "class"]
    lists = [names, *([row[name] for name in names] for row in rows)]
    write_csv(folder / "a.csv", lists)
    write_csv(folder / "a.tsv", lists, delimiter="\t")
    (folder / "a.json").write_text(json.dumps(rows, indent=1))
    (folder / "a.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    content = {name: [row[name] for row in rows] for name in names}
    pq.write_table(pa.table(content), folder / "names.parquet")
    held = [(folder / name).read_bytes() for name in content["image"]]
    pq.write_table(pa.table({**content, "image": held}), folder / "bytes.parquet", row_group_size=3)
    hugging_face = [{"bytes": held[0], "path": "gone.png"}, *({"bytes": None, "path": name} for name in content["image"][1:])]
    pq.write_table(pa.table({**content, "image": hugging_face}), folder / "struct.parquet")
    write_array_record(folder / "a.array_record", rows, folder)
    for kind, suffixes in {Csv: ("csv", "tsv"), Json: ("json", "jsonl"), ArrayRecord: ("array_record",)}.items():
        for suffix in suffixes:
            yield kind(str(folder / f"a.{suffix}"), id="n", label="class")
    for name in ("names", "bytes", "struct"):
        yield Parquet(str(folder / f"{name}.parquet"), id="n", label="class")


def test_all_formats_hold_the_same_records(folder):
    expected = [{"id": f"r{i}", "image": png(i), "text": text, "label": i * 2} for i, text in enumerate(CAPTIONS)]
    for source in sources_of_the_same(folder):
        assert len(source) == 4
        assert list(source) == expected
        assert list(pickle.loads(pickle.dumps(source))) == expected


def test_several_threads_read_what_one_reads(folder):
    for source in sources_of_the_same(folder):
        expected, wrong = list(source), []

        def read(source=source, expected=expected, wrong=wrong):
            wrong += [i for i in [3, 0, 2, 1] * 20 if source[i] != expected[i]]

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_columns_are_found_by_name_or_asked_for(folder):
    path = write_csv(folder / "a.csv", [["Filepath", "TITLE"], ["img/1.png", "x"]])
    assert Csv(path)[0] == {"id": "img/1.png#0", "image": png(1), "text": "x"}
    both = write_csv(folder / "b.csv", [["image", "title", "caption"], ["img/1.png", "x", "y"]])
    assert Csv(both, text="caption")[0]["text"] == "y"
    with pytest.raises(UserError, match=r"'title', 'caption' could each be the text: say which by text='COLUMN'"):
        Csv(both)
    with pytest.raises(
        UserError, match=r"no column 'captoin' \(text=\); it has: 'image', 'title', 'caption'. Did you mean 'caption'"
    ):
        Csv(both, text="captoin")
    with pytest.raises(UserError, match="which column is the image"):
        Csv(write_csv(folder / "c.csv", [["img/1.png", "no names"], ["img/2.png", "x"]]))
    with pytest.raises(UserError, match="which column is the text"):
        Csv(write_csv(folder / "d.csv", [["image", "x"], ["img/2.png", "x"]]))
    with pytest.raises(UserError, match="'url' holds addresses"):
        Csv(write_csv(folder / "e.csv", [["url", "caption"], ["http://x/y.png", "x"]]))


def test_a_label_stands_for_a_text(folder):
    path = write_csv(folder / "a.csv", [["image", "label"], ["img/1.png", "7"], ["img/2.png", "3.0"], ["img/3.png", "cat"]])
    source = Csv(path)
    assert source[0] == {"id": "img/1.png#0", "image": png(1), "label": 7}
    assert source[1]["label"] == 3
    with pytest.raises(ValueError, match=r"img/3.png#2: the label 'cat' is no whole number"):
        source[2]


@pytest.mark.parametrize("sep", [",", ";", "|", "\t"])
def test_separators_are_told_apart(folder, sep):
    path = write_csv(folder / "a.csv", [["image", "caption"], ["img/0.png", "a,b;c|d\te"]], delimiter=sep)
    assert Csv(path)[0]["text"] == "a,b;c|d\te"


def test_other_encodings_are_proposed(folder):
    path = write_csv(folder / "a.csv", [["image", "caption"], ["img/0.png", "ok"], ["img/1.png", "un café"]], "cp1252")
    with pytest.raises(UserError, match=r"line 3, byte \d+: 0xe9 is not utf-8: encoding='cp1252' reads '.* café") as error:
        Csv(path)
    at = int(str(error.value).split("byte ")[1].split(":")[0])
    assert (folder / "a.csv").read_bytes()[at] == 0xE9
    assert Csv(path, encoding="cp1252")[1]["text"] == "un café"
    assert (
        Csv(write_csv(folder / "b.csv", [["image", "标题"], ["img/0.png", "鸟"]], "gb18030"), text="标题", encoding="gb18030")[
            0
        ]["text"]
        == "鸟"
    )
    assert Csv(write_csv(folder / "c.csv", [["image", "caption"], ["img/0.png", "é"]], "utf-8-sig"))[0]["text"] == "é"
    with pytest.raises(UserError, match="UTF-16"):
        Csv(write_csv(folder / "d.csv", [["image", "caption"]], "utf-16"))
    with pytest.raises(UserError, match="unknown encoding 'utf8ish'"):
        Csv(path, encoding="utf8ish")


def test_quotes_that_mean_nothing(folder):
    path = folder / "a.tsv"
    path.write_text('image\tcaption\nimg/0.png\t"hello" he said\nimg/1.png\t5" wide\n')
    with pytest.raises(UserError, match=r"from line 2 on: .* say quote=''"):
        Csv(str(path))
    assert [record["text"] for record in Csv(str(path), quote="")] == ['"hello" he said', '5" wide']
    path.write_text('image\tcaption\nimg/0.png\t"never closed\n' + "img/1.png\tx\n" * 5)
    with pytest.raises(UserError, match="from line 2 on"):
        Csv(str(path))


def test_a_row_that_never_ends_costs_no_memory(folder, monkeypatch):
    monkeypatch.setattr(index, "LONGEST", 1000)
    (folder / "a.csv").write_text("image,caption\n" + '"x\n",' * 1000)
    with pytest.raises(UserError, match="no record ends within 1000 bytes"):
        Csv(str(folder / "a.csv"))
    (folder / "a.json").write_text('[{"image": "' + "x" * (3 << 20))
    with pytest.raises(UserError, match="byte 1: Unterminated string"):
        Json(str(folder / "a.json"))


BAD_CAPTIONS = {"": "the text is empty", " \n": "the text is empty", "a\0b": "NUL byte"}


def test_bad_captions_break_their_record_alone(folder):
    long = "x" * 100_000
    table = [["image", "caption"], *(["img/0.png", text] for text in (*BAD_CAPTIONS, long)), ["img/0.png"]]
    write_csv(folder / "a.csv", table)
    (folder / "a.json").write_text(json.dumps([dict(zip(table[0], row, strict=False)) for row in table[1:]]))
    columns = {"image": [row[0] for row in table[1:]], "caption": [*BAD_CAPTIONS, long, None]}
    pq.write_table(pa.table(columns), folder / "a.parquet")
    for source in (Csv(str(folder / "a.csv")), Json(str(folder / "a.json")), Parquet(str(folder / "a.parquet"))):
        for i, reason in enumerate([*BAD_CAPTIONS.values()]):
            with pytest.raises(ValueError, match=f"img/0.png#{i}: .*{reason}"):
                source[i]
        assert source[3]["text"] == long
        with pytest.raises(ValueError, match="the text is missing"):
            source[4]
    (folder / "half.json").write_text('[{"image": "img/0.png", "caption": "\\ud800"}]')
    with pytest.raises(ValueError, match=r"img/0.png#0: .*surrogates"):
        Json(str(folder / "half.json"))[0]


def test_commas_without_quotes_break_their_record_alone(folder):
    (folder / "a.csv").write_text("image,caption\nimg/0.png,A dog, running, fast\nimg/1.png,A cat, ,\nimg/2.png,A hen\n")
    source = Csv(str(folder / "a.csv"))
    with pytest.raises(ValueError, match=r"the row of 'img/0.png' has 4 fields where the header has 2: quote what holds ','"):
        source[0]
    assert [source[i]["text"] for i in (1, 2)] == ["A cat", "A hen"]


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_table_is_said_to_be(folder, content):
    (folder / "a.csv").write_text(content)
    with pytest.raises(UserError, match=r"a\.csv: the file is empty"):
        Csv(str(folder / "a.csv"))


def test_files_stay_in_their_root(folder):
    (folder / "out.png").write_bytes(png(9))
    os.mkfifo(folder / "img" / "pipe")
    (folder / "img" / "empty.png").write_bytes(b"")
    names = ["0.png", "../out.png", "img/../../out.png", str(folder / "out.png"), "no.png", "pipe", "empty.png", "", "a\0b"]
    path = write_csv(folder / "img" / "a.csv", [["image", "caption"], *([name, "x"] for name in [*names, "./1.png"])])
    source = Csv(path)
    assert source[9]["image"] == png(1)
    reasons = [
        "leaves its root",
        "leaves its root",
        "leaves its root",
        "No such file",
        "not a plain file",
        "is empty",
        "missing",
        "NUL",
    ]
    for i, reason in enumerate(reasons, 1):
        with pytest.raises((ValueError, OSError), match=reason):
            source[i]
    with pytest.raises(IndexError):
        source[10]
    anywhere = write_csv(folder / "b.csv", [["image", "caption"], [str(folder / "out.png"), "x"]])
    assert Csv(anywhere, root="/")[0]["image"] == png(9)
    with pytest.raises(ValueError, match="longer than the limit of 10 bytes"):
        Csv(path, max_bytes=10)[0]


def test_a_wrong_root_is_said_at_once(folder):
    path = write_csv(folder / "a.csv", [["image", "caption"], ["0.png", "x"], ["1.png", "y"]])
    with pytest.raises(UserError, match=r"no file '0.png' in .*\n.*set root="):
        Csv(path)
    assert Csv(path, root=str(folder / "img"))[1]["text"] == "y"
    with pytest.raises(UserError, match=r"'/elsewhere/0.png' leaves its root"):
        Csv(write_csv(folder / "b.csv", [["image", "caption"], ["/elsewhere/0.png", "x"]]))
    with pytest.raises(UserError, match=r"source 'csv': there is no .*nope\.csv"):
        Csv(str(folder / "nope.csv"))


def test_a_file_that_changes_is_not_misread(folder):
    path = write_csv(folder / "a.csv", [["image", "caption"], *([["img/0.png", "x" * 50]] * 20)])
    source = Csv(path)
    later = pickle.dumps(source)
    write_csv(folder / "a.csv", [["image", "caption"], ["img/0.png", "other"]])
    with pytest.raises(ValueError, match="has changed since"):
        pickle.loads(later)[15]


def test_several_captions_are_sampled_or_all_kept(folder):
    rows = [
        {"image": "img/0.png", "caption": ["a", "b"]},
        {"image": "img/1.png", "caption": "c"},
        {"image": "img/2.png", "caption": []},
    ]
    (folder / "a.json").write_text(json.dumps(rows))
    lists = [row["caption"] if isinstance(row["caption"], list) else [row["caption"]] for row in rows]
    pq.write_table(pa.table({"image": [row["image"] for row in rows], "caption": lists}), folder / "a.parquet")
    for kind, name in ((Json, "a.json"), (Parquet, "a.parquet")):
        sample, every = kind(str(folder / name)), kind(str(folder / name), captions="all")
        assert sample[0] == {"id": "img/0.png#0", "image": png(0), "texts": ["a", "b"], "group": group_of("img/0.png")}
        assert sample[1]["text"] == "c"
        assert len(every) == 4
        assert [every[i]["text"] for i in range(3)] == ["a", "b", "c"]
        assert [every[i]["id"] for i in range(3)] == ["img/0.png#0#0", "img/0.png#0#1", "img/1.png#1"]
        assert every[0]["group"] == every[1]["group"] == sample[0]["group"]
        assert [every[i]["item"] for i in range(3)] == [0, 0, 1]
        assert "item" not in sample[0]
        with pytest.raises(ValueError, match="the text is missing"):
            every[3]
        with pytest.raises(UserError, match="neither 'sample' nor 'all'"):
            kind(str(folder / name), captions="five")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "holds no object"),
        ("[]", "holds no object"),
        ('["a.png"]', "byte 1: .* is no object"),
        ('[{"image": "img/0.png", "caption": "x"},', "no end: is the file cut off"),
        ('[{"image": "img/0.png", "caption": "x"} {}]', "byte 40: a comma or ] is missing"),
        ('[{"image": é}]', "byte 1: Expecting value"),
        ("[" * 200_000, "nested too deeply"),
        ("[" + "1" * 5000 + "]", "byte 1"),
    ],
)
def test_what_is_no_json_list_is_said_with_its_place(folder, content, reason):
    (folder / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=reason):
        Json(str(folder / "a.json"))


def test_json_that_is_not_utf8(folder):
    (folder / "a.json").write_bytes('[{"image": "img/0.png", "caption": "é"}]'.encode("cp1252"))
    with pytest.raises(UserError, match="turn it into UTF-8"):
        Json(str(folder / "a.json"))
    (folder / "a.csv").write_bytes(b"\x1f\x8b\x08\x00 packed")
    with pytest.raises(UserError, match="gunzip"):
        Csv(str(folder / "a.csv"))


def test_parquet_reads_by_windows(folder, monkeypatch):
    monkeypatch.setattr(parquet, "WINDOW", 4000)
    held = [os.urandom(500) for _ in range(100)]
    for i, part in enumerate((held[:60], held[60:])):
        texts = [f"c{60 * i + j}" for j in range(len(part))]
        pq.write_table(pa.table({"image": part, "text": texts}), folder / f"{i}.parquet", row_group_size=37)
    with pytest.warns(UserWarning, match="mmjax data make"):
        source = Parquet(str(folder), cache=10_000)
    assert len(source) == 100
    assert [r["image"] for r in source] == held
    order = [int(i) for i in os.urandom(200)]
    assert all(source[i % 100]["text"] == f"c{i % 100}" for i in order)
    assert sum(parquet._size(batches) for batches in source._kept.values()) <= 10_000 + 4000


def test_a_parquet_cell_that_blows_up_is_refused(folder):
    """One dictionary value of 1 MB, which 3,000 rows refer to: 3 GB from a few kilobytes, and read without them."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array([b"\0" * (1 << 20)]))
    pq.write_table(pa.table({"image": values, "text": ["x"] * 3000}), folder / "a.parquet", store_schema=False)
    assert (folder / "a.parquet").stat().st_size < 100_000
    source = Parquet(str(folder / "a.parquet"), image="image", max_bytes=1 << 19)
    with pytest.raises(ValueError, match="over the limit"):
        source[0]


def test_bad_parquet(folder):
    (folder / "a.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(UserError, match="no parquet file, or cut off"):
        Parquet(str(folder / "a.parquet"))
    pq.write_table(pa.table({"image": ["https://x/1.png"], "text": ["x"]}), folder / "b.parquet")
    with pytest.raises(UserError, match="img2dataset"):
        Parquet(str(folder / "b.parquet"))
    pq.write_table(pa.table({"url": ["https://x/1.png"], "text": ["x"]}), folder / "c.parquet")
    with pytest.raises(UserError, match="'url' holds addresses"):
        Parquet(str(folder / "c.parquet"))
    with pytest.raises(UserError, match=r"no .parquet file"):
        Parquet(str(folder / "img"))
    pq.write_table(pa.table({"image": [b"x"], "text": ["x"]}), folder / "d0.parquet")
    pq.write_table(pa.table({"image": [b"x"]}), folder / "d1.parquet")
    with pytest.raises(UserError, match=r"d1.parquet has no column 'text', which .*d0"):
        Parquet(str(folder / "d*.parquet"))


def test_array_record_of_something_else(folder):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / "a.array_record"), "group_size:1")
    writer.write(b"hello world")
    writer.close()
    with pytest.raises(UserError, match=r"no tf.train.Example"):
        ArrayRecord(str(folder / "a.array_record"))
    (folder / "b.array_record").write_bytes(b"junk")
    with pytest.raises(UserError, match="64KB"):
        ArrayRecord(str(folder / "b.array_record"))


def test_buckets(folder):
    """fsspec's own memory stands for a bucket."""
    import fsspec

    system = fsspec.filesystem("memory")
    for source, name in zip(sources_of_the_same(folder), ("a.csv", "a.tsv", "a.json", "a.jsonl"), strict=False):
        system.pipe(f"/bucket/{name}", (folder / name).read_bytes())
        system.pipe({f"/bucket/img/{i}.png": png(i) for i in range(4)})
        there = type(source)(f"memory://bucket/{name}", id="n", label="class")
        assert list(there) == list(source)
        assert list(pickle.loads(pickle.dumps(there))) == list(source)
    system.pipe("/bucket/bytes.parquet", (folder / "bytes.parquet").read_bytes())
    assert list(Parquet("memory://bucket/*.parquet", id="n", label="class")) == list(source)
    assert sorted(files.walk("memory://bucket"))[:2] == ["a.csv", "a.json"]
    with pytest.raises(ValueError, match="leaves its root"):
        files.under("memory://bucket", "../x")
    with pytest.raises(UserError, match=r"cannot open nosuch://x/a.csv"):
        Csv("nosuch://x/a.csv")
