"""Masked tokens by hand: sums and counts, what is not counted, and the teacher's share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.losses.tokens import masked_tokens

# Probabilities (1/4, 1/4, 1/2) at every position.
LOGITS = jnp.broadcast_to(jnp.log(jnp.array([1.0, 1, 2])), (2, 3, 3))
LABELS = jnp.array([[-1, 0, 2], [-1, -1, 2]])


def test_by_hand():
    """-log 1/4 once and -log 1/2 twice are 4 log 2; the two 2s are guessed."""
    terms = masked_tokens(LOGITS, LABELS)
    total, count = terms["masked_tokens"]
    assert (float(total), float(count)) == (pytest.approx(4 * np.log(2)), 3)
    assert [float(x) for x in terms["accuracy/masked_tokens"]] == [2, 3]


def test_the_teacher_has_its_share():
    """A teacher sure of token 1 costs log 4 at each of 3 positions: (3/4) 4 log 2 + (1/4) 6 log 2 = 4.5 log 2."""
    teacher = jnp.broadcast_to(jnp.array([-1e3, 0.0, -1e3]), LOGITS.shape)
    terms = masked_tokens(LOGITS, LABELS, teacher, 0.25)
    assert float(terms["masked_tokens"][0]) == pytest.approx(4.5 * np.log(2))
    assert float(terms["accuracy/masked_tokens"][0]) == 2  # by the labels, whatever the teacher says
    for alpha, by in ((0.0, LABELS), (1.0, jnp.where(LABELS < 0, -1, 1))):
        mixed, plain = masked_tokens(LOGITS, LABELS, teacher, alpha), masked_tokens(LOGITS, by)
        assert float(mixed["masked_tokens"][0]) == pytest.approx(float(plain["masked_tokens"][0]))


def test_gradients_are_probabilities_less_targets():
    """At hidden positions p - (1 - alpha) onehot - alpha q; elsewhere none, and none for the teacher."""
    rng = np.random.default_rng(0)
    logits, teacher = (jnp.asarray(x, jnp.float32) for x in rng.normal(size=(2, 2, 3, 3)))

    def total(logits, teacher):
        return masked_tokens(logits, LABELS, teacher, 0.4)["masked_tokens"][0]

    ours, theirs = jax.grad(total, argnums=(0, 1))(logits, teacher)
    target = 0.6 * jax.nn.one_hot(LABELS, 3) + 0.4 * jax.nn.softmax(teacher)
    wanted = jnp.where(LABELS[..., None] < 0, 0, jax.nn.softmax(logits) - target)
    np.testing.assert_allclose(ours, wanted, atol=1e-6)  # float32, numbers near 1
    assert not theirs.any()


def test_nothing_hidden_costs_nothing():
    value, gradient = jax.value_and_grad(lambda x: masked_tokens(x, jnp.full((2, 3), -1))["masked_tokens"][0])(LOGITS)
    assert float(value) == 0
    assert not gradient.any()


def test_bfloat16_logits_are_summed_in_float32():
    total, count = masked_tokens(LOGITS.astype(jnp.bfloat16), LABELS)["masked_tokens"]
    assert total.dtype == count.dtype == jnp.float32
    assert float(total) == pytest.approx(4 * np.log(2), rel=1e-2)  # bfloat16 keeps 8 bits of log 2


def test_a_label_beyond_the_vocabulary_is_noticed():
    assert np.isnan(masked_tokens(LOGITS, LABELS.at[0, 1].set(3))["masked_tokens"][0])


def test_a_teacher_without_a_share():
    with pytest.raises(ValueError, match="or neither"):
        masked_tokens(LOGITS, LABELS, LOGITS)
    with pytest.raises(ValueError, match="or neither"):
        masked_tokens(LOGITS, LABELS, alpha=0.4)
