"""A picture in tiles: each in the words of a dual encoder that sees it alone, in its own place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import module, tap, tree
from mmjax.core.errors import UserError
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.regions import RegionEncoder
from mmjax.models.tiles import Tiles

VIT = {"size": 8, "patch": 4, "width": 8, "depth": 1, "heads": 2, "mlp": 12, "class_token": False, "pool": "mean"}
EYE = {"dim": 8, "image": {"name": "vit", **VIT}, "text": {"name": "bag_of_words", "vocab": 5, "width": 8}, "logit_bias": -1.0}
REGIONS = {"width": 6, "depth": 0}
IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(2, 24, 24, 3)), jnp.float32)


def tiles(**options):
    spec = {"eye": EYE, "side": 3, "regions": REGIONS, **options}
    return module.define(lambda key: Tiles(**spec, rngs=module.rngs(key)))


def fill(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), model.abstract["params"])


def run(model, params, images, key=None):
    """Tokens and taps."""

    def forward(params, images):
        with tap.frame() as out:
            return model.bind(params).tokens(images, key), out

    return jax.jit(forward)(params, images)


def test_a_tile_is_the_words_that_the_eye_has_for_it_alone_and_its_place():
    model = tiles()
    params = fill(model)
    y, out = run(model, params, IMAGES)
    assert y.shape == (2, 9, 6)
    eye = module.define(lambda key: DualEncoder(**EYE, rngs=module.rngs(key))).bind(params["eye"])
    one, _ = eye.image(IMAGES[:, 8:16, 16:24])  # the sixth: the middle row, on the right
    words = np.stack([np.asarray(eye.text(jnp.full((1, 1), word))[0][0]) for word in range(5)])
    likely = np.exp(float(eye.scale()) * np.asarray(one) @ words.T)
    likely /= likely.sum(1, keepdims=True)
    np.testing.assert_allclose(out["words"][:, 5], likely, rtol=1e-4, atol=1e-6)
    regions = module.define(lambda key: RegionEncoder(5, **REGIONS, rngs=module.rngs(key))).bind(params["regions"])
    box = jnp.asarray([[[2 / 3, 1 / 3, 1, 2 / 3]]] * 2)
    alone = regions.tokens({"regions": jnp.asarray(likely, jnp.float32)[:, None], "boxes": box})
    np.testing.assert_allclose(y[:, 5:6], alone, rtol=1e-4, atol=1e-5)


def test_equal_tiles_differ_by_their_place():
    y, out = run(tiles(), fill(tiles()), jnp.ones((1, 24, 24, 3)))
    assert np.ptp(out["words"], axis=1).max() < 1e-5
    assert len(np.unique(np.round(y[0], 4), axis=0)) == 9


def test_tiles_of_a_picture_drop_other_things_and_pictures_do_not_meet():
    model = tiles(eye={**EYE, "image": {**EYE["image"], "patch_dropout": 0.5}})
    params, picture = fill(model), jnp.tile(IMAGES[:1, :8, :8], (2, 3, 3, 1))
    keys = jax.random.split(jax.random.key(3), 2)
    _, both = run(model, params, picture, keys)
    assert len(np.unique(np.round(both["words"][0], 5), axis=0)) > 1
    _, one = run(model, params, picture[1:], keys[1:])
    np.testing.assert_allclose(both["words"][1], one["words"][0], rtol=1e-5, atol=1e-5)


def test_it_learns_all_its_parameters_and_holds_none_but_its_parts():
    model = tiles()
    found = tree.flatten(jax.grad(lambda p: jnp.square(model.bind(p).tokens(IMAGES, None)).sum())(fill(model)))
    assert {path.split("/")[0] for path in found} == {"eye", "regions"}
    # A softmax does not see what is added to all: nothing is learned of a key's bias and of the logits'.
    assert {path for path, g in found.items() if np.abs(g).max() < 1e-6} <= {
        "eye/logit_bias",
        "eye/image_encoder/stack/blocks/attn/key/bias",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eye": {"image": EYE["image"], "text": EYE["text"]}}, "eye: 'eye' needs 'dim'"),
        ({"eye": {**EYE, "image": {"name": "resnet9"}}}, "unknown name 'resnet9'"),
        ({"regions": {"depth": 0}}, "regions: 'regions' needs 'width'"),
        ({"regions": {**REGIONS, "dim": 3}}, "regions: 'regions' takes no keyword 'dim'"),
    ],
)
def test_bad_specs(options, message):
    with pytest.raises(UserError, match=message):
        tiles(**options)


def test_pictures_that_do_not_divide():
    with pytest.raises(UserError, match="25 x 24 do not divide into 3 x 3 tiles"):
        tiles().bind(fill(tiles())).tokens(jnp.zeros((1, 25, 24, 3)), None)
