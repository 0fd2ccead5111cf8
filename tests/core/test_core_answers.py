"""What counts as the same answer: the cases of VQA's script."""

import pytest

from mmjax.core.answers import MENDED, normalise, worth


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Dog.", "dog"),
        ("a cat and an owl", "cat and owl"),
        ("two", "2"),
        ("None", "0"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("let's go", "let's go"),
        ("somebody'd", "somebodyd"),
        ("3.5", "3.5"),
        ("3. ", "3"),
        ("U.S.A.", "usa"),
        ("1,000", "1000"),
        ("red/blue", "red blue"),
        ("red / blue", "red blue"),
        ("red, blue", "red blue"),
        ("t-shirt", "t shirt"),
        ("1,000 t-shirts", "1000 tshirts"),  # a comma in a number takes all punctuation's spaces
        ("wi-fi - on", "wifi on"),  # so does a mark beside a space, for all of its kind
        ("what?\nno!", "what no"),
        ("5:30", "5:30"),
        ("是", "是"),
    ],
)
def test_answers_are_normalised_as_the_script_does(answer, expected):
    assert normalise(answer) == expected


def test_every_form_that_lacks_one_apostrophe_is_mended():
    assert len(MENDED) == 114  # the script's 120 less two that change nothing and four with a capital I, which none has by then
    assert {MENDED[form] for form in ("yall'd've", "y'alld've", "y'all'dve")} == {"y'all'd've"}
    assert "shes" not in MENDED
    assert "lets" not in MENDED


@pytest.mark.parametrize(("n", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_what_an_answer_of_ten_people_is_worth(n, expected):
    assert worth(n, 10) == pytest.approx(expected)
    assert worth(min(n, 1), 1) == (n > 0)
