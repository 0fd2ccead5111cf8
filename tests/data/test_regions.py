"""Region features as users have them, in tiny files."""

import base64
import json
import pickle

import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data.rows import Loader, stack
from mmjax.data.sources import regions as module
from mmjax.data.sources.coco import Karpathy, Vqa
from mmjax.data.sources.regions import Regions, key
from mmjax.data.sources.source import group_of
from mmjax.data.tokenizers import train
from mmjax.data.transforms.masking import MaskRegions
from mmjax.data.transforms.regions import NamedSquares, OneSquare

SIZE = (200, 100)  # width, height
BOXES = np.array([[0, 0, 100, 50], [50, 25, 200, 100]], np.float32)
SHARES = [[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]]
FEATURES = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def text(array, dtype=np.float32):
    return base64.b64encode(np.asarray(array, dtype).tobytes()).decode()


def line(image, boxes=BOXES, features=FEATURES, size=SIZE, kind=6):
    pixels = [str(side) for side in size]
    if kind == 6:
        return "\t".join([image, *pixels, str(len(boxes)), text(boxes), text(features)])
    labels = [text([7, 9][: len(boxes)], np.int64), text([0.5, 0.25][: len(boxes)])] * 2
    return "\t".join([image, *reversed(pixels), *labels, str(len(boxes)), text(boxes), text(features)])


def tsv(path, *lines, end="\n"):
    path.write_text(end.join([*lines, ""]), newline="")
    return str(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_tsv_of_bottom_up_attention(tmp_path, monkeypatch, end):
    monkeypatch.setattr(module, "HEAD", 16)  # a line's head takes several reads
    one = line("7", BOXES[:1], FEATURES[:1])
    path = tsv(tmp_path / "a.tsv", line("42"), one, line("COCO_val2014_000000000009"), end=end)
    found = pickle.loads(pickle.dumps(Regions(path, count=3, width=3)))
    assert len(found) == 3
    record = found["val2014/COCO_val2014_000000000042.jpg"]
    np.testing.assert_allclose(record["boxes"], [*SHARES, [0, 0, 0, 0]])
    np.testing.assert_array_equal(record["regions"], [*FEATURES, [0, 0, 0]])
    assert (record["boxes"].dtype, record["regions"].dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(found[7]["regions"], [FEATURES[0], [0] * 3, [0] * 3])
    assert 9 in found
    assert 8 not in found
    with pytest.raises(ValueError, match="image 8 has no regions"):
        found[8]


def test_features_are_not_read_to_find_the_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HEAD", 64)
    wide = np.zeros((2, 5000), np.float32)
    path = tsv(tmp_path / "a.tsv", *(line(str(i), features=wide) for i in range(20)))
    reads = []
    opened = module.files.open_binary

    def counted(name):
        file = opened(name)

        class Counting:
            def read(self, n=-1):
                reads.append(len(content := file.read(n)))
                return content

            def __getattr__(self, name):
                return getattr(file, name)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

        return Counting()

    monkeypatch.setattr(module.files, "open_binary", counted)
    lines = list(module._lines(path, counted(path), module.COLUMNS[6], 5000.0))
    assert [name for _, _, name in lines] == [str(i) for i in range(20)]
    assert sum(reads) < 20 * 200  # of lines of 53 kB each


def test_tsv_of_lxmert_has_objects_and_attributes(tmp_path):
    record = Regions(tsv(tmp_path / "a.tsv", line("COCO_train2014_000000000001", kind=10)), count=3)[1]
    np.testing.assert_allclose(record["boxes"][:2], SHARES)
    assert record["region_objects"].tolist() == [7, 9, 0]
    assert record["region_attribute_scores"].tolist() == [0.5, 0.25, 0]
    assert (record["region_attributes"].dtype, record["region_object_scores"].dtype) == (np.int32, np.float32)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"features": FEATURES[:, :2]}, {"width": 3}, "features are 2 wide, not 3"),
        ({}, {"count": 1}, "2 regions, more than count 1"),
        ({"boxes": BOXES + 3}, {}, r"box \[53.0, 28.0, 203.0, 103.0\] lies outside of a picture of 200 x 100"),
        ({"boxes": BOXES[:, [2, 1, 0, 3]]}, {}, "has no area"),
        ({"features": FEATURES * np.nan}, {}, "a feature is no number"),
        ({"boxes": BOXES[:, :3]}, {}, r"boxes \[2, 3\] are not"),
        ({"features": np.zeros(5, np.float32)}, {}, "20 bytes are no float32 of 2 regions"),
    ],
    ids=["width", "count", "outside", "flat", "nan", "three", "ragged"],
)
def test_what_is_wrong_with_an_image_is_said(tmp_path, change, options, message):
    path = tsv(tmp_path / "a.tsv", line("1"), line("2", **change))
    found = Regions(path, **{"count": 36, **options}) if options != {"count": 1} else Regions(path, count=1)
    with pytest.raises(ValueError, match=f"regions of image 2: .*{message}"):
        found[2]


