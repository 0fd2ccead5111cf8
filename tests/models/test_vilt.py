"""A ViT whose stream begins with words: what is masked, two pictures, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core.errors import UserError
from mmjax.core.keys import rows as keys

TEXT = {"name": "bert", "vocab": 9, "length": 6, "width": 8, "depth": 0, "heads": 2, "mlp": 12, "pool": "pooler"}
IMAGE = {"name": "vit", "size": 4, "patch": 2, "width": 8, "depth": 2, "heads": 2, "mlp": 12}
SPEC = {"name": "vilt", "image": IMAGE, "text": TEXT}
IDS = jnp.array([[3, 4, 0], [5, 6, 7]])


def build(dtype="float32", **changes):
    model = models.build({**SPEC, **changes}, dtype)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), model.abstract["params"])


def bound(*dtype, **changes):
    model, params = build(*dtype, **changes)
    return model.bind(params)


def picture(seed=0):
    return {"image": jnp.asarray(np.random.default_rng(seed).normal(size=(2, 4, 4, 3)), jnp.float32)}


def test_padding_changes_nothing():
    model = bound()
    short, long = model.fuse(picture(), IDS)[0], model.fuse(picture(), jnp.pad(IDS, ((0, 0), (0, 2))))
    for name, count in (("joint", 8), ("text", 3), ("visual", 5)):
        np.testing.assert_allclose(short[name], long[0][name][:, :count], atol=1e-5)  # float32: sums of another length
    assert short["visual"].shape == (2, 5, 8)  # the class token and four patches
    attention = long[1]["blocks"]["attention"]
    assert attention.shape == (2, 2, 2, 10, 10)
    assert not attention[:, 0, :, :, 2:5].any()
    np.testing.assert_allclose(attention.sum(-1), 1, rtol=1e-5)


def test_words_see_patches_where_they_are():
    model, seen = bound(), picture()
    turned = {"image": seen["image"][:, ::-1]}
    assert not np.allclose(model.fuse(seen, IDS)[0]["joint"], model.fuse(turned, IDS)[0]["joint"], atol=1e-3)
    told = model.fuse(seen, IDS, segments=jnp.ones((2, 3), int))[0]
    assert not np.allclose(model.fuse(seen, IDS)[0]["joint"], told["joint"], atol=1e-3)


def test_two_pictures_are_two_pairs():
    model, params = build(types=3, heads={"verdicts": 2})
    live = model.bind(params)
    states, out = live.fuse_two(picture(0), picture(1), IDS)
    assert live.verdict(states["joint"]).shape == (2, 2)
    assert out["second"]["blocks"]["attention"].shape == (2, 2, 2, 8, 8)
    first, second = (live.fuse(picture(seed), IDS)[0]["joint"] for seed in range(2))
    np.testing.assert_allclose(states["joint"][:, :8], first, atol=1e-5)
    assert not np.allclose(states["joint"][:, 8:], second, atol=1e-3)
    alike = model.bind(params | {"types": params["types"].at[2].set(params["types"][1])})
    np.testing.assert_allclose(alike.fuse_two(picture(0), picture(1), IDS)[0]["joint"][:, 8:], second, atol=1e-5)


def test_an_example_draws_from_its_own_key():
    model, key = bound(image={**IMAGE, "dropout": 0.3, "patch_dropout": 0.5}), keys(jax.random.key(0), 2)
    whole = model.fuse(picture(), IDS, key)[0]
    assert whole["visual"].shape == (2, 3, 8)  # the class token and half of the patches
    second = model.fuse({"image": picture()["image"][1:]}, IDS[1:], key[1:])[0]
    np.testing.assert_allclose(whole["joint"][1:], second["joint"], atol=1e-5)


def test_heads():
    heads = {"words": True, "match": True, "answers": 3, "rank": True}
    live = bound("bfloat16", heads=heads)
    states = live.fuse(picture(), IDS)[0]
    joint = states["joint"]
    logits = {"words": live.words(states["text"]), "match": live.match(joint), "answers": live.answer(joint)}
    assert {name: x.shape for name, x in logits.items()} == {"words": (2, 3, 9), "match": (2, 2), "answers": (2, 3)}
    assert live.rank(joint).shape == (2,)
    assert {x.dtype for x in (*logits.values(), live.rank(joint))} == {jnp.dtype("float32")}
    assert joint.dtype == jnp.bfloat16
    with pytest.raises(UserError, match="no head 'verdicts'"):
        live.fuse_two(picture(), picture(), IDS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": {**TEXT, "depth": 1}}, "set width 8 and depth 0"),
        ({"text": {**TEXT, "width": 4}}, "set width 8 and depth 0"),
        ({"heads": {"verdicts": 2}}, "types 2: a text and two pictures need 3"),
        ({"image": {**IMAGE, "name": "resnet"}}, "model.image: unknown name 'resnet'"),
    ],
    ids=["depth", "width", "types", "image"],
)
def test_specs_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_input_that_does_not_fit():
    with pytest.raises(UserError, match="the batch has no 'image'"):
        bound().fuse({"regions": jnp.ones((2, 3, 5))}, IDS)
    with pytest.raises(UserError, match="exceeds the text encoder's length 6"):
        bound().fuse(picture(), jnp.ones((2, 7), int))
