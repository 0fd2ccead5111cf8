"""The cross-modal encoder: pictures and regions, masks, presence, the joint vector, heads, bad input."""

import functools

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
TRANSFORM = ("dense/kernel", "dense/bias", "ln/scale", "ln/bias")
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
    """Normal with deviation 0.5, about 1 for norms' scales: about 0 they would leave later layers nothing."""
    rng = np.random.default_rng(0)
    return tree.map_with_path(
        lambda path, a: jnp.asarray(rng.normal(path.endswith("scale"), 0.5, a.shape), a.dtype), model.abstract["params"]
    )


def bound(**changes):
    model = models.build({**TINY, **changes})
    return model.bind(fill(model))


@functools.cache
def made(image, joint="both"):
    """(model, parameters, a compiled forward pass with all heads) of TINY with one of the two eyes."""
    model = models.build({**TINY, "image": {"regions": REGIONS, "pictures": VIT}[image], "joint": joint})

    @jax.jit
    def run(params, visual, ids):
        live = model.bind(params)
        z, out = live.fuse(visual, ids)
        return z, {"words": live.words(z["text"]), "match": live.match(z["joint"]), "answer": live.answer(z["joint"])}, out

    params = fill(model)
    return model, params, lambda visual, ids: run(params, visual, ids)


def test_regions_shapes_heads_and_taps():
    z, answers, out = made("regions")[2](visual(), IDS)
    assert {name: x.shape for name, x in z.items()} == {"joint": (B, D), "text": (B, T, D), "visual": (B, S, D)}
    assert {name: x.shape for name, x in answers.items()} == {"words": (B, T, V), "match": (B, 2), "answer": (B, 7)}
    assert out["text"]["blocks"]["attention"].shape == (1, B, 2, T, T)
    assert out["visual"]["blocks"]["attention"].shape == (1, B, 2, S, S)
    assert out["cross"]["blocks"]["t2v"].shape == (2, B, 2, T, S)
    assert (out["cross"]["blocks"]["t2v"][:, 0, :, :, 2] == 0).all()  # a box without area
    np.testing.assert_array_equal(out["joint"], z["joint"])


def test_pictures_of_another_width_are_mapped():
    _, params, run = made("pictures")
    z, _, out = run(visual(), IDS)
    assert z["visual"].shape == (B, 5, D)
    assert params["image_map"]["kernel"].shape == (12, D)
    assert out["visual"]["tokens"].shape == (B, 5, 12)
    other = run({**visual(), "image": visual()["image"][::-1]}, IDS)[0]
    assert np.abs(other["text"] - z["text"]).max() > 1e-3


def test_the_joint_vector_is_its_formula():
    _, params, run = made("regions")
    z = run(visual(), IDS)[0]
    text = jnp.stack([z["text"][0].mean(0), z["text"][1, :2].mean(0)])
    image = jnp.stack([z["visual"][0, :2].mean(0), z["visual"][1].mean(0)])
    w, b = params["pooler"]["kernel"], params["pooler"]["bias"]
    np.testing.assert_allclose(z["joint"], jnp.tanh(jnp.concatenate([text, image], 1) @ w + b), atol=1e-5)
    _, params, run = made("regions", "text")
    z = run(visual(), IDS)[0]
    w, b = params["pooler"]["kernel"], params["pooler"]["bias"]
    np.testing.assert_allclose(z["joint"], jnp.tanh(z["text"][:, 0] @ w + b), atol=1e-6)


def test_words_are_tied_to_the_word_vectors():
    model, params, run = made("regions")
    z, answers, _ = run(visual(), IDS)
    head = model.bind(params).words_head
    expected = head.transform(z["text"]) @ params["text_encoder"]["embed"]["embedding"].T + params["words_head"]["bias"]
    np.testing.assert_allclose(answers["words"], expected, rtol=1e-4, atol=1e-5)
    assert set(tree.flatten(params["words_head"])) == {"bias", *(f"transform/{x}" for x in TRANSFORM)}


def test_padding_changes_nothing():
    run, seen = made("regions")[2], visual()
    z = run(seen, IDS)[0]
    hidden = {**seen, "regions": seen["regions"].at[0, 2].set(9.0)}
    longer = {name: jnp.pad(hidden[name], ((0, 0), (0, 2), (0, 0))) for name in ("regions", "boxes")}
    again = run(longer, jnp.pad(IDS, ((0, 0), (0, 2))))[0]
    for name, valid in {"text": IDS != 0, "visual": jnp.array([[1, 1, 0], [1, 1, 1]], bool)}.items():
        np.testing.assert_allclose(z[name][valid], again[name][:, : valid.shape[1]][valid], atol=1e-5)
    np.testing.assert_allclose(z["joint"], again["joint"], atol=1e-5)


def test_an_example_without_a_picture_is_as_if_there_were_none():
    run, seen = made("regions")[2], visual()
    seen["boxes"] = seen["boxes"].at[0].set(0.0)
    moved = {**seen, "regions": seen["regions"].at[0].add(5.0)}
    a, b = (run(x, IDS)[0] for x in (seen, moved))
    np.testing.assert_allclose(a["joint"], b["joint"], atol=1e-5)
    np.testing.assert_allclose(a["text"], b["text"], atol=1e-5)


def loss(model, params, key=None):
    live = model.bind(params)
    z, _ = live.fuse(visual(), IDS, key)
    return sum(jnp.sin(x).sum() for x in (live.words(z["text"]), live.match(z["joint"]), live.answer(z["joint"]), z["visual"]))


@pytest.mark.parametrize("image", ["regions", "pictures"])
def test_every_leaf_has_a_gradient_but_attention_key_biases(image):
    model, params, _ = made(image)
    gradient = tree.flatten(jax.jit(jax.grad(lambda p: loss(model, p)))(params))
    largest = max(np.abs(leaf).max() for leaf in gradient.values())
    dead = {path for path, leaf in gradient.items() if np.abs(leaf).max() < 1e-5 * largest}
    assert dead == {path for path in gradient if path.endswith("key/bias")}


def test_training_in_bfloat16():
    model = models.build({**TINY, "cross": {**CROSS, "dropout": 0.1}}, dtype="bfloat16", remat="full")
    params = fill(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    key = keys.rows(jax.random.key(0), B)
    value, gradient = jax.jit(jax.value_and_grad(lambda p: loss(model, p, key)))(params)
    assert value.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))


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
        ({"image": {**REGIONS, "mlp": 0}}, "model.image: regions of depth 1 need heads and mlp, which are 2 and 0"),
        ({"cross": {**CROSS, "heads": 3}}, "model.cross: width 8 is not divisible by heads 3"),
    ],
)
def test_check_names_value_place_and_mend(changes, message):
    with pytest.raises(UserError, match=message):
        models.check({**TINY, **changes})
