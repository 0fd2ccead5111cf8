"""ResNet: size, shapes, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import keys, module, tap
from mmjax.core.errors import UserError
from mmjax.models.resnet import Residual, ResNet

SMALL = {"stages": (1, 1), "widths": (4, 8), "block": "basic", "stem": "small", "stem_width": 4}


def resnet(**options):
    return module.define(lambda key: ResNet(**options, rngs=module.rngs(key)))


def fill(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.1, 0.5, a.shape), a.dtype), shapes)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_resnet_50_has_the_published_size():
    """torchvision's resnet50 has 25,557,032 parameters, 2,049,000 of them in the classifier."""
    model = resnet()
    assert count(model.abstract["params"]) == 25_557_032 - 2_049_000
    assert count(model.abstract["stats"]) == 2 * 26_560  # mean and variance of each channel that is normalised


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_small_tower_for_32_pixels(norm):
    model = resnet(stages=(1, 1, 1, 1), widths=(8, 8, 16, 16), block="basic", norm=norm, groups=4, stem="small", stem_width=8)
    params, stats = fill(model.abstract["params"]), fill(model.abstract["stats"])
    assert bool(stats) == (norm == "batch")

    @jax.jit
    def run(params, stats, x):
        with tap.frame() as out:
            y = model.bind(params, stats)(x)
        return y, out

    y, out = run(params, stats, jnp.ones((2, 32, 32, 3)))
    assert [out[f"stage{i}"].shape[1:] for i in (1, 2, 3, 4)] == [(32, 32, 8), (16, 16, 8), (8, 8, 16), (4, 4, 16)]
    assert out["tokens"].shape == (2, 16, 16)
    np.testing.assert_allclose(y, out["stage4"].mean((1, 2)), rtol=1e-5)


def test_imagenet_stem_quarters_the_picture():
    model = resnet(stages=(1,), widths=(8,), norm="group", groups=2, stem_width=4)
    out = jax.eval_shape(lambda p, x: model.bind(p).tokens(x), model.abstract["params"], jnp.ones((1, 64, 32, 3)))
    assert out.shape == (1, 16 * 8, 8)


def test_a_key_means_training():
    model = resnet(**SMALL)
    params, stats = fill(model.abstract["params"]), fill(model.abstract["stats"])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 6, 3)), jnp.float32)

    def after(model, key):
        @jax.jit
        def run(params, stats, x):
            bound = model.bind(params, stats)
            return bound(x, key), model.stats(bound)

        return run(params, stats, x)

    still, unchanged = after(model, None)
    jax.tree.map(np.testing.assert_array_equal, unchanged, stats)
    trained, moved = after(model, keys.rows(jax.random.key(0), len(x)))
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(stats), strict=True))
    assert np.abs(trained - still).max() > 1e-3
    frozen = model.freeze({f"stem/norm/{leaf}" for leaf in ("scale", "bias")})
    _, partly = after(frozen, keys.rows(jax.random.key(0), len(x)))
    np.testing.assert_array_equal(partly["stem"]["norm"]["mean"], stats["stem"]["norm"]["mean"])
    assert np.abs(partly["stages"]["0"]["0"]["convs"]["0"]["norm"]["mean"] - 0.3).max() > 0


@pytest.mark.parametrize(("block", "strides"), [("basic", [2, 1]), ("bottleneck", [1, 2, 1])])
def test_the_3x3_convolution_takes_the_stride(block, strides):
    part = Residual(4, 8, block=block, stride=2, groups=2, rngs=module.rngs(jax.random.key(0)))
    assert [conv.conv.strides[0] for conv in part.convs] == strides
    assert part.shortcut.conv.strides[0] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "botleneck"}, "block: unknown name 'botleneck'.*Did you mean 'bottleneck'"),
        ({"stages": (1, 1), "widths": (4,)}, "differ in length: give one width a stage"),
        ({"norm": "group", "groups": 3}, "width 4 is not divisible by groups 3"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        resnet(**{**SMALL, **options})
