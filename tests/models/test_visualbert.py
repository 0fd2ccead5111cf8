"""One stream of text and regions or patches: what is masked, what tells pictures apart, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core.errors import UserError
from mmjax.core.keys import rows as keys

TEXT = {"name": "bert", "vocab": 9, "length": 6, "width": 8, "depth": 2, "heads": 2, "mlp": 12, "pool": "pooler"}
SPEC = {"name": "visualbert", "text": TEXT, "visual": {"name": "regions", "features": 5}}
VIT = {"name": "vit", "width": 4, "depth": 1, "heads": 2, "mlp": 6, "class_token": False, "pool": "mean"}
PATCHES = {"name": "patches", "size": 4, "patch": 2}
IDS = jnp.array([[3, 4, 0], [5, 6, 7]])
PRESENT = jnp.array([0.1, 0.2, 0.5, 0.9])


def build(dtype="float32", **changes):
    model = models.build({**SPEC, **changes}, dtype)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), model.abstract["params"])


def bound(*dtype, **changes):
    model, params = build(*dtype, **changes)
    return model.bind(params)


def regions(count=3, seed=0):
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(2, count, 5)), jnp.float32)
    return {"regions": x, "boxes": jnp.broadcast_to(PRESENT, (2, count, 4))}


def padded(visual):
    """One region more, with numbers in it that must not matter."""
    x = jnp.concatenate([visual["regions"], jnp.full((2, 1, 5), 9.0)], axis=1)
    return {"regions": x, "boxes": jnp.concatenate([visual["boxes"], jnp.zeros((2, 1, 4))], axis=1)}


def test_padding_changes_nothing():
    model, seen = bound(), regions()
    short, out = model.fuse(seen, IDS)
    long, far = model.fuse(padded(seen), jnp.pad(IDS, ((0, 0), (0, 2))))
    for name, count in (("joint", 8), ("text", 3), ("visual", 3)):
        np.testing.assert_allclose(short[name], long[name][:, :count], atol=1e-5)  # float32: sums of another length
    assert short["visual"].shape == (2, 3, 8)
    attention = far["blocks"]["attention"]
    assert attention.shape == (2, 2, 2, 9, 9)
    assert not attention[:, 0, :, :, [2, 3, 4, 8]].any()  # the short text's padding, and the region's, get nothing
    np.testing.assert_allclose(attention.sum(-1), 1, rtol=1e-5)
    assert out["tokens"].shape == (2, 6, 8)


def test_every_region_sees_every_word_and_back():
    model = bound()
    jacobian = jax.jacobian(lambda x: model.fuse(regions() | {"regions": x}, IDS)[0]["text"][1].sum(-1))(regions()["regions"])
    assert (jnp.abs(jacobian[:, 1]).sum(-1) > 0).all()
    assert not jacobian[:, 0].any()  # nothing of another example


def test_regions_have_no_order():
    model, seen = bound(), regions()
    turned = {name: x[:, ::-1] for name, x in seen.items()}
    one, two = model.fuse(seen, IDS)[0], model.fuse(turned, IDS)[0]
    np.testing.assert_allclose(one["joint"], two["joint"], atol=1e-5)
    np.testing.assert_allclose(one["visual"], two["visual"][:, ::-1], atol=1e-5)


def test_two_pictures_are_told_apart_by_their_segments():
    model, params = build(heads={"verdicts": 2})
    first, second = regions(), regions(2, seed=1)
    live = model.bind(params)
    one, two = live.fuse_two(first, second, IDS)[0], live.fuse_two(second, first, IDS)[0]
    assert one["visual"].shape == (2, 5, 8)
    assert live.verdict(one["joint"]).shape == (2, 2)
    assert not np.allclose(one["joint"], two["joint"], atol=1e-3)
    segments = params["visual_segments"]
    alike = model.bind(params | {"visual_segments": jnp.broadcast_to(segments[1], segments.shape)})
    # Segments alike, order is all that is left, and regions have none; a second picture of padding is no picture.
    one, two = alike.fuse_two(first, second, IDS)[0], alike.fuse_two(second, first, IDS)[0]
    np.testing.assert_allclose(one["joint"], two["joint"], atol=1e-5)
    nothing = second | {"boxes": jnp.zeros((2, 2, 4))}
    np.testing.assert_allclose(alike.fuse_two(first, nothing, IDS)[0]["joint"], live.fuse(first, IDS)[0]["joint"], atol=1e-5)


def test_patches_are_regions_of_raw_pixels_with_a_place():
    model, params = build(visual=PATCHES)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
    states = model.bind(params).fuse({"image": images}, IDS)[0]
    assert states["visual"].shape == (2, 4, 8)
    turned = images.reshape(2, 2, 2, 4, 3)[:, ::-1].reshape(images.shape)
    assert not np.allclose(states["joint"], model.bind(params).fuse({"image": turned}, IDS)[0]["joint"], atol=1e-3)
    flat = {"regions": images.reshape(2, 2, 2, 2, 2, 3).swapaxes(2, 3).reshape(2, 4, 12)}
    flat |= {"boxes": jnp.broadcast_to(PRESENT, (2, 4, 4))}
    other = models.build({**SPEC, "visual": {"name": "regions", "features": 12}})
    conv, places = params["visual_embedding"]["conv"], params["visual_positions"]
    own = params | {
        "visual_embedding": {"kernel": conv["kernel"].reshape(12, 8), "bias": conv["bias"]},
        "visual_positions": places[:1],
    }
    same = model.bind(params | {"visual_positions": jnp.broadcast_to(places[:1], places.shape)})
    np.testing.assert_allclose(
        same.fuse({"image": images}, IDS)[0]["joint"], other.bind(own).fuse(flat, IDS)[0]["joint"], atol=1e-5
    )


EYE = {"dim": 4, "image": {**VIT, "size": 2, "patch": 2}, "text": {"name": "bag_of_words", "vocab": 5, "width": 4}}
TILES = {"name": "tiles", "eye": EYE, "side": 2, "regions": {"width": 8}}


def test_tiles_are_regions_of_what_an_eye_calls_them():
    """The model of region features, given what the tiles' own encoder makes of the picture, says the same."""
    model, params = build(visual=TILES)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
    states, out = model.bind(params).fuse({"image": images}, IDS)
    assert states["visual"].shape == (2, 4, 8)
    own = models.build({**SPEC, "visual": {"name": "regions", "features": 8}})
    identity = {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}
    told = {"regions": out["visual"]["tokens"], "boxes": jnp.broadcast_to(PRESENT, (2, 4, 4))}
    same = own.bind(params | {"visual_embedding": identity}).fuse(told, IDS)[0]
    np.testing.assert_allclose(states["joint"], same["joint"], atol=1e-5)
    np.testing.assert_allclose(out["visual"]["words"].sum(-1), 1, rtol=1e-5)


