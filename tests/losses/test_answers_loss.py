"""Soft-target answers by hand, in both forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.losses.answers import answers

# As classes (1/4, 1/4, 1/2); as yes-or-no questions odds of 1, 1 and 2.
LOGITS = jnp.log(jnp.array([[1.0, 1, 2], [1, 1, 2], [1, 1, 2]]))
# One answer right in part, two right together, none in the list.
SCORES = jnp.array([[0.0, 0, 0.6], [0.3, 0.3, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("form", "cost"),
    [
        # Row 0: log 2 twice, -0.6 log 2/3 - 0.4 log 1/3; row 1: log 2 twice, -log 1/3.
        ("sigmoid", 4 * np.log(2) - 0.6 * np.log(2 / 3) - 1.4 * np.log(1 / 3)),
        # Row 0: all of its weight on the third; row 1: half on each of the first two.
        ("softmax", -np.log(1 / 2) - np.log(1 / 4)),
    ],
)
def test_by_hand(form, cost):
    terms = answers(LOGITS, SCORES, form)
    assert [float(x) for x in terms["answers"]] == [pytest.approx(cost, rel=1e-6), 2]
    assert [float(x) for x in terms["accuracy/answers"]] == [pytest.approx(0.6), 2]
    assert [float(x) for x in terms["unanswered"]] == [1, 3]


@pytest.mark.parametrize("form", ["sigmoid", "softmax"])
def test_gradients_are_probabilities_less_scores(form):
    gradient = jax.grad(lambda x: answers(x, SCORES, form)["answers"][0])(LOGITS)
    p = np.array([[1 / 2, 1 / 2, 2 / 3]] * 2) if form == "sigmoid" else np.array([[1 / 4, 1 / 4, 1 / 2]] * 2)
    wanted = p - np.array([[0, 0, 0.6], [0.3, 0.3, 0]] if form == "sigmoid" else [[0, 0, 1], [0.5, 0.5, 0]])
    np.testing.assert_allclose(gradient[:2], wanted, atol=1e-6)  # float32, numbers near 1
    assert not gradient[2].any()


def test_a_batch_without_an_answer_costs_nothing():
    value, gradient = jax.value_and_grad(lambda x: answers(x, 0 * SCORES, "softmax")["answers"][0])(LOGITS)
    assert float(value) == 0
    assert not gradient.any()


def test_an_unknown_form():
    with pytest.raises(UserError, match=r"task.loss 'sigmod' is not one of: sigmoid, softmax. Did you mean 'sigmoid'\?"):
        answers(LOGITS, SCORES, "sigmod")
