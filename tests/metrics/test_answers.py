import numpy as np
import pytest

from mmjax.core.answers import normalise
from mmjax.core.errors import UserError
from mmjax.metrics.answers import Blind, accuracy, choices, kind_of, score


@pytest.mark.parametrize(("n", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_the_mean_over_ten_ways_to_leave_one_out(n, expected):
    # The published values: of 10 people n agree; leaving out one of them counts n - 1, one of the others n.
    assert score("red", ["red"] * n + ["blue"] * (10 - n)) == pytest.approx(expected)


def test_the_mean_is_that_of_the_subsets():
    people = ["2", "two", "3", "two dogs", "2", "a 2", "3", "4", "4", "4"]
    said = [normalise(one) for one in people]
    subsets = [min(1.0, (said[:i] + said[i + 1 :]).count("2") / 3) for i in range(10)]
    assert score("2", people) == pytest.approx(np.mean(subsets))
    assert subsets.count(1.0) == 10  # four say 2
    assert score("3", people) == pytest.approx(0.6)


def test_people_who_all_agree_are_taken_at_their_word():
    assert score("the dog", ["the dog"] * 10) == 1.0
    assert score("dog", ["the dog"] * 10) == 0.0  # nothing is normalised then: the script's oddity
    assert score("dog", ["the dog"] * 9 + ["cat"]) == 1.0


def test_one_answer_is_right_or_wrong():
    assert (score("Yes", ["yes"]), score("no", ["yes"]), score("a dog", ["dog"])) == (1.0, 0.0, 1.0)
    with pytest.raises(UserError, match="without answers"):
        score("yes", [])


def test_accuracy_by_group():
    truth = [["yes"] * 10, ["2"] * 3 + ["3"] * 7, ["dog"] * 10, ["cat"] * 10]
    found = accuracy(["yes", "2", "dog", "dog"], truth, {"answer_type": [kind_of(one) for one in truth], "type": list("aabb")})
    assert found == pytest.approx(
        {
            "accuracy": 2.9 / 4,
            "answer_type/yes/no": 1.0,
            "answer_type/number": 0.9,
            "answer_type/other": 0.5,
            "type/a": 0.95,
            "type/b": 0.5,
        }
    )
    with pytest.raises(UserError, match="1 answers, 2 questions"):
        accuracy(["yes"], [["yes"], ["no"]])


def test_choices():
    assert choices(np.array([[0.1, 0.9], [2.0, 1.0]], np.float32), ["yes", "no"]) == ["no", "yes"]
    with pytest.raises(UserError, match="2 scores a question, and 3 answers"):
        choices(np.zeros((1, 2), np.float32), ["a", "b", "c"])


def test_blind_baselines():
    questions = ["Is it red?", "Is it red?", "is it red", "How many dogs?", "How many cats?", "How many cats?", "图中有狗吗？"]
    answers = [["no"], ["yes"], ["no"], ["2"], ["3"], ["3"], ["是"]]
    blind = Blind(questions, answers)
    assert blind.majority == "3"  # as often as no; the alphabet decides
    assert blind.answer("Is it red?") == "no"
    assert blind.answer("How many dogs?") == "2"
    assert blind.answer("How many owls?") == "3"  # the most frequent after "how many"
    assert blind.answer("图中有猫吗？") == "是"
    assert blind.answer("Why?") == "3"
    ten = Blind(["Who?"], [["a man"] * 4 + ["man"] * 3 + ["boy"] * 3])
    assert ten.majority == "man"
    with pytest.raises(UserError, match="no baseline"):
        Blind([], [])
