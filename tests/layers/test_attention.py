"""Attention against its formula in numpy, at uneven sizes and with masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import keys, module, tap
from mmjax.core.errors import UserError
from mmjax.layers import attention as attentions
from mmjax.layers.attention import MultiHeadAttention
from mmjax.layers.init import xavier

B, T, S, N, D = 2, 5, 3, 2, 6


def make(width=D, heads=N, **options):
    attention = MultiHeadAttention(width, heads, init=xavier(width, 1), rngs=module.rngs(jax.random.key(0)), **options)
    for linear in (attention.query, attention.key, attention.value, attention.out):
        linear.bias[...] = jnp.linspace(-0.2, 0.3, width)  # zero biases would hide their loss
    return attention


def formula(attention, x, kv, mask=None):
    """Head by head, query by query."""
    q, k, v = (
        np.asarray(y) @ np.asarray(linear.kernel[...]) + np.asarray(linear.bias[...])
        for linear, y in ((attention.query, x), (attention.key, kv), (attention.value, kv))
    )
    y, h = np.zeros_like(q), q.shape[-1] // attention.heads
    for b in range(x.shape[0]):
        for n in range(attention.heads):
            part = slice(n * h, (n + 1) * h)
            for t in range(x.shape[1]):
                weight = np.exp(k[b, :, part] @ q[b, t, part] / np.sqrt(h))
                if mask is not None:
                    weight = weight * np.broadcast_to(mask, (x.shape[0], 1, x.shape[1], kv.shape[1]))[b, 0, t]
                y[b, t, part] = weight / weight.sum() @ v[b, :, part]
    return y @ np.asarray(attention.out.kernel[...]) + np.asarray(attention.out.bias[...])


def draw(length, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(B, length, D)), jnp.float32)


def causal():
    return np.tril(np.ones((1, 1, T, T), bool))


def padded():
    return np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)[:, None, None]


@pytest.mark.parametrize("implementation", ["plain", "fused"])
@pytest.mark.parametrize("mask", [None, causal(), padded(), causal() & padded()], ids=["none", "causal", "pad", "both"])
def test_self_attention_is_the_formula(implementation, mask):
    attention, x = make(implementation=implementation), draw(T)
    y = attention(x, mask=None if mask is None else jnp.asarray(mask))
    np.testing.assert_allclose(y, formula(attention, x, x, mask), atol=2e-6)


@pytest.mark.parametrize("implementation", ["plain", "fused"])
def test_cross_attention_is_the_formula(implementation):
    attention, x, kv = make(implementation=implementation), draw(T), draw(S, 2)
    mask = np.array([[1, 0, 1], [0, 1, 1]], bool)[:, None, None]
    y = attention(x, kv, jnp.asarray(mask))
    np.testing.assert_allclose(y, formula(attention, x, kv, mask), atol=2e-6)


@pytest.mark.parametrize("implementation", ["plain", "fused"])
def test_a_query_that_may_look_at_nothing_gets_nothing(implementation):
    attention, kv = make(implementation=implementation), draw(S, 2)
    mask = jnp.array([[1, 0, 1], [0, 0, 0]], bool)[:, None, None]

    @jax.jit
    @jax.value_and_grad
    def second(kv):
        return jnp.square(attention(draw(T), kv, mask)[1]).sum()

    y = attention(draw(T), kv, mask)
    np.testing.assert_allclose(y[1], np.broadcast_to(attention.out.bias[...], (T, D)), atol=1e-6)
    assert np.abs(y[0] - attention.out.bias[...]).max() > 0.1
    np.testing.assert_array_equal(second(kv)[1], 0)


def test_plain_and_fused_have_the_same_gradient():
    mask = jnp.asarray(causal() & padded())

    def gradient(implementation):
        attention = make(implementation=implementation)
        return jax.jit(jax.grad(lambda x: jnp.sin(attention(x, mask=mask)).sum()))(draw(T))

    np.testing.assert_allclose(gradient("plain"), gradient("fused"), atol=2e-6)


MASKS = {
    "none": None,
    "causal": np.tril(np.ones((T, T), bool))[None, None],
    "keys": np.arange(T)[None, None, None] < np.array([2, T])[:, None, None, None],
}


@pytest.mark.parametrize("name", MASKS)
def test_filled_up_lengths_change_nothing(name):
    q, k, v = (draw(T, i).reshape(B, T, N, -1) for i in range(3))
    mask = None if MASKS[name] is None else jnp.asarray(MASKS[name])

    def gradients(multiple):
        def value(q, k, v):
            return jnp.sin(attentions.padded(q, k, v, mask, None, multiple)).sum()

        return jax.jit(jax.grad(value, (0, 1, 2)))(q, k, v)

    plainly = gradients(1)
    for multiple in (4, 8):
        for ours, plain in zip(gradients(multiple), plainly, strict=True):
            np.testing.assert_allclose(ours, plain, atol=1e-6)  # float32


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's kernel needs a GPU")
@pytest.mark.parametrize("name", MASKS)
def test_the_kernel_on_a_gpu_is_the_formula_in_half_precision(name):
    q, k, v = (jax.random.normal(jax.random.key(i), (B, T, N, 16), jnp.bfloat16) for i in range(3))
    mask = None if MASKS[name] is None else jnp.asarray(MASKS[name])

    def gradient(attend):
        def value(q, k, v):
            return jnp.sin(attend(q, k, v).astype(jnp.float32)).sum()

        return jax.jit(jax.grad(value, (0, 1, 2)))(q, k, v)

    kernel = gradient(lambda *x: attentions.fused(*x, mask))
    plain = gradient(lambda *x: jax.nn.dot_product_attention(*x, mask=mask))
    for ours, theirs in zip(kernel, plain, strict=True):
        np.testing.assert_allclose(ours.astype(np.float32), theirs.astype(np.float32), atol=0.05)  # bfloat16 has 8 bits


def test_taps_probabilities_that_sum_to_one():
    with tap.frame() as out:
        make()(draw(T), draw(S, 2), name="cross")
    assert out["cross"].shape == (B, N, T, S)
    np.testing.assert_allclose(out["cross"].sum(-1), 1, rtol=1e-6)
    with tap.frame() as out:
        make(implementation="fused")(draw(T))
    assert not out


def test_bfloat16_computes_logits_in_float32():
    x = draw(T).astype(jnp.bfloat16)
    attention = make(dtype="bfloat16")
    assert attention(x).dtype == jnp.bfloat16
    assert f"f32[{B},{N},{T},{T}] = exp" in str(jax.make_jaxpr(attention)(x))


def test_dropout_needs_a_key_and_a_rate():
    x = draw(T)
    attention = make(dropout=0.5)
    np.testing.assert_array_equal(attention(x), make()(x))
    assert np.abs(attention(x, key=keys.rows(jax.random.key(0), len(x))) - attention(x)).max() > 1e-3
    assert "random" not in str(jax.make_jaxpr(make())(x, key=None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 6, "heads": 4}, "width 6 is not divisible by heads 4: use width 4 or 8"),
        ({"implementation": "fuse"}, "Did you mean 'fused'"),
        ({"implementation": "fused", "dropout": 0.1}, "'fused' has no dropout"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)
