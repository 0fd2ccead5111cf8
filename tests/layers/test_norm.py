"""Norms against numpy; running statistics against PyTorch's rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import module
from mmjax.core.errors import UserError
from mmjax.layers.conv import ConvNorm
from mmjax.layers.norm import BatchNorm, GroupNorm, LayerNorm

X = np.array([[1.0, 3.0, 5.0, 7.0], [2.0, 2.0, 4.0, 12.0], [0.0, 1.0, 3.0, 2.0]], np.float32)


def test_layer_norm():
    """Row [1, 3, 5, 7] has mean 4 and variance 5."""
    norm = LayerNorm(4, eps=1.0)
    norm.scale[...], norm.bias[...] = jnp.array([1.0, 2.0, 1.0, 1.0]), jnp.array([0.0, 0.0, 0.0, 5.0])
    row = np.array([-3, -2, 1, 3 + 5 * np.sqrt(6)]) / np.sqrt(6)  # eps 1 makes the divisor sqrt(6)
    np.testing.assert_allclose(norm(jnp.asarray(X))[0], row, rtol=1e-6)


def test_layer_norm_keeps_small_differences_on_a_large_mean():
    """At mean 10,000 the variance by mean(x^2) - mean(x)^2 has no correct digit left in float32."""
    y = LayerNorm(4, eps=0.0)(jnp.asarray(X[:1] + 10_000))
    np.testing.assert_allclose(y[0], np.array([-3, -1, 1, 3]) / np.sqrt(5), rtol=1e-3)


def test_layer_norm_keeps_its_input_alone_for_the_backward_pass():
    """Neither the centred nor the normalised array; the gradient of y . w is that of numpy's formula by differences."""
    norm, w = LayerNorm(4, eps=1e-3), np.arange(12.0).reshape(3, 4)
    _, pull = jax.vjp(norm, jnp.asarray(X))
    kept = [x for x in jax.tree.leaves(pull) if x.shape == X.shape]
    assert len(kept) == 1
    np.testing.assert_array_equal(kept[0], X)

    def formula(x):
        centred = x - x.mean(-1, keepdims=True)
        return (w * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3)).sum()

    steps = 1e-5 * np.eye(12).reshape(12, 3, 4)
    slope = np.array([(formula(X + step) - formula(X - step)) / 2e-5 for step in steps]).reshape(3, 4)
    np.testing.assert_allclose(pull(jnp.asarray(w, jnp.float32))[0], slope, atol=1e-4)


def test_layer_norm_casts_last():
    y = LayerNorm(4, dtype="bfloat16")(jnp.asarray(X, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, LayerNorm(4)(jnp.asarray(X)).astype(jnp.bfloat16))


def test_group_norm():
    """Two positions, two groups of two channels: group one of example one holds 1, 3, 2, 2 (mean 2, variance 0.5)."""
    y = GroupNorm(4, groups=2, eps=0.0)(jnp.asarray(X[None, :2, None]))
    np.testing.assert_allclose(y[0, :, 0, :2], np.array([[-1, 1], [0, 0]]) / np.sqrt(0.5), atol=1e-6)
    np.testing.assert_allclose(y[0, :, 0, 2:], np.array([[-2, 0], [-3, 5]]) / np.sqrt(9.5), atol=1e-6)
    with pytest.raises(UserError, match="width 6 is not divisible by groups 4"):
        GroupNorm(6, groups=4)


def batch_norm(frozen=()):
    return module.define(lambda key: BatchNorm(4)).freeze(frozen)


def test_batch_norm_training_and_running_statistics():
    model = batch_norm()
    params, stats = model.init(jax.random.key(0))
    norm = model.bind(params, stats)
    y = norm(jnp.asarray(X), train=True)
    np.testing.assert_allclose(y, (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-5), rtol=1e-5, atol=1e-6)
    after = model.stats(norm)
    np.testing.assert_allclose(after["mean"], 0.1 * X.mean(0), rtol=1e-6)
    np.testing.assert_allclose(after["var"], 0.9 + 0.1 * X.var(0, ddof=1), rtol=1e-6)
    np.testing.assert_array_equal(stats["mean"], 0)  # what was bound is not changed behind the caller's back


def test_batch_norm_inference_uses_running_statistics():
    model = batch_norm()
    params, _ = model.init(jax.random.key(0))
    stats = {"mean": jnp.full(4, 2.0), "var": jnp.full(4, 4.0)}
    norm = model.bind(params, stats)
    np.testing.assert_allclose(norm(jnp.asarray(X), train=False), (X - 2) / 2, rtol=1e-5)
    np.testing.assert_array_equal(model.stats(norm)["mean"], stats["mean"])


def test_frozen_batch_norm_does_not_update():
    model = batch_norm({"scale", "bias"})
    params, stats = model.init(jax.random.key(0))
    norm = model.bind(params, stats)
    np.testing.assert_allclose(norm(jnp.asarray(X), train=True), X, rtol=1e-4)  # running mean 0, variance 1
    np.testing.assert_array_equal(model.stats(norm)["mean"], 0)
    half = batch_norm({"scale"})  # a bias that still trains keeps the statistics alive
    norm = half.bind(params, stats)
    norm(jnp.asarray(X), train=True)
    assert np.abs(half.stats(norm)["mean"]).max() > 0


@pytest.mark.parametrize("remat", ["none", "full"])
def test_scanned_layers_record_their_statistics(remat):
    """Two stacked layers: the first sees the input, the second the first's output."""
    model = module.define(lambda key: module.stack(lambda rngs: ConvNorm(4, 4, 1, rngs=rngs), 2, module.rngs(key)))
    params, stats = model.init(jax.random.key(0))
    x = jnp.asarray(X)[:, None, None]

    def run(params):
        blocks = model.bind(params, stats)
        y = module.scan(blocks, lambda block, x, _: block(x, True), x, remat=remat)
        return jnp.square(y).sum(), model.stats(blocks)

    (_, after), _ = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    first = np.asarray(x) @ np.asarray(params["conv"]["kernel"][0, 0, 0])
    np.testing.assert_allclose(after["norm"]["mean"][0], 0.1 * first.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
    second = (first - first.mean((0, 1, 2))) / np.sqrt(first.var((0, 1, 2)) + 1e-5)
    second = second @ np.asarray(params["conv"]["kernel"][1, 0, 0])
    expected = 0.9 + 0.1 * second.reshape(3, 4).var(0, ddof=1)
    np.testing.assert_allclose(after["norm"]["var"][1], expected, rtol=1e-4)


def test_conv_pads_as_pytorch():
    """A kernel of ones with stride 2 over 4 x 4 ones: the padded corner sees 2 x 2, the edges 2 x 3, the middle 3 x 3."""
    conv = ConvNorm(1, 1, 3, stride=2, groups=1, rngs=module.rngs(jax.random.key(0))).conv
    conv.kernel[...] = jnp.ones((3, 3, 1, 1))
    np.testing.assert_array_equal(conv(jnp.ones((1, 4, 4, 1)))[0, :, :, 0], [[4, 6], [6, 9]])