def test_tiles_of_two_pictures():
    model, params = build(visual=TILES, heads={"verdicts": 2})
    first, second = ({"image": jnp.asarray(np.random.default_rng(i).normal(size=(2, 4, 4, 3)), jnp.float32)} for i in (1, 2))
    params["visual_embedding"]["eye"]["logit_scale"] = jnp.log(100.0)  # random eyes have much the same words for all
    live = model.bind(params)
    states, out = live.fuse_two(first, second, IDS)
    assert states["visual"].shape == (2, 8, 8)
    np.testing.assert_allclose(out["second"]["words"], live.fuse(second, IDS)[1]["visual"]["words"], rtol=1e-5)
    assert np.abs(states["joint"] - live.fuse_two(second, first, IDS)[0]["joint"]).max() > 1e-5


def test_tiles_of_one_picture_do_not_draw_as_those_of_the_other():
    dropped = {**TILES, "eye": {**EYE, "image": {**EYE["image"], "size": 4, "patch_dropout": 0.5}}}
    model, params = build(visual=dropped, heads={"verdicts": 2})
    picture = {"image": jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 3)), jnp.float32)}
    out = model.bind(params).fuse_two(picture, picture, IDS, keys(jax.random.key(0), 2))[1]
    assert not np.allclose(out["first"]["words"], out["second"]["words"], atol=1e-4)


def test_questions_are_answered_before_the_end():
    model = bound(text={**TEXT, "pool": "before_end"}, heads={"answers": 3})
    states = model.fuse(regions(), IDS)[0]
    np.testing.assert_array_equal(states["joint"], states["text"][jnp.arange(2), jnp.array([0, 1])])
    np.testing.assert_allclose(model.answer(states["joint"]), model.answer_head(states["joint"]))


