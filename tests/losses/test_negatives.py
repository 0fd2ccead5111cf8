"""Hard negatives: never a positive, drawn in proportion, the same in every form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core.keys import rows as keys
from mmjax.losses.negatives import fetch, gumbel, hard_negatives

ONE = jnp.float32(1)


@pytest.mark.parametrize(("form", "tile"), [("dense", 9), ("tiled", 2)])
def test_the_nearest_negative_by_hand(form, tile):
    """Cosines (rows: images) [[3, 2, 2], [5, 4, 4], [0, 9, 1]]; images 0 and 1 belong together in the second."""
    image, text = jnp.asarray([[3.0, 2, 2], [5, 4, 4], [0, 9, 1]]), jnp.eye(3)
    found = hard_negatives(image, text, ONE, jnp.arange(3), form=form, tile=tile)
    assert found["i2t"].tolist() == [1, 0, 1]  # row 0: of two equals the first
    assert found["t2i"].tolist() == [1, 2, 1]
    found = hard_negatives(image, text, ONE, jnp.asarray([0, 0, 1]), form=form, tile=tile)
    assert found["i2t"].tolist() == [2, 2, 1]
    assert found["t2i"].tolist() == [2, 2, 1]
    none = hard_negatives(image, text, ONE, jnp.zeros(3, jnp.int32), form=form, tile=tile)
    assert none["i2t"].tolist() == none["t2i"].tolist() == [-1, -1, -1]


def test_draws_are_the_same_in_every_form_and_tile():
    rng = np.random.default_rng(0)
    image, text = (jnp.asarray(x, jnp.float32) for x in rng.normal(size=(2, 7, 4)))
    args = image, text, ONE, jnp.asarray([0, 1, 2, 3, 0, 1, 4]), keys(jax.random.key(0), 7)
    plain = hard_negatives(*args, form="dense")
    for tile in (2, 3):
        jax.tree.map(np.testing.assert_array_equal, plain, hard_negatives(*args, form="tiled", tile=tile))


def test_negatives_are_drawn_in_proportion():
    """2,000 images alike; texts 1, 2 and 3 score ln 1, ln 2 and ln 5; all others are of their group, text 0 scoring highest."""
    n = 2000
    text = jnp.zeros((n, 1)).at[:4, 0].set(jnp.asarray([9.0, 0, np.log(2), np.log(5)]))
    group = jnp.where(jnp.arange(n) < 4, jnp.arange(n), 0)
    rows = jnp.arange(n) >= 4
    found = np.asarray(hard_negatives(jnp.ones((n, 1)), text, ONE, group, keys(jax.random.key(1), n), form="dense")["i2t"])
    share = np.bincount(found[np.asarray(rows)], minlength=4)[:4] / (n - 4)
    np.testing.assert_allclose(share, [0, 1 / 8, 2 / 8, 5 / 8], atol=0.035)  # three standard deviations at most


def test_scale_zero_draws_evenly():
    n = 3000
    even = jnp.zeros((n, 1))
    group = jnp.minimum(jnp.arange(n), 4)  # rows 4 to 2,999 are of one group: their negatives are rows 0 to 3
    found = np.asarray(hard_negatives(even, even, jnp.float32(0), group, keys(jax.random.key(2), n), form="dense")["t2i"])
    np.testing.assert_allclose(np.bincount(found[4:], minlength=4) / (n - 4), 1 / 4, atol=0.03)  # 4 standard deviations


def test_fetched_rows_are_those_at_the_places():
    x = {"a": jnp.asarray([[1.0, 2], [3, 4], [5, 6]]), "b": jnp.asarray([True, True, False])}
    found = fetch(x, jnp.asarray([2, -1, 0]))
    assert found["a"].tolist() == [[5, 6], [0, 0], [1, 2]]
    assert found["b"].tolist() == [False, False, True]


def test_noise_is_standard_gumbel():
    noise = np.asarray(gumbel(jax.random.bits(jax.random.key(0), (300,)), jnp.arange(300)))
    assert np.isfinite(noise).all()
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)  # Euler's constant; the mean of 90,000 is within 0.013 of it
    assert noise.var() == pytest.approx(np.pi**2 / 6, rel=0.03)
    # Neighbours in a row and in a column know nothing of each other.
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.015
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.015
