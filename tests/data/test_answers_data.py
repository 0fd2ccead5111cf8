"""Lists of answers and the targets made of them."""

import json
import pickle

import numpy as np
import pytest

from mmjax import cli
from mmjax.core.errors import UserError
from mmjax.data import answers
from mmjax.data.rows import Loader, stack
from mmjax.data.sources.memory import Memory
from mmjax.data.transforms.answers import Answers, Candidates
from mmjax.data.transforms.image import SecondImage
from mmjax.data.transforms.text import Tokenise


def asked(*people):
    return Memory([{"id": str(i), "question": "what?", "answers": list(one)} for i, one in enumerate(people)])


def test_a_list_of_answers_by_what_most_people_say():
    source = asked(["Red"] * 3 + ["blue"], ["red"], ["two", "2", "3"], ["c"], ["b"], [])
    assert answers.vocabulary(source) == ["red", "2", "b", "c"]
    assert answers.vocabulary(source, least=2) == ["red"]
    with pytest.raises(UserError, match="of 4 different answers none is that of 3"):
        answers.vocabulary(source, least=3)


def test_a_list_is_kept_as_lines(tmp_path, monkeypatch):
    answers.save(tmp_path / "a.txt", ["yes", "是"])
    assert answers.load(str(tmp_path / "a.txt")) == answers.load(["yes", "是"]) == ["yes", "是"]
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path))
    (tmp_path / "set" / "1.0.0").mkdir(parents=True)
    (tmp_path / "set" / "1.0.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=r"'set' has no answers\.txt"):
        answers.load("set")
    answers.save(tmp_path / "set" / "1.0.0" / "answers.txt", ["no"])
    assert answers.load("set") == answers.load(str(tmp_path / "set" / "1.0.0")) == ["no"]
    with pytest.raises(UserError, match=r"there is no file .*b\.txt"):
        answers.load(str(tmp_path / "b.txt"))
    with pytest.raises(UserError, match="'yes' twice"):
        answers.load(["yes", "no", "yes"])
    with pytest.raises(UserError, match="no answer"):
        answers.load([])


def test_targets_are_what_the_evaluation_gives():
    transform = pickle.loads(pickle.dumps(Answers(["dog", "cat", "Two dogs", "owl"])))
    people = ["A dog"] * 2 + ["cat"] * 3 + ["2 dogs"] * 4 + ["bird"]
    out = transform({"answers": people}, np.random.default_rng(0))
    np.testing.assert_allclose(out["answer_scores"], [0.6, 0.9, 1.0, 0.0])
    assert (out["answer_scores"].dtype, out["label"], out["answers"]) == (np.float32, 2, people)
    nothing = transform({"answers": ["bird"] * 10}, np.random.default_rng(0))
    assert (nothing["answer_scores"].tolist(), nothing["label"]) == ([0] * 4, -1)
    one = Answers(["是", "否"], field="answers_zh")({"answers_zh": ["否"]}, np.random.default_rng(0))
    assert one["answer_scores"].tolist() == [0, 1]


def test_a_batch_of_questions():
    source = Memory([{"id": "a", "question": "ab", "question_zh": "cde", "answers": ["yes"]}])
    transforms = [
        Candidates(["yes", "no", "a"], "bytes", 9),
        Answers(["no", "yes"]),
        Tokenise("bytes", 4, field="question_zh", into="question"),
    ]
    fields = ("question", "question_cut", "answer_scores", "candidates", "label")
    batch = stack([Loader([source], transforms, fields, [0], seed=0).row(0, 0, 0)])
    a, n, y = (ord(letter) + 3 for letter in "any")
    assert batch["question"].tolist() == [[1, ord("c") + 3, ord("d") + 3, 2]]
    assert batch["question_cut"].tolist() == [1]  # of "question", which is read last
    assert batch["candidates"].tolist() == [
        [
            [1, a, a + 1, 2, y, ord("e") + 3, ord("s") + 3, 2, 0],
            [1, a, a + 1, 2, n, ord("o") + 3, 2, 0, 0],
            [1, a, a + 1, 2, a, 2, 0, 0, 0],
        ]
    ]
    assert (batch["answer_scores"].tolist(), batch["label"].tolist(), batch["caption"].tolist()) == ([[0, 1]], [1], ["cde"])


def test_what_is_cut_off_is_counted():
    rng = np.random.default_rng(0)
    assert Tokenise("bytes", 5)({"text": "abc"}, rng)["text_cut"] == 0
    assert Tokenise("bytes", 5)({"text": "abcdef"}, rng)["text_cut"] == 3
    assert Tokenise("bytes", 7, pair="b")({"text": "abc", "b": "abc"}, rng)["text_cut"] == 2


def test_a_question_that_is_cut_beside_its_answers_is_counted():
    """Of 8 tokens three are ends; "yes" leaves the question two of its three, "no" all three."""
    rng, asked = np.random.default_rng(0), {"question": "abc"}
    assert Candidates(["yes", "no"], "bytes", 8)(asked, rng)["question_cut"] == 1
    assert Candidates(["no"], "bytes", 8)(asked, rng)["question_cut"] == 0


def test_a_set_without_annotations_says_so():
    with pytest.raises(ValueError, match="it has no 'answers': give the source its annotations"):
        Answers(["yes"])({"question": "is it?"}, np.random.default_rng(0))


def test_a_second_picture():
    table = {"brighter": lambda: lambda record, rng: {**record, "image": record["image"] + 1}}
    record = {"image": np.zeros((2, 2, 3), np.uint8), "image_b": np.full((2, 2, 3), 4, np.uint8)}
    out = SecondImage(table, [{"name": "brighter"}])(record, np.random.default_rng(0))
    assert (out["image"].max(), out["image_b"].min()) == (0, 5)
    with pytest.raises(UserError, match=r"second_image.transforms\[0\]: unknown name 'bright'"):
        SecondImage(table, [{"name": "bright"}])


def test_the_command_writes_a_list(tmp_path, capsys):
    records = [{"id": str(i), "answers": [word]} for i, word in enumerate(["no", "yes", "Yes", "no", "no", "green"])]
    out = tmp_path / "list.txt"
    source = json.dumps({"name": "memory", "records": records})
    cli.main(["data", "answers", f"--source={source}", "--least=2", f"--out={out}"])
    assert out.read_text(encoding="utf-8") == "no\nyes\n"
    assert "2 answers of at least 2 questions: no, yes" in capsys.readouterr().out
