"""The depthwise convolution against XLA's grouped one: values and gradients, at even and odd sides and strides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.layers.conv import depthwise


def grouped(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1]
    )


@pytest.mark.parametrize("n, stride, h, w", [(3, 1, 5, 4), (3, 2, 6, 7), (5, 2, 7, 6), (5, 1, 3, 5), (1, 2, 5, 5)])
def test_it_is_the_grouped_convolution(n, stride, h, w):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, h, w, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(n, n, 1, 3)), jnp.float32)
    ours = jax.vjp(lambda x, k: depthwise(x, k, (stride, stride), "SAME"), x, kernel)
    theirs = jax.vjp(lambda x, k: grouped(x, k, stride), x, kernel)
    assert ours[0].shape == theirs[0].shape
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    cotangent = jnp.asarray(rng.normal(size=ours[0].shape), jnp.float32)
    for a, b in zip(ours[1](cotangent), theirs[1](cotangent), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
