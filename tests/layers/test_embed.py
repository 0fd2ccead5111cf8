"""Patches, tokens, position tables and what is dropped from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import keys, module
from mmjax.core.errors import UserError
from mmjax.layers.drop import dropout, patch_dropout, token_dropout
from mmjax.layers.embed import PatchEmbedding, TokenEmbedding, grid
from mmjax.layers.position import resize, sincos_1d, sincos_2d


def test_patches_are_a_linear_map_of_each_square():
    embed = PatchEmbedding(2, 5, rngs=module.rngs(jax.random.key(0)))
    embed.conv.bias[...] = jnp.arange(5.0)
    images = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    y = embed(jnp.asarray(images))
    assert y.shape == (2, 2, 3, 5)
    square = images[1, 2:4, 4:6].reshape(-1)
    expected = square @ np.asarray(embed.conv.kernel[...]).reshape(-1, 5) + np.arange(5)
    np.testing.assert_allclose(y[1, 1, 2], expected, rtol=1e-5, atol=1e-6)


def test_a_patch_that_does_not_fit():
    assert grid(224, 16) == 14
    with pytest.raises(UserError, match="size 225 is not divisible by patch 16: use size 224 or 240"):
        grid(225, 16)
    with pytest.raises(UserError, match="size 3 is not divisible by patch 4: use size 4, or"):
        PatchEmbedding(4, 5, rngs=module.rngs(jax.random.key(0)))(jnp.ones((1, 4, 3, 3)))


def test_tokens_are_rows_and_foreign_ids_show():
    embed = TokenEmbedding(4, 3, std=0.02, rngs=module.rngs(jax.random.key(0)))
    y = embed(jnp.array([[2, 0, 7]]))
    np.testing.assert_array_equal(y[0, :2], embed.embedding[...][jnp.array([2, 0])])
    assert np.isnan(y[0, 2]).all()


def test_sincos_tables():
    """At D = 4 the two frequencies are 1 and 1/100."""
    np.testing.assert_allclose(sincos_1d(3, 4)[2], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)])
    # Row 1, column 2 of a 2 x 3 grid is patch 5; at D = 4 each direction has the one frequency 1.
    np.testing.assert_allclose(sincos_2d(2, 3, 4)[5], [np.sin(2), np.cos(2), np.sin(1), np.cos(1)])
    with pytest.raises(UserError, match="width 6 is not divisible by 4"):
        sincos_2d(2, 2, 6)
    with pytest.raises(UserError, match="width 3 is odd"):
        sincos_1d(2, 3)


def test_resize_to_the_same_grid_is_the_identity():
    table = jnp.arange(14.0).reshape(7, 2)
    assert resize(table, (2, 3), (2, 3)) is table


def test_resize_keeps_the_class_row_and_interpolates():
    """A ramp halved with an antialiased triangle: 0..3 -> weights 3, 3, 1 (edge) over 7, and 1, 3, 3, 1 over 8 inside."""
    table = jnp.array([[9.0], [0.0], [1.0], [2.0], [3.0]])
    y = resize(table, (1, 4), (1, 2), "bilinear")
    np.testing.assert_allclose(y, [[9], [5 / 7], [16 / 7]], rtol=1e-6)
    up = resize(jnp.ones((4, 2)), (2, 2), (3, 5))
    np.testing.assert_allclose(up, np.ones((15, 2)), rtol=1e-6)


@pytest.mark.parametrize(("rate", "kept"), [(0.7, 3), (0.5, 5), (0.75, 3), (0.99, 1)])
def test_patch_dropout_keeps_a_subset_in_order(rate, kept):
    x = jnp.broadcast_to(jnp.arange(10.0)[None, :, None], (4, 10, 2))
    y = np.asarray(patch_dropout(x, rate, keys.rows(jax.random.key(0), len(x))))[:, :, 0]
    assert y.shape == (4, kept)
    assert (np.diff(y, axis=1) > 0).all()  # each once, in order
    if kept > 1:
        assert len({tuple(row) for row in y}) > 1  # each example its own


def test_nothing_is_dropped_without_key_or_rate():
    x = jnp.ones((2, 3, 4))
    for drop in (dropout, token_dropout, patch_dropout):
        assert drop(x, 0.5, None) is x
        assert drop(x, 0.0, keys.rows(jax.random.key(0), len(x))) is x


def test_dropout_scales_and_token_dropout_hides_whole_tokens():
    x = jnp.ones((50, 20, 4), jnp.bfloat16)
    y = np.asarray(dropout(x, 0.5, keys.rows(jax.random.key(0), len(x))), np.float32)
    assert set(np.unique(y)) == {0, 2}
    assert abs(y.mean() - 1) < 0.1
    y = np.asarray(token_dropout(x, 0.25, keys.rows(jax.random.key(0), len(x))), np.float32)
    assert set(np.unique(y.sum(-1))) == {0, 4}
    assert abs(y.mean() - 0.75) < 0.1


@pytest.mark.smoke
@pytest.mark.parametrize("drop", [dropout, token_dropout, patch_dropout])
def test_an_example_loses_the_same_whatever_it_is_computed_with(drop):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 10, 3)), jnp.float32)
    key = keys.rows(jax.random.key(0), len(x))
    whole = np.asarray(drop(x, 0.5, key))
    parts = np.concatenate([drop(x[i:j], 0.5, key[i:j]) for i, j in ((0, 1), (1, 5), (5, 6))])
    np.testing.assert_array_equal(whole, parts)
    shuffled = np.asarray([4, 0, 5, 2, 1, 3])
    np.testing.assert_array_equal(whole[shuffled], drop(x[shuffled], 0.5, key[shuffled]))


def test_resize_as_torch_does():
    # From four places to two, the first lies at 0.5 of the old ones: weights -3/32, 19/32, 19/32, -3/32 of places -1, 0, 1, 2,
    # where -1 is the edge again.
    table = jnp.asarray(np.eye(4, dtype=np.float32))
    found = resize(table, (1, 4), (1, 2), "torch")
    np.testing.assert_allclose(found, [[0.5, 0.59375, -0.09375, 0], [0, -0.09375, 0.59375, 0.5]], atol=1e-6)
    np.testing.assert_allclose(resize(jnp.ones((5, 2)), (2, 2), (3, 5), "torch"), np.ones((16, 2)), atol=1e-6)