def reader(folder, kind, boxes, features):
    """One picture's regions, number 2, in a file of that kind."""
    if kind == "tsv":
        return Regions(tsv(folder / "a.tsv", line("2", boxes, features)), count=2, width=3)
    columns = {"features": features, "boxes": boxes, "image_w": SIZE[0], "image_h": SIZE[1]}
    if kind == "npz":
        np.savez(folder / "2.npz", **columns)
        return Regions(str(folder), count=2, width=3)
    with pytest.importorskip("h5py").File(folder / "a.h5", "w") as file:
        for name, value in columns.items():
            file[f"2/{name}"] = value
    return Regions(str(folder / "a.h5"), count=2, width=3)


@pytest.mark.parametrize("kind", ["tsv", "npz", "h5"])
def test_every_reader_refuses_alike(tmp_path, kind):
    """In one line each: a box outside of the picture or without area, and regions of another width or number."""
    faults = [
        (BOXES + 3, FEATURES, r"box \[53.0, 28.0, 203.0, 103.0\] lies outside of a picture of 200 x 100"),
        (BOXES[:, [2, 1, 0, 3]], FEATURES, "has no area"),
        (BOXES, FEATURES[:, :2], "features are 2 wide, not 3: set width="),
        (np.vstack([BOXES, BOXES]), np.vstack([FEATURES, FEATURES]), "4 regions, more than count 2: raise count"),
    ]
    for i, (boxes, features, message) in enumerate(faults):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(ValueError, match=f"^regions of image 2: .*{message}") as refused:
            reader(tmp_path / str(i), kind, boxes, features)[2]
        assert "\n" not in str(refused.value)


def test_a_line_of_another_width_does_not_shift_those_that_follow(tmp_path):
    path = tsv(tmp_path / "a.tsv", line("1"), line("2", features=np.ones((2, 7), np.float32)), line("3"))
    found = Regions(path, count=2, width=3)
    np.testing.assert_array_equal(found[3]["regions"], FEATURES)
    with pytest.raises(ValueError, match="7 wide, not 3"):
        found[2]


def test_files_of_another_kind(tmp_path):
    with pytest.raises(UserError, match="3 columns: bottom-up attention's tsv has 6, LXMERT's 10"):
        Regions(tsv(tmp_path / "a.tsv", "a\tb\tc"))
    with pytest.raises(UserError, match="first line has no image_id, image_w"):
        Regions(tsv(tmp_path / "b.tsv", "image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures"))
    with pytest.raises(UserError, match="no line of image_id"):
        Regions(tsv(tmp_path / "c.tsv", line("1"), "torn"))
    (tmp_path / "d.pkl").write_bytes(b"")
    with pytest.raises(UserError, match=r"no \.tsv, no \.h5 and no folder"):
        Regions(str(tmp_path / "d.pkl"))
    with pytest.raises(UserError, match="count 0"):
        Regions(str(tmp_path / "a.tsv"), count=0)