def test_grounding_by_hand():
    """Queries and keys [1, 2] and [3, 0] give 3 / sqrt(2); there is no second region."""
    model = bound(heads={"grounding": 2}).grounding_head
    for part, bias in (("query", [1.0, 2]), ("key", [3.0, 0])):
        layer = getattr(model, part)
        layer.kernel[...], layer.bias[...] = jnp.zeros((8, 2)), jnp.array(bias)
    logits = model(jnp.ones((1, 1, 8)), jnp.ones((1, 2, 8)), jnp.array([[True, False]]))
    assert logits[0, 0].tolist() == [pytest.approx(3 / 2**0.5), np.finfo(np.float32).min]
    assert jax.nn.softmax(logits).tolist() == [[[1, 0]]]


def test_an_example_draws_from_its_own_key():
    model, key = bound(text={**TEXT, "dropout": 0.3}), keys(jax.random.key(0), 2)
    whole = model.fuse(regions(), IDS, key)[0]["joint"]
    second = model.fuse({name: x[1:] for name, x in regions().items()}, IDS[1:], key[1:])[0]["joint"]
    np.testing.assert_allclose(whole[1:], second, atol=1e-5)
    assert not np.allclose(whole, model.fuse(regions(), IDS)[0]["joint"], atol=1e-3)


def test_bfloat16_gives_logits_in_float32():
    heads = {"words": True, "match": True, "answers": 3, "grounding": 2}
    live = bound("bfloat16", heads=heads)
    states = live.fuse(regions(), IDS)[0]
    assert states["text"].dtype == jnp.bfloat16
    logits = live.words(states["text"]), live.match(states["joint"]), live.answer(states["joint"])
    assert {x.dtype for x in (*logits, live.ground(states, regions()))} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("changes", "visual", "ids", "message"),
    [
        ({}, {"regions": jnp.ones((2, 3, 4)), "boxes": jnp.ones((2, 3, 4))}, IDS, "4 wide and the model reads 5"),
        ({}, {"regions": jnp.ones((2, 3, 5)), "boxes": jnp.ones((2, 2, 4))}, IDS, "give each four numbers"),
        ({}, {"image": jnp.ones((2, 4, 4, 3))}, IDS, "the batch has no 'regions'"),
        ({}, regions(), jnp.ones((2, 7), int), "exceeds the text encoder's length 6"),
        ({"visual": PATCHES}, {"image": jnp.ones((2, 4, 6, 3))}, IDS, "4 x 6 and model.visual.size is 4"),
        ({"visual": PATCHES}, regions(), IDS, "the batch has no 'image'"),
    ],
    ids=["width", "count", "picture", "length", "size", "regions"],
)
def test_input_that_does_not_fit(changes, visual, ids, message):
    with pytest.raises(UserError, match=message):
        bound(**changes).fuse(visual, ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual": {"name": "boxes"}}, "model.visual: unknown name 'boxes'"),
        ({"visual": {"name": "regions"}}, "model.visual: 'regions' needs 'features'"),
        ({"visual": {"name": "patches", "size": 5, "patch": 2}}, "size 5 is not divisible by patch 2"),
        ({"visual": {**TILES, "regions": {"width": 6}}}, "model.visual.regions.width is 6 and the text's 8"),
        ({"text": {**TEXT, "name": "gru"}}, "model.text: unknown name 'gru'"),
        ({"heads": {"verdict": 2}}, "no head 'verdict'.*Did you mean 'verdicts'"),
    ],
    ids=["visual", "features", "size", "width", "text", "head"],
)
def test_specs_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_heads_that_the_config_does_not_ask_for():
    model, params = build()
    assert not [name for name in params if name.endswith("_head")]
    live, states = model.bind(params), {"text": jnp.ones((2, 3, 8)), "visual": jnp.ones((2, 3, 8)), "joint": jnp.ones((2, 8))}
    calls = {
        "verdicts": lambda: live.verdict(states["joint"]),
        "answers": lambda: live.answer(states["joint"]),
        "grounding": lambda: live.ground(states, regions()),
    }
    for name, call in calls.items():
        with pytest.raises(UserError, match=f"no head '{name}'"):
            call()
