"""The same pictures and captions in five formats are the same batches, for training and for evaluation, and the same run."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmjax import cli
from mmjax.core import registry
from mmjax.data.sources import SOURCES
from mmjax.data.stream import Stream, epoch

N, SIZE = 12, 8
FORMATS = ("csv", "json", "parquet", "webdataset", "pairs_folder")
TRANSFORMS = [
    {"name": "decode"},
    {"name": "random_shift", "pixels": 2, "scale": [0.8, 1.2], "size": SIZE},
    {"name": "tokenise", "tokenizer": "bytes", "length": 24},
]


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """{name: source spec} of N jpegs with captions, one of which two pictures share."""
    root = tmp_path_factory.mktemp("formats")
    draw = synthetic()
    rows = []
    for i in range(N):
        record, encoded = draw[i], io.BytesIO()
        Image.fromarray(record["image"]).save(encoded, "JPEG", quality=90)
        rows.append({"file": f"{i:03}.jpg", "bytes": encoded.getvalue(), "caption": record["text"] if i else draw[1]["text"]})
    (root / "pairs").mkdir()
    for row in rows:
        (root / "pairs" / row["file"]).write_bytes(row["bytes"])
        (root / "pairs" / row["file"]).with_suffix(".txt").write_text(row["caption"])
    with open(root / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filepath", "title"), *((f"pairs/{row['file']}", row["caption"]) for row in rows)])
    pairs = [{"image": f"pairs/{row['file']}", "caption": row["caption"]} for row in rows]
    (root / "pairs.json").write_text(json.dumps(pairs))
    images = [{"bytes": row["bytes"], "path": row["file"]} for row in rows]
    pq.write_table(pa.table({"image": images, "caption": [row["caption"] for row in rows]}), root / "pairs.parquet")
    with tarfile.open(root / "000.tar", "w") as tar:
        for row in rows:
            for name, data in ((row["file"], row["bytes"]), (row["file"][:3] + ".txt", row["caption"].encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    places = {"webdataset": root / "000.tar", "pairs_folder": root / "pairs"}
    return {name: {"name": name, "path": str(places.get(name, root / f"pairs.{name}"))} for name in FORMATS}


def synthetic():
    return registry.build(SOURCES, {"name": "synthetic", "n": N, "size": 16})


@pytest.mark.parametrize("name", FORMATS[1:])
def test_training_batches(formats, name):
    wanted, found = (
        Stream([{"source": formats[each]}], TRANSFORMS, batch_size=5, fields=("image", "text", "group"), seed=3)
        for each in ("csv", name)
    )
    for k in (0, 1, 7):
        a, b = wanted.batch_at(k), found.batch_at(k)
        assert not any(a["broken"])
        for field in ("image", "text", "group", "caption", "broken"):
            np.testing.assert_array_equal(a[field], b[field], err_msg=f"{field} of batch {k}")
        assert a["image"].std() > 10


@pytest.mark.parametrize("name", FORMATS)
def test_evaluation_sees_each_pair_once(formats, name):
    transforms = [{"name": "decode"}, {"name": "resize", "size": SIZE}, TRANSFORMS[-1]]
    batches = list(epoch(formats[name], transforms, batch_size=5, fields=("image", "group")))
    seen = [caption for batch in batches for caption, real in zip(batch["caption"], batch["mask"], strict=True) if real]
    draw = synthetic()
    assert seen == [draw[1]["text"], *(draw[i]["text"] for i in range(1, N))]
    groups = np.concatenate([batch["group"] for batch in batches])
    assert groups[0] == groups[1]


def test_the_quickstart_trained_from_csv_tar_and_parquet_has_the_same_losses(formats, tmp_path, capsys):
    losses = {}
    for name in ("csv", "webdataset", "parquet"):
        words = [f"--config.data.sources={[{'source': formats[name]}]!r}", f"--workdir={tmp_path / name}"]
        short = ["--config.steps=6", "--config.log_every=1", "--config.batch_size=8", "--config.eval.sets=[]"]
        short += ["--config.model.image.depth=0", "--config.optim.name=adamw", "--config.optim.args={}"]  # little to compile
        cli.main(["train", f"--config={Path(__file__).parents[2]}/configs/quickstart.py:debug", *words, *short])
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [line["loss"] for line in lines]
    assert len(set(losses["csv"])) == 6  # it learns from another batch each time
    assert losses["webdataset"] == losses["csv"]  # to the last bit
    assert losses["parquet"] == losses["csv"]
