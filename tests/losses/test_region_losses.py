"""Losses of masked regions against numbers computed by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.losses import regions

WEIGHT = jnp.array([[1.0, 0.0], [0.5, 0.0]])


def test_feature_regression():
    prediction = jnp.array([[[0.5, 3.0], [9.0, 9.0]], [[-2.0, 0.0], [0.0, 0.0]]])
    target = jnp.array([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [np.nan, np.inf]]])
    # Huber: (0.125 + 1.5) / 2, and half of (1.5 + 0) / 2. Squares: (0.25 + 4) / 2, and half of (4 + 0) / 2.
    total, count = regions.feature(prediction, target, WEIGHT)["region_feature"]
    assert (float(total), float(count)) == (0.8125 + 0.375, 2)
    total, _ = regions.feature(prediction, target, WEIGHT, smooth=False)["region_feature"]
    assert float(total) == 2.125 + 1.0
    gradient = jax.grad(lambda x: regions.feature(x, target, WEIGHT)["region_feature"][0])(prediction)
    np.testing.assert_array_equal(gradient, [[[0.25, 0.5], [0, 0]], [[-0.25, 0], [0, 0]]])


def test_label():
    logits = jnp.log(jnp.array([[[0.25, 0.75], [0.5, 0.5]], [[0.5, 0.5], [0.1, 0.9]]]))
    target = jnp.array([[1, 7], [0, -1]])
    terms = regions.label(logits, target, WEIGHT, term="region_attribute")
    total, count = terms["region_attribute"]
    assert float(total) == pytest.approx(-math.log(0.75) - 0.5 * math.log(0.5))
    assert float(count) == 2


def test_distribution():
    logits = jnp.log(jnp.array([[[0.25, 0.75], [0.5, 0.5]], [[0.5, 0.5], [0.1, 0.9]]]))
    target = jnp.array([[[0.5, 0.5], [np.nan, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])
    value = jax.value_and_grad(lambda x: regions.distribution(x, target, WEIGHT)["region_distribution"][0])
    total, gradient = value(logits)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(1 / 0.5)
    assert float(total) == pytest.approx(expected)
    np.testing.assert_allclose(gradient, [[[-0.25, 0.25], [0, 0]], [[0.25, -0.25], [0, 0]]], atol=1e-6)
    same = regions.distribution(logits, jax.nn.softmax(logits), jnp.ones((2, 2)))["region_distribution"]
    assert float(same[0]) == pytest.approx(0, abs=1e-6)
    assert float(same[1]) == 4
