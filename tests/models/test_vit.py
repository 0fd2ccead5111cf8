"""The Vision Transformer: what its options change, and other picture sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import keys, module, tap, tree
from mmjax.core.errors import UserError
from mmjax.models.vit import ViT

TINY = {"size": 8, "patch": 4, "width": 8, "depth": 1, "heads": 2, "mlp": 12}
SIGLIP = {"pool": "map", "class_token": False, "act": "gelu_tanh"}
CLIP = {"pre_norm": True, "patch_bias": False, "norm_eps": 1e-5, "act": "quick_gelu", "init": "clip"}


def vit(**options):
    return module.define(lambda key: ViT(**{**TINY, **options}, rngs=module.rngs(key)))


def fill(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), model.abstract["params"])


def images(height=8, width=8):
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, height, width, 3)), jnp.float32)


def run(model, x, key=None):
    """The output and the taps."""

    def forward(params, x):
        with tap.frame() as out:
            y = model.bind(params)(x, key)
        return y, out

    return jax.jit(forward)(fill(model), x)


def paths(model):
    return {path.split("/")[0] for path in tree.flatten(model.abstract["params"])}


@pytest.mark.parametrize(
    ("options", "tokens", "parts"),
    [
        (CLIP, 5, {"patches", "class_token", "positions", "ln_pre", "stack", "ln_post"}),
        (SIGLIP, 4, {"patches", "positions", "stack", "ln_post", "map"}),
        ({"pool": "mean", "positions": "sincos", "class_token": False}, 4, {"patches", "stack", "ln_post"}),
    ],
)
def test_shapes_parts_and_taps(options, tokens, parts):
    model = vit(**options)
    assert paths(model) == parts
    y, out = run(model, images())
    assert (y.shape, out["tokens"].shape) == ((2, 8), (2, tokens, 8))
    assert out["blocks"]["attention"].shape == (1, 2, 2, tokens, tokens)
    np.testing.assert_array_equal(out["pooled"], y)


def test_depth_zero_by_hand():
    """Without blocks a token is the LayerNorm of patch + position, and the class token's is of token + position 0."""
    model = vit(depth=0, pool="mean")
    p, x = fill(model), np.asarray(images())
    patches = x.reshape(2, 2, 4, 2, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 48)
    conv = jax.tree.map(np.asarray, p["patches"]["conv"])
    tokens = patches @ conv["kernel"].reshape(48, 8) + conv["bias"] + np.asarray(p["positions"][1:])
    first = np.broadcast_to(np.asarray(p["class_token"] + p["positions"][0]), (2, 1, 8))
    tokens = np.concatenate([first, tokens], axis=1)
    tokens = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-6)
    tokens = tokens * np.asarray(p["ln_post"]["scale"]) + np.asarray(p["ln_post"]["bias"])
    y, out = run(model, images())
    np.testing.assert_allclose(out["tokens"], tokens, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y, tokens.mean(1), rtol=1e-4, atol=1e-5)


def test_conv_stem_has_the_grid_of_the_patches():
    """Patch 4 is two halvings, 3 -> 4 -> 8 channels, and its BatchNorms have statistics."""
    model = vit(stem="conv")
    params, stats = model.abstract["params"]["patches"], model.abstract["stats"]["patches"]
    assert [params["convs"][i]["conv"]["kernel"].shape for i in "01"] == [(3, 3, 3, 4), (3, 3, 4, 8)]
    assert stats["convs"]["1"]["norm"]["mean"].shape == (8,)
    forward = jax.eval_shape(lambda p, s, x: model.bind(p, s).tokens(x), *model.abstract.values(), images())
    assert forward.shape == (2, 5, 8)
    with pytest.raises(UserError, match="patch 3 must be a power of 2"):
        vit(stem="conv", size=9, patch=3)


def test_class_pool_reads_the_class_token():
    y, out = run(vit(), images())
    np.testing.assert_array_equal(y, out["tokens"][:, 0])


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_another_picture_size(positions):
    model = vit(positions=positions)
    assert run(model, images(12, 20))[1]["tokens"].shape == (2, 1 + 3 * 5, 8)
    with pytest.raises(UserError, match="size 10 is not divisible by patch 4: use size 8 or 12"):
        run(model, images(10, 8))


def test_patch_dropout_keeps_count_and_class_token():
    """Without blocks the kept tokens are the whole picture's own, and the class token comes first."""
    model = vit(patch_dropout=0.7, depth=0, size=16)
    y, out = run(model, images(16, 16), keys.rows(jax.random.key(0), 2))
    assert out["tokens"].shape == (2, 1 + 5, 8)  # ceil(0.3 x 16) = 5
    whole, all_tokens = run(model, images(16, 16))
    assert all_tokens["tokens"].shape == (2, 17, 8)
    np.testing.assert_allclose(y, whole, rtol=1e-6)
    distance = np.abs(out["tokens"][:, :, None] - all_tokens["tokens"][:, None]).max(-1)
    assert (distance.min(2) < 1e-5).all()


def test_inference_ignores_rates_and_training_does_not():
    x = images()
    quiet, _ = run(vit(), x)
    np.testing.assert_array_equal(run(vit(dropout=0.5), x)[0], quiet)
    assert np.abs(run(vit(dropout=0.5), x, keys.rows(jax.random.key(0), len(x)))[0] - quiet).max() > 1e-3


def test_bfloat16_is_near():
    y, _ = run(vit(dtype="bfloat16", **CLIP), images())
    assert y.dtype == jnp.bfloat16
    expected, _ = run(vit(**CLIP), images())
    # bfloat16 keeps 8 bits; a few roundings of order-one activations.
    assert np.abs(y.astype(jnp.float32) - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 10}, "size 10 is not divisible by patch 4"),
        ({"class_token": False}, "pool 'cls' reads the class token: set class_token=True"),
        ({"pool": "max"}, "pool: unknown name 'max'; choose one of: cls, mean, map"),
        ({"positions": "rotary"}, "positions: unknown name 'rotary'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        vit(**options)
