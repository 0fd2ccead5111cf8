import json
import pickle

import pytest

from mmjax.core.errors import UserError
from mmjax.data.sources import index
from mmjax.data.sources.coco import Karpathy, Vqa
from mmjax.data.sources.source import group_of


def image(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"picture " + name.encode())


@pytest.fixture
def karpathy(tmp_path):
    """Karpathy's json of four images, in its own order of keys."""
    images = []
    for i, (split, captions) in enumerate([("train", "ab"), ("test", "cde"), ("restval", "f"), ("train", ["a café"])]):
        image(tmp_path, f"val2014/{i}.jpg")
        sentences = [{"tokens": [text], "raw": f" {text}\n", "imgid": i, "sentid": i} for text in captions]
        images.append(
            {"filepath": "val2014", "sentids": [1], "filename": f"{i}.jpg", "imgid": i, "split": split, "sentences": sentences}
        )
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    return path


def test_karpathy_samples_captions_for_training(karpathy):
    source = Karpathy(str(karpathy))
    assert source[0] == {"id": "0.jpg", "image": b"picture val2014/0.jpg", "texts": ["a", "b"], "group": group_of("0.jpg")}
    assert source[1] == {"id": "3.jpg", "image": b"picture val2014/3.jpg", "text": "a café", "group": group_of("3.jpg")}
    assert [record["id"] for record in Karpathy(str(karpathy), split="train+restval")] == ["0.jpg", "2.jpg", "3.jpg"]
    assert list(pickle.loads(pickle.dumps(source))) == list(source)


def test_karpathy_keeps_all_captions_for_evaluation(karpathy):
    source = Karpathy(str(karpathy), split="test+restval", captions="all")
    assert [record["text"] for record in source] == ["c", "d", "e", "f"]
    assert [record["id"] for record in source] == ["1.jpg#0", "1.jpg#1", "1.jpg#2", "2.jpg"]
    assert [record["group"] for record in source] == [group_of("1.jpg")] * 3 + [group_of("2.jpg")]
    assert [record["item"] for record in source] == [0, 0, 0, 1]  # numbers of the images


def test_karpathy_without_folders_of_its_own(tmp_path):
    """Flickr30k's has no filepath."""
    image(tmp_path, "pictures/1.jpg")
    images = [
        {"filename": "1.jpg", "split": "test", "sentences": [{"raw": "x"}]},
        {"filename": "2.jpg", "split": "test", "sentences": []},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"dataset": "flickr30k", "images": images}))
    source = Karpathy(str(tmp_path / "a.json"), str(tmp_path / "pictures"), "test", "all")
    assert source[0]["text"] == "x"
    with pytest.raises(ValueError, match=r"2.jpg: the text is missing"):
        source[1]


def test_karpathy_says_what_is_wrong(karpathy, tmp_path):
    with pytest.raises(UserError, match=r"no split 'tset'; it has: restval, test, train. Did you mean 'test'"):
        Karpathy(str(karpathy), split="train+tset")
    with pytest.raises(UserError, match=r"there is no .*elsewhere/val2014/0.jpg\nset root="):
        Karpathy(str(karpathy), root=str(tmp_path / "elsewhere"))
    for content, reason in (
        ('{"info": 1, "annotations": []}', "has no 'images'; it has: info, annotations"),
        ('{"images": [{"file_name": "x.jpg"}]}', "without 'sentences'"),
        ('{"images": {}}', "'images' is no list"),
        ("[]", "no object with 'images'"),
        ('{"images": [{"filename": "x", "sente', "Unterminated string"),
    ):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(UserError, match=reason):
            Karpathy(str(tmp_path / "b.json"))


def vqa(folder, asked=(11, 12, 21), answered=(21, 11, 12)):
    """Three questions about two images; the answers are in another order."""
    for number in (1, 2):
        image(folder, f"train2014/COCO_train2014_{number:012d}.jpg")
    questions = [{"image_id": n // 10, "question": f" question {n}? ", "question_id": n} for n in asked]
    people = [{"answer": "yes", "answer_confidence": "maybe", "answer_id": 1}, {"answer": "no", "answer_id": 2}]
    answers = [{"question_id": n, "image_id": n // 10, "answers": [*people, {"answer": str(n)}]} for n in answered]
    (folder / "questions.json").write_text(json.dumps({"info": {}, "data_subtype": "train2014", "questions": questions}))
    (folder / "annotations.json").write_text(json.dumps({"annotations": answers, "data_subtype": "train2014"}))
    return str(folder / "questions.json"), str(folder / "annotations.json")


def test_vqa_joins_questions_and_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "CHUNK", 5)
    source = Vqa(*vqa(tmp_path))
    assert len(source) == 3
    assert source[2] == {
        "id": "21",
        "question": "question 21?",
        "answers": ["yes", "no", "21"],
        "image": b"picture train2014/COCO_train2014_000000000002.jpg",
        "group": group_of("train2014/2"),
    }
    assert source[0]["group"] == source[1]["group"] != source[2]["group"]
    assert [record["answers"][2] for record in source] == [record["id"] for record in pickle.loads(pickle.dumps(source))]


def test_vqa_test_sets_have_no_answers(tmp_path):
    questions, _ = vqa(tmp_path)
    assert "answers" not in Vqa(questions)[0]
    named = Vqa(questions, image="train2014/COCO_train2014_{id:012d}.jpg")
    assert named[0]["image"] == b"picture train2014/COCO_train2014_000000000001.jpg"


def test_vqa_says_what_is_wrong(tmp_path):
    questions, annotations = vqa(tmp_path, answered=(21, 11))
    with pytest.raises(UserError, match=r"1 questions of .*, e.g. 12, are not in .*another split"):
        Vqa(questions, annotations)
    vqa(tmp_path, answered=())
    with pytest.raises(UserError, match=r"3 questions of .*, e.g. 11"):
        Vqa(questions, annotations)
    with pytest.raises(UserError, match=r"has no .questions.; it has: annotations, data_subtype"):
        Vqa(annotations, image="{id}.jpg")
    with pytest.raises(UserError, match=r"there is no .*train2014/x1.jpg\nset root="):
        Vqa(questions, image="{subtype}/x{id}.jpg")
    with pytest.raises(UserError, match=r"takes {subtype} and {id} only"):
        Vqa(questions, image="{name}.jpg")
    (tmp_path / "q.json").write_text('{"questions": [{"question": "x"}]}')
    with pytest.raises(UserError, match="without 'question_id'"):
        Vqa(str(tmp_path / "q.json"), image="{id}.jpg")
