"""Pools: which positions they read."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.core import module, tap
from mmjax.layers import pool

X = jnp.asarray([[[1.0], [2.0], [6.0]], [[4.0], [8.0], [9.0]]])
MASK = jnp.asarray([[True, True, False], [True, True, True]])


def test_mean():
    np.testing.assert_allclose(pool.mean(X), [[3], [7]])
    np.testing.assert_allclose(pool.mean(X, MASK), [[1.5], [7]])
    np.testing.assert_array_equal(pool.mean(X, jnp.zeros((2, 3), bool)), 0)


def test_last():
    np.testing.assert_array_equal(pool.last(X), [[6], [9]])
    np.testing.assert_array_equal(pool.last(X, MASK), [[2], [9]])


def test_eos_is_the_first_one():
    ids = jnp.asarray([[5, 7, 7], [5, 6, 6]])
    np.testing.assert_array_equal(pool.eos(X, ids, 7), [[2], [9]])  # the second text has none: its last position


def test_map_pool():
    """With zero value kernels the probe reads the value bias alone; masked positions make no difference."""
    head = pool.MapPool(4, 2, 3, rngs=module.rngs(jax.random.key(0)))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)
    with tap.frame() as out:
        y = head(x, MASK)
    assert (y.shape, out["pool_attention"].shape) == ((2, 4), (2, 2, 1, 3))
    np.testing.assert_array_equal(out["pool_attention"][0, :, 0, 2], 0)
    np.testing.assert_allclose(head(x.at[0, 2].add(5.0), MASK), y, atol=1e-6)
    assert np.abs(head(x.at[0, 1].add(5.0), MASK) - y).max() > 1e-3
    head.attn.value.kernel[...] = jnp.zeros((4, 4))
    head.attn.value.bias[...] = jnp.arange(4.0)
    a = head.attn.out(jnp.arange(4.0)[None])
    np.testing.assert_allclose(head(x)[:1], a + head.mlp(head.ln(a)), rtol=1e-5, atol=1e-6)


def test_query_pool_sees_one_position_whatever_it_asks():
    build = module.define(lambda key: pool.QueryPool(4, queries=3, dim=6, heads=2, rngs=module.rngs(key)))
    params, _ = build.init(jax.random.key(0))
    x = jnp.asarray([[[1.0, 2.0, 4.0, 9.0]], [[2.0, 0.0, 1.0, 5.0]]])
    live = build.bind(params)
    found = live(x)
    assert found.shape == (2, 3, 6)
    # Of one position the attention is 1: each query gets its value.
    value = live.attn.out(live.attn.value(live.ln_key(x)))
    np.testing.assert_allclose(found, np.repeat(value, 3, axis=1), atol=1e-6)
