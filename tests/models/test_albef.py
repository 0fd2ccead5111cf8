"""ALBEF's model: what its fusion sees, its temperature's bounds, the weights that fill it, and what it refuses."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.convert import init
from mmjax.convert.table import Tensor
from mmjax.core import tree
from mmjax.core.errors import UserError
from mmjax.models.albef import COLDEST, WARMEST, _within

IMAGE = {"name": "vit", "size": 8, "patch": 4, "width": 8, "depth": 1, "heads": 2, "mlp": 12}
TEXT = {"name": "bert", "vocab": 13, "length": 6, "width": 8, "depth": 1, "heads": 2, "mlp": 12, "pooler": False}
SPEC = {"name": "albef", "dim": 6, "fusion": 1, "image": IMAGE, "text": TEXT, "heads": {"words": True, "match": True}}


def test_fusion_is_of_tokens_that_were_encoded_apart():
    model = models.build(SPEC)
    params, _ = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    images, ids = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32), jnp.asarray([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])

    @jax.jit
    def run(images, ids):
        live = model.bind(params)
        image, text = live.image_tokens(images)[0], live.text_tokens(ids)[0]
        fused, out = live.fuse({"image": images}, ids)
        return {
            "fused": fused,
            "apart": live.fuse_tokens(image, text, live.valid(ids))[0],
            "other": live.fuse_tokens(image[::-1], text, live.valid(ids))[0]["joint"],
            "padded": live.fuse_tokens(image, text.at[:, 4].add(9.0), live.valid(ids))[0]["text"][:, :3],
            "attention": out["fusion"]["blocks"]["cross_attention"],
            "embeddings": (live.image(images)[0], live.image_embedding(image)),
        }

    found = run(images, ids)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found["fused"], found["apart"])
    np.testing.assert_allclose(found["fused"]["joint"], found["fused"]["text"][:, 0])
    assert np.abs(found["other"] - found["fused"]["joint"]).max() > 1e-3  # it sees the picture
    np.testing.assert_allclose(found["padded"], found["fused"]["text"][:, :3], atol=1e-5)  # and no padding
    assert found["attention"].shape == (1, 2, 2, 5, 5)  # layer, batch, heads, words, the class token and four patches
    np.testing.assert_allclose(*found["embeddings"], rtol=1e-6)


@pytest.mark.parametrize(
    "at, up, gradient",
    [(0.07, 1.0, 3.0), (0.6, 1.0, 3.0), (0.6, -1.0, 0.0), (1e-4, 1.0, 0.0), (1e-4, -1.0, -3.0)],
)
def test_a_temperature_beyond_its_bounds_finds_back(at, up, gradient):
    """`up` is the sign of the slope: descent lowers the temperature where it is positive."""
    value, found = jax.value_and_grad(lambda x: 3 * up * _within(x))(jnp.float32(at))
    assert float(value) == pytest.approx(3 * up * min(max(at, COLDEST), WARMEST), rel=1e-6)
    assert float(found) == gradient


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"image": {**IMAGE, "width": 4}}, r"model.image.width 4 is not model.text.width 8: let them be equal"),
        ({"image": {**IMAGE, "class_token": False, "pool": "mean"}}, r"model.image.class_token False"),
        ({"fusion": 0}, r"model.fusion 0: at least one layer"),
        ({"temperature": 0.9}, r"model.temperature 0.9 is not between 0.001 and 0.5"),
        ({"heads": {"word": True}}, r"there is no head 'word'.*Did you mean 'words'\?"),
        ({"image": {"name": "resnet"}}, r"model.image: unknown name 'resnet'"),
    ],
)
def test_what_does_not_fit_is_refused(changes, text):
    with pytest.raises(UserError, match=text):
        models.build({**SPEC, **changes})


def test_berts_and_deits_weights_fill_it(monkeypatch):
    """The recipe's maps, against the paths and shapes of a small BERT of 12 layers and a small ViT with a head."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "configs"))
    sys.modules.pop("base", None)
    import albef as recipe

    def numbered(spec):
        """Every leaf of a model, each layer or row filled with its number."""
        flat = tree.flatten(models.build(spec).abstract)
        arrays = {p: np.broadcast_to(np.arange(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1)), x.shape) for p, x in flat.items()}
        return {p: Tensor(x.shape, np.dtype("float32"), lambda x=x: x) for p, x in arrays.items()}

    bert = numbered({"name": "classifier", "encoder": {**TEXT, "depth": 12, "pooler": True}})
    sources = {"bert": bert, "deit": numbered({"name": "classifier", "encoder": IMAGE, "classes": 3})}
    monkeypatch.setattr(init, "_source", lambda spec, where: sources[spec["from"]])
    abstract = models.build({**SPEC, "fusion": 6, "text": {**TEXT, "depth": 6}}).abstract
    maps = [{"from": "bert", "map": recipe.BERT}, {"from": "deit", "map": recipe.DEIT}]
    filled = init.Init(maps, abstract)(jax.tree.map(lambda x: jnp.full(x.shape, -1.0, x.dtype), abstract))["params"]
    left = [path for path, x in tree.flatten(filled).items() if (x == -1).all()]
    parts = {"image_projection", "text_projection", "temperature", "words_head", "match_head", "fusion"}
    assert {path.split("/")[0] for path in left} == parts
    assert {path.split("/")[2] for path in left if path.startswith("fusion")} == {"cross", "ln_cross"}
    first, last = filled["text_encoder"]["stack"]["blocks"], filled["fusion"]["blocks"]
    assert first["attn"]["query"]["kernel"][:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert last["attn"]["query"]["kernel"][:, 0, 0].tolist() == [6, 7, 8, 9, 10, 11]
