"""Votes and logits of frozen features, computed by hand."""

import numpy as np
import pytest

from mmjax.metrics import probe


def test_votes_of_the_nearest():
    train = np.array([[2.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    labels = np.array([0, 1, 1, 2])
    votes = probe.neighbours(train, labels, np.array([[3.0, 0.0], [0.0, -1.0]]), 4, k=2, temperature=0.5)
    # Cosines of the first with the four are 1, 0, 0.6, -1; of the second 0, -1, -0.8, 0.
    np.testing.assert_allclose(votes[0], [np.exp(2), np.exp(1.2), 0, 0])
    np.testing.assert_allclose(votes[1], [1, 0, 1, 0])
    assert probe.neighbours(train, labels, train, 3, k=99).shape == (4, 3)  # fewer than k: all of them vote


def test_tiles_of_votes_are_the_whole():
    rng = np.random.default_rng(0)
    train, labels, test = rng.normal(size=(30, 4)), rng.integers(0, 3, 30), rng.normal(size=(7, 4))
    whole = probe.neighbours(train, labels, test, 3, k=5)
    np.testing.assert_allclose(probe.neighbours(train, labels, test, 3, k=5, tile=2), whole)


def test_logistic_regression_of_two_points():
    """For x = -1 and 1 of classes 0 and 1, W = (-a, a) is the minimum where sigmoid(-2a) = l2 a; a = 1/2 at this l2."""
    l2 = 2 / (1 + np.e)
    logits = probe.linear(np.array([[-1.0], [1.0]]), np.array([0, 1]), np.array([[1.0], [3.0]]), 2, l2=l2)
    np.testing.assert_allclose(logits, [[-0.5, 0.5], [-1.5, 1.5]], atol=1e-4)


def test_a_shifted_and_scaled_feature_is_the_same_feature():
    rng = np.random.default_rng(0)
    train, labels, test = rng.normal(size=(40, 3)), rng.integers(0, 3, 40), rng.normal(size=(5, 3))
    a = probe.linear(train, labels, test, 3, l2=0.1)
    b = probe.linear(5 + 100 * train, labels, 5 + 100 * test, 3, l2=0.1)
    np.testing.assert_allclose(a, b, atol=1e-4)
    assert pytest.approx(0, abs=1e-4) == a.sum()  # logits of all classes add up to nought: W is penalised
