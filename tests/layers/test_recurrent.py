"""The GRU against its formula in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.core import module
from mmjax.layers.recurrent import GRU


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_gru_is_the_formula_and_pads_leave_the_state():
    gru = GRU(3, 2, rngs=module.rngs(jax.random.key(0)))
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
    w, b, u, c = (np.asarray(a[...]) for part in (gru.input, gru.hidden) for a in (part.kernel, part.bias))
    states = np.zeros((2, 4, 2))
    for i in range(2):
        h = np.zeros(2)
        for t in range(4):
            if mask[i, t]:
                a, d = x[i, t] @ w + b, h @ u + c
                r, z = sigmoid(a[:2] + d[:2]), sigmoid(a[2:4] + d[2:4])
                h = (1 - z) * np.tanh(a[4:] + r * d[4:]) + z * h
            states[i, t] = h
    np.testing.assert_allclose(gru(jnp.asarray(x), jnp.asarray(mask)), states, atol=1e-6)
    np.testing.assert_allclose(gru(jnp.asarray(x))[0], states[0], atol=1e-6)


def test_gru_starts_within_its_limit():
    gru = GRU(8, 16, rngs=module.rngs(jax.random.key(0)))
    for array in (gru.input.kernel, gru.hidden.kernel, gru.input.bias, gru.hidden.bias):
        largest = float(np.abs(array[...]).max())
        assert 0.2 < largest <= 0.25  # 1 / sqrt(16)
