"""Baselines without a picture, on questions that can be counted by hand."""

import numpy as np

from mmjax.metrics.priors import SUPPORT, Priors

YES, NO, TWO = range(3)


def noted() -> Priors:
    made = Priors()
    for question, answer, times in (
        ("Is it red?", YES, 2 * SUPPORT),
        ("Is there a dog?", NO, SUPPORT),
        ("How many cats?", TWO, SUPPORT),
        ("How many dogs?", NO, SUPPORT - 1),  # too few to speak for themselves
    ):
        for _ in range(times):
            made.note(question, np.eye(3)[answer])
    return made


def test_the_longest_beginning_that_is_known_well_decides():
    made = noted()
    assert made.majority() == YES  # 40 of 99
    assert made.question_only("Is there a dog?") == NO
    assert made.question_only("is there a cat") == NO  # "is there a"
    assert made.question_only("Is this it?") == YES  # "is": 40 yes, 20 no
    assert made.question_only("How many dogs?") == TWO  # "how many": 20 two, 19 no
    assert made.question_only("Why?") == YES


def test_parts_of_scores_add_up_and_of_equals_the_first_wins():
    made = Priors()
    made.note("what?", np.array([0.3, 0.0, 0.6]))
    made.note("what?", np.array([0.3, 0.0, 0.0]))
    assert made.majority() == 0
    assert Priors().majority() == 0
    assert Priors().question_only("anything") == 0
