"""Contrastive losses against their formulas in plain numpy, float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.losses.contrastive import logits, positives, sigmoid, softmax

SHAPES = [(2, 3), (5, 7), (8, 1)]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def draw(batch, width, seed=0):
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(2, batch, width))
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
    return image, text, np.float64(3.7), np.float64(-1.2)


def groups(batch):
    """0 0 1 2 3 ...: the first two belong together."""
    return np.maximum(np.arange(batch) - 1, 0)


def numpy_softmax(image, text, scale, bias, group, direction="both"):
    """(sum, gradient with respect to the logits): softmax - uniform over the positives, a direction."""
    table = scale * image @ text.T + bias
    target = (group[:, None] == group).astype(float)
    total, slope = 0.0, np.zeros_like(table)
    for axis in {"both": (1, 0), "i2t": (1,), "t2i": (0,)}[direction]:
        uniform = target / target.sum(axis, keepdims=True)
        exp = np.exp(table - table.max(axis, keepdims=True))
        p = exp / exp.sum(axis, keepdims=True)
        total -= (uniform * np.log(p)).sum()
        slope += p - uniform
    return total, slope


def numpy_sigmoid(image, text, scale, bias, group):
    """(sum, gradient with respect to the logits) of SigLIP's eq. 1: log(1 + exp(-y l))."""
    table = scale * image @ text.T + bias
    y = np.where(group[:, None] == group, 1.0, -1.0)
    return np.log1p(np.exp(-y * table)).sum(), -y / (1 + np.exp(y * table))


def through(slope, image, text, scale):
    """Gradients of image, text, scale and bias from that of logits = scale * image @ text.T + bias."""
    return scale * slope @ text, scale * slope.T @ image, (slope * (image @ text.T)).sum(), slope.sum()


def assert_same(loss, formula, inputs, group, **options):
    own = jax.value_and_grad(lambda *xs: loss(*xs, jnp.asarray(group), **options)["contrastive"][0], (0, 1, 2, 3))
    value, grads = jax.jit(own)(*inputs)
    wanted, slope = formula(*inputs, group, **options)
    assert value == pytest.approx(wanted, rel=1e-12)
    for found, expected in zip(grads, through(slope, *inputs[:3]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.smoke
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("grouped", [False, True])
def test_softmax_is_its_formula_in_value_and_gradient(x64, shape, grouped):
    group = groups(shape[0]) if grouped else np.arange(shape[0])
    assert_same(softmax, numpy_softmax, draw(*shape), group)


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_each_direction_of_softmax_is_its_formula(x64, direction):
    assert_same(softmax, numpy_softmax, draw(5, 7), groups(5), direction=direction)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("grouped", [False, True])
def test_sigmoid_is_its_formula_in_value_and_gradient(x64, shape, grouped):
    group = groups(shape[0]) if grouped else np.arange(shape[0])
    assert_same(sigmoid, numpy_sigmoid, draw(*shape), group)


def two_by_two():
    """Logits [[ln 3, 0], [0, ln 3]]."""
    return jnp.eye(2), jnp.eye(2), jnp.float32(math.log(3)), jnp.float32(0)


@pytest.mark.smoke
def test_softmax_of_two_pairs_by_hand():
    """Each of the two rows and two columns gives its pair 3 / (3 + 1): ln(4 / 3)."""
    total, count = softmax(*two_by_two(), jnp.arange(2))["contrastive"]
    assert float(total) == pytest.approx(4 * math.log(4 / 3), rel=1e-6)
    assert float(count) == 4
    one_way, half = softmax(*two_by_two(), jnp.arange(2), direction="i2t")["contrastive"]
    assert (float(one_way), float(half)) == (pytest.approx(2 * math.log(4 / 3), rel=1e-6), 2)


def test_softmax_of_two_pairs_of_one_group_by_hand():
    """Each row's target is (1/2, 1/2) and its prediction (3/4, 1/4): (ln(4/3) + ln 4) / 2."""
    total, count = softmax(*two_by_two(), jnp.zeros(2, jnp.int32))["contrastive"]
    assert float(total / count) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-6)


@pytest.mark.smoke
def test_sigmoid_of_two_pairs_by_hand():
    """Pairs: -ln(3/4) each; the others have logit 0: ln 2 each. The count is the batch, not its pairs."""
    total, count = sigmoid(*two_by_two(), jnp.arange(2))["contrastive"]
    assert float(total) == pytest.approx(2 * math.log(4 / 3) + 2 * math.log(2), rel=1e-6)
    assert float(count) == 2


@pytest.mark.parametrize("batch", [2, 5, 16])
def test_softmax_of_equal_logits_is_log_batch(batch):
    image, text, _, bias = (jnp.asarray(x, jnp.float32) for x in draw(batch, 4))
    total, count = softmax(image, text, jnp.float32(0), bias, jnp.arange(batch))["contrastive"]
    assert float(total / count) == pytest.approx(math.log(batch), rel=1e-5)
    assert float(count) == 2 * batch


def test_softmax_does_not_overflow():
    image = 100 * jnp.eye(3)
    total, _ = softmax(image, -image, jnp.float32(100), jnp.float32(0), jnp.arange(3))["contrastive"]
    assert float(total) == pytest.approx(6 * (1e6 + math.log(2)), rel=1e-6)


def test_half_precision_embeddings_are_multiplied_in_float32():
    image = jnp.ones((2, 512), jnp.bfloat16) * 1.0078125
    table = logits(image, image, jnp.float32(1), jnp.float32(0))
    assert table.dtype == jnp.float32
    assert float(table[0, 0]) == 512 * 1.0078125**2


def test_an_unknown_direction_is_named():
    with pytest.raises(UserError, match="direction 'left' is not one of: both, i2t, t2i"):
        softmax(*two_by_two(), jnp.arange(2), direction="left")


def test_positives_are_equal_groups():
    assert positives(jnp.asarray([4, 7, 4])).tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def accuracies(image, text, group, loss=softmax, **options):
    terms = loss(image, text, jnp.float32(1), jnp.float32(0), group, **options)
    assert float(terms["accuracy/i2t"][1]) == float(terms["accuracy/t2i"][1]) == len(image)
    return [float(terms[f"accuracy/{way}"][0]) for way in ("i2t", "t2i")]


@pytest.mark.parametrize("loss", [softmax, sigmoid])
@pytest.mark.parametrize("form", ["dense", "tiled"])
def test_accuracy_asks_whether_every_negative_scores_below_the_best_positive(loss, form):
    """Cosines (rows: images) [[3, 2, 2], [5, 4, 4], [0, 9, 1]]."""
    image, text = jnp.asarray([[3.0, 2, 2], [5, 4, 4], [0, 9, 1]]), jnp.eye(3)
    # Row 0 alone is right; no column is.
    assert accuracies(image, text, jnp.arange(3), loss, form=form, tile=2) == [1, 0]
    # Row 1 too: text 0 is a positive of it, and the best. Column 0: of images 0 and 1 the second scores 5, above 0.
    assert accuracies(image, text, jnp.asarray([0, 0, 1]), loss, form=form, tile=2) == [2, 1]
    # A tie is wrong, so that a collapsed batch is all wrong.
    assert accuracies(jnp.ones((4, 2)), jnp.ones((4, 2)), jnp.arange(4), loss, form=form, tile=2) == [0, 0]
    # With no negative there is nothing to be mistaken for.
    assert accuracies(image, text, jnp.zeros(3, jnp.int32), loss, form=form, tile=2) == [3, 3]
