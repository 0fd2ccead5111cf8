"""The cross-modal encoder: pictures and regions, masks, presence, the joint vector, heads, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core import keys, tree
from mmjax.core.errors import UserError

B, T, S, F, D, V = 2, 4, 3, 5, 8, 9
VIT = {"name": "vit", "size": 8, "patch": 4, "width": 12, "depth": 1, "heads": 2, "mlp": 12}
REGIONS = {"name": "regions", "features": F, "width": D, "depth": 1, "heads": 2, "mlp": 12}
BERT = {"name": "bert", "vocab": V, "length": 6, "width": D, "depth": 1, "heads": 2, "mlp": 12, "pooler": False}
CROSS = {"name": "co_attention", "depth": 2, "width": D, "heads": 2, "mlp": 12}
HEADS = {"words": True, "match": True, "answers": 7}
TINY = {"name": "cross_encoder", "image": REGIONS, "text": BERT, "cross": CROSS, "heads": HEADS}
IDS = jnp.array([[3, 4, 5, 6], [7, 8, 0, 0]])


def visual():
    rng = np.random.default_rng(1)
    boxes = np.array([[[0, 0, 0.5, 1], [0.2, 0.1, 1, 0.4], [0, 0, 0, 0]], [[0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], [0, 0.5, 1, 1]]])
    return {
        "regions": jnp.asarray(rng.normal(size=(B, S, F)), jnp.float32),
        "boxes": jnp.asarray(boxes, jnp.float32),
        "image": jnp.asarray(rng.normal(size=(B, 8, 8, 3)), jnp.float32),
    }


def fill(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), model.abstract["params"])


def bound(**changes):
    model = models.build({**TINY, **changes})
    return model.bind(fill(model))


def test_regions_shapes_heads_and_taps():
    model = bound()
    z, out = model.fuse(visual(), IDS)
    assert {name: x.shape for name, x in z.items()} == {"joint": (B, D), "text": (B, T, D), "visual": (B, S, D)}
    assert model.words(z["text"]).shape == (B, T, V)
    assert model.match(z["joint"]).shape == (B, 2)
    assert model.answer(z["joint"]).shape == (B, 7)
    assert out["text"]["blocks"]["attention"].shape == (1, B, 2, T, T)
    assert out["visual"]["blocks"]["attention"].shape == (1, B, 2, S, S)
    assert out["cross"]["blocks"]["t2v"].shape == (2, B, 2, T, S)
    assert (out["cross"]["blocks"]["t2v"][:, 0, :, :, 2] == 0).all()  # a box without area
    np.testing.assert_array_equal(out["joint"], z["joint"])


def test_pictures_of_another_width_are_mapped():
    model = bound(image=VIT)
    z, out = model.fuse(visual(), IDS)
    assert z["visual"].shape == (B, 5, D)
    assert model.image_map.kernel.shape == (12, D)
    assert out["visual"]["tokens"].shape == (B, 5, 12)
    other = model.fuse({"image": visual()["image"] + 1}, IDS)[0]
    assert np.abs(other["text"] - z["text"]).max() > 1e-3


def test_the_joint_vector_is_its_formula():
    model = bound()
    z, _ = model.fuse(visual(), IDS)
    text = jnp.stack([z["text"][0].mean(0), z["text"][1, :2].mean(0)])
    image = jnp.stack([z["visual"][0, :2].mean(0), z["visual"][1].mean(0)])
    w, b = model.pooler.kernel[...], model.pooler.bias[...]
    np.testing.assert_allclose(z["joint"], jnp.tanh(jnp.concatenate([text, image], 1) @ w + b), atol=1e-5)
    first = bound(joint="text")
    z, _ = first.fuse(visual(), IDS)
    np.testing.assert_allclose(z["joint"], jnp.tanh(first.pooler(z["text"][:, 0])), atol=1e-6)


def test_words_are_tied_to_the_word_vectors():
    model = bound()
    x = jnp.asarray(np.random.default_rng(2).normal(size=(B, T, D)), jnp.float32)
    expected = model.words_head.transform(x) @ model.text_encoder.embed.embedding[...].T + model.words_head.bias[...]
    np.testing.assert_allclose(model.words(x), expected, rtol=1e-5, atol=1e-5)
    assert not [path for path in tree.flatten(models.build(TINY).abstract["params"]) if "decoder" in path]


def test_padding_changes_nothing():
    model, seen = bound(), visual()
    z, _ = model.fuse(seen, IDS)
    hidden = {**seen, "regions": seen["regions"].at[0, 2].set(9.0)}
    longer = {name: jnp.pad(hidden[name], ((0, 0), (0, 2), (0, 0))) for name in ("regions", "boxes")}
    again, _ = model.fuse(longer, jnp.pad(IDS, ((0, 0), (0, 2))))
    for name, valid in {"text": IDS != 0, "visual": jnp.array([[1, 1, 0], [1, 1, 1]], bool)}.items():
        np.testing.assert_allclose(z[name][valid], again[name][:, : valid.shape[1]][valid], atol=1e-5)
    np.testing.assert_allclose(z["joint"], again["joint"], atol=1e-5)


def test_an_example_without_a_picture_is_as_if_there_were_none():
    model, seen = bound(), visual()
    seen["boxes"] = seen["boxes"].at[0].set(0.0)
    moved = {**seen, "regions": seen["regions"].at[0].add(5.0)}
    a, b = (model.fuse(x, IDS)[0] for x in (seen, moved))
    np.testing.assert_allclose(a["joint"], b["joint"], atol=1e-5)
    np.testing.assert_allclose(a["text"], b["text"], atol=1e-5)


def loss(model, params, key=None):
    live = model.bind(params)
    z, _ = live.fuse(visual(), IDS, key)
    return jnp.square(live.words(z["text"])).sum() + live.match(z["joint"])[:, 1].sum() + live.answer(z["joint"])[:, 0].sum()


@pytest.mark.parametrize("image", [REGIONS, VIT], ids=["regions", "pictures"])
def test_every_leaf_has_a_gradient_but_attention_key_biases(image):
    model = models.build({**TINY, "image": image})
    gradient = tree.flatten(jax.jit(jax.grad(lambda p: loss(model, p)))(fill(model)))
    largest = max(np.abs(leaf).max() for leaf in gradient.values())
    dead = {path for path, leaf in gradient.items() if np.abs(leaf).max() < 1e-5 * largest}
    assert dead == {path for path in gradient if path.endswith("key/bias")}


def test_training_in_bfloat16_with_dropout_and_remat():
    parts = {part: {**TINY[part], "dropout": 0.1} for part in ("image", "text", "cross")}
    key = keys.rows(jax.random.key(0), B)
    values = {}
    for remat in ("none", "full"):
        model = models.build({**TINY, **parts}, dtype="bfloat16", remat=remat)
        params = fill(model)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        values[remat] = jax.jit(jax.value_and_grad(lambda p, model=model: loss(model, p, key)))(params)
        assert values[remat][0].dtype == jnp.float32
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values[remat]))
    np.testing.assert_allclose(values["none"][0], values["full"][0], rtol=1e-2)  # bfloat16 keeps 8 bits


def test_bad_input():
    model, seen = bound(), visual()
    with pytest.raises(UserError, match="region features are 4 wide and the model reads 5"):
        model.fuse({**seen, "regions": seen["regions"][..., :4]}, IDS)
    with pytest.raises(UserError, match=r"\[2, 3\] regions have boxes of \[2, 2, 4\]"):
        model.fuse({**seen, "boxes": seen["boxes"][:, :2]}, IDS)
    with pytest.raises(UserError, match="the batch has no 'regions'; it has: image"):
        model.fuse({"image": seen["image"]}, IDS)
    with pytest.raises(UserError, match="reads pictures, and the batch has no 'image'; it has: regions"):
        bound(image=VIT).fuse({"regions": seen["regions"]}, IDS)
    with pytest.raises(UserError, match="exceeds the text encoder's length 6"):
        model.fuse(seen, jnp.ones((B, 7), int))
    with pytest.raises(UserError, match=r"no head 'match': add it to model\.heads"):
        bound(heads={"words": True}).match(jnp.ones((B, D)))
    gru = {"name": "gru", "vocab": V, "width": 6, "hidden": 8}
    with pytest.raises(UserError, match="segments were given"):
        bound(text=gru).fuse(seen, IDS, segments=IDS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": {"word": True}}, "model.heads: there is no head 'word'.*Did you mean 'words'"),
        ({"cross": {**CROSS, "widht": 8}}, "model.cross: 'co_attention' takes no keyword 'widht'.*Did you mean 'width'"),
        ({"cross": {"name": "co_attention", "depth": 1}}, "model.cross: 'co_attention' needs 'width', 'heads', 'mlp'"),
        ({"joint": "bth"}, "model.joint: unknown 'bth'.*Did you mean 'both'"),
        ({"image": {"name": "regions", "width": 8}}, "model.image: 'regions' needs 'features'"),
        ({"cross": {**CROSS, "heads": 3}}, "model.cross: width 8 is not divisible by heads 3"),
    ],
)
def test_check_names_value_place_and_mend(changes, message):
    with pytest.raises(UserError, match=message):
        models.check({**TINY, **changes})