def test_a_folder_of_npz(tmp_path):
    np.savez(tmp_path / "COCO_val2014_000000000001.npz", x=FEATURES.T, bbox=BOXES, image_w=200, image_h=100)
    np.savez(tmp_path / "2.npz", features=FEATURES, norm_bb=np.hstack([SHARES, np.ones((2, 3))]))
    np.savez(tmp_path / "3.npz", features=FEATURES)
    np.savez(tmp_path / "4.npz", features=np.array([None, 1]), boxes=BOXES)
    np.savez(tmp_path / "5.npz", features=FEATURES, boxes=BOXES)
    found = Regions(str(tmp_path), count=2)
    for image in (1, 2):
        np.testing.assert_allclose(found[image]["boxes"], SHARES)
        np.testing.assert_array_equal(found[image]["regions"], FEATURES)
    with pytest.raises(ValueError, match=r"no boxes \(boxes, norm_bb"):
        found[3]
    with pytest.raises(ValueError, match="allow_pickle"):
        found[4]
    with pytest.raises(ValueError, match=r"outside of the picture .without its size they are shares"):
        found[5]


def test_h5_of_all_images_and_of_a_group_each(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["image_features"] = np.stack([FEATURES, FEATURES + 1])
        file["image_bb"], file["spatial_features"] = np.stack([BOXES] * 2), np.stack([np.hstack([SHARES, SHARES])] * 2)
    with h5py.File(tmp_path / "flat.h5", "w") as file:  # pictures of one region and of two, below each other
        file["image_features"], file["image_bb"] = np.vstack([FEATURES[:1], FEATURES + 1]), np.vstack([BOXES[:1], BOXES])
        file["pos_boxes"], file["ids"] = [[0, 1], [1, 3]], ["5", "6"]
        file["image_w"], file["image_h"] = [200, 200], [100, 100]
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        file["6/features"], file["6/boxes"], file["6/image_w"], file["6/image_h"] = FEATURES + 1, BOXES, 200, 100
    (tmp_path / "ids.json").write_text(json.dumps({"5": 0, "6": 1}))
    for name, options in {"all": {"ids": str(tmp_path / "ids.json")}, "flat": {}, "groups": {}}.items():
        found = pickle.loads(pickle.dumps(Regions(str(tmp_path / f"{name}.h5"), count=3, **options)))
        np.testing.assert_array_equal(found[6]["regions"], [*(FEATURES + 1), [0] * 3])
        np.testing.assert_allclose(found[6]["boxes"][:2], SHARES)
    with pytest.raises(UserError, match=r"name a json .image: row. as ids="):
        Regions(str(tmp_path / "all.h5"))
    (tmp_path / "bad.h5").write_bytes(b"no")
    with pytest.raises(UserError, match="is no h5 file"):
        Regions(str(tmp_path / "bad.h5"))


def test_images_are_found_by_number():
    names = ("COCO_val2014_000000000042.jpg", "val2014/42.npz", 42, "000042")
    assert {key(name) for name in names} == {"42"}
    assert key("abc.jpg") == "abc"


def questions(folder):
    asked = [{"question_id": 10 + i, "image_id": i, "question": f"question {i}?"} for i in (1, 2)]
    answered = [
        {"question_id": one["question_id"], "answers": [{"answer": "yes"}] * 10, "answer_type": "yes/no", "question_type": "is"}
        for one in asked
    ]
    (folder / "q.json").write_text(json.dumps({"data_subtype": "val2014", "questions": asked}))
    (folder / "a.json").write_text(json.dumps({"annotations": answered}))
    return str(folder / "q.json"), str(folder / "a.json")


def test_vqa_takes_regions_in_place_of_pictures(tmp_path):
    path = tsv(tmp_path / "a.tsv", line("1"), line("2"))
    source = Vqa(*questions(tmp_path), regions={"path": path, "count": 3}, pictures=False)
    record = source[1]
    assert (record["answer_type"], record["type"], record["question"]) == ("yes/no", "is", "question 2?")
    assert "image" not in record
    assert "regions" not in source.words(1)
    loader = Loader([source], [MaskRegions(0.5)], ["regions", "boxes", "region_masked", "region_targets"], [0], seed=0)
    batch = stack([loader.row(0, i, i) for i in range(2)])
    assert {name: batch[name].shape for name in ("regions", "boxes", "region_masked")} == {
        "regions": (2, 3, 3),
        "boxes": (2, 3, 4),
        "region_masked": (2, 3),
    }
    with pytest.raises(UserError, match="takes no keyword 'counts'"):
        Vqa(*questions(tmp_path), regions={"path": path, "counts": 3}, pictures=False)
    with pytest.raises(UserError, match="nothing to see"):
        Vqa(*questions(tmp_path), pictures=False)


def test_karpathy_takes_regions(tmp_path):
    image = {"filename": "COCO_val2014_000000000001.jpg", "split": "train", "sentences": [{"raw": "a"}, {"raw": "b"}]}
    (tmp_path / "k.json").write_text(json.dumps({"images": [image]}))
    spec = {"path": tsv(tmp_path / "a.tsv", line("1")), "count": 2}
    record = Karpathy(str(tmp_path / "k.json"), regions=spec, pictures=False)[0]
    np.testing.assert_array_equal(record["regions"], FEATURES)
    assert record["texts"] == ["a", "b"]


def test_masked_regions():
    boxes = np.array([*SHARES, [0, 0, 0, 0]], np.float32)
    record = {"regions": np.vstack([FEATURES, np.zeros((1, 3), np.float32)]), "boxes": boxes}
    counts = np.zeros(3)
    for seed in range(400):
        out = MaskRegions(0.3)(record, np.random.default_rng(seed))
        masked = out["region_masked"]
        np.testing.assert_array_equal(out["regions"], record["regions"] * (1 - masked[:, None]))
        np.testing.assert_array_equal(out["region_targets"], record["regions"])
        assert masked.sum() >= 1
        counts += masked
    # Alone with 0.3, and of the 0.49 without any, one of two: 0.3 + 0.245; three standard deviations of 400 are 0.075.
    np.testing.assert_allclose(counts / 400, [0.545, 0.545, 0], atol=0.075)
    assert out["regions"].dtype == np.float32
    with pytest.raises(UserError, match="rate 0"):
        MaskRegions(0)


def test_named_squares_are_their_words_and_places(tmp_path):
    tokens = train(["red dog", "blue cat"], 20)
    tokens.save(str(tmp_path / "tokenizer.json"))
    squares = NamedSquares(str(tmp_path / "tokenizer.json"), side=2)
    record = {"grid": "dog,,cat,dog", "colours": "red,,,blue", "id": "a"}
    out = squares(record, np.random.default_rng(0))
    words = {tokens.token_to_id(word): word for word in ("red", "dog", "blue", "cat")}
    told = [{words[i] for i in np.flatnonzero(region)} for region in out["regions"]]
    assert told == [{"red", "dog"}, set(), {"cat"}, {"blue", "dog"}]
    assert out["regions"].shape == (4, tokens.get_vocab_size())
    np.testing.assert_array_equal(out["boxes"], [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])
    assert "regions" not in record
    with pytest.raises(ValueError, match="names 3 squares, not 4"):
        squares({**record, "grid": "dog,,cat"}, np.random.default_rng(0))


def test_one_square_is_any_with_a_word_of_it():
    image = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)
    record = {"image": image, "grid": "dog,,cat,dog", "colours": "red,,,blue", "id": "a", "item": 3, "text": "old", "group": 1}
    square, found = OneSquare(side=2), {}
    for seed in range(40):
        out = square(record, np.random.default_rng(seed))
        found[out["text"]] = out
    assert set(found) == {"red", "blue", "dog", "cat", "nothing"}
    np.testing.assert_array_equal(found["nothing"]["image"], image[:3, 3:])
    np.testing.assert_array_equal(found["red"]["image"], image[:3, :3])
    np.testing.assert_array_equal(found["cat"]["image"], image[3:, :3])
    np.testing.assert_array_equal(found["blue"]["image"], image[3:, 3:])
    named = OneSquare(side=2, fields=("grid",))
    assert {named(record, np.random.default_rng(seed))["text"] for seed in range(20)} == {"dog", "cat", "nothing"}
    assert found["cat"]["group"] == group_of("cat")
    assert "item" not in found["cat"]  # by which retrieval would take all squares of a grid for one picture
    assert record["text"] == "old"
    with pytest.raises(ValueError, match="names 2 squares, not 4"):
        named({**record, "grid": "dog,cat"}, np.random.default_rng(0))
