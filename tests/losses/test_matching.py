"""Matching by hand: two classes in the order no, yes; weights; what a pair of weight 0 does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.losses.matching import matching

# P(yes) = 3/4, 1/4, 3/4.
LOGITS = jnp.log(jnp.array([[1.0, 3], [3, 1], [1, 3]]))


def test_by_hand():
    """-log 3/4 twice, for a yes and a no that are right, and -log 1/4 for a no that is not: log 64/9."""
    terms = matching(LOGITS, jnp.array([True, False, False]))
    assert [float(x) for x in terms["matching"]] == [pytest.approx(np.log(64 / 9)), 3]
    assert [float(x) for x in terms["accuracy/matching"]] == [2, 3]


def test_a_weight_is_a_repetition_and_zero_is_none():
    match, rows = jnp.array([True, False, False]), jnp.array([0, 0, 1])
    ours = matching(LOGITS, match, jnp.array([2.0, 1, 0]))
    repeated = matching(LOGITS[rows], match[rows])
    jax.tree.map(np.testing.assert_allclose, ours, repeated)
    gradient = jax.grad(lambda x: matching(x, match, jnp.array([2.0, 1, 0]))["matching"][0])(LOGITS)
    # p - onehot, times the weight.
    np.testing.assert_allclose(gradient, [[0.5, -0.5], [-0.25, 0.25], [0, 0]], atol=1e-6)


def test_equal_logits_say_no():
    terms = matching(jnp.zeros((2, 2)), jnp.array([True, False]))
    assert [float(x) for x in terms["accuracy/matching"]] == [1, 2]


def test_no_pair_costs_nothing():
    assert [float(x) for x in matching(LOGITS, jnp.ones(3, bool), jnp.zeros(3))["matching"]] == [0, 0]


def test_bfloat16_logits_are_summed_in_float32():
    assert matching(LOGITS.astype(jnp.bfloat16), jnp.ones(3, bool))["matching"][0].dtype == jnp.float32
