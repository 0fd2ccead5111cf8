"""LXMERT: the published size, one set of cross-attention weights, heads of masked objects, patches in place of regions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core import tree
from mmjax.core.errors import UserError

BASE = {"width": 768, "heads": 12, "mlp": 3072}
PUBLISHED = {
    "name": "lxmert",
    "image": {"name": "regions", "features": 2048, "depth": 5, **BASE},
    "text": {"name": "bert", "vocab": 30522, "length": 512, "depth": 9, "pooler": False, **BASE},
    "cross": {"name": "co_attention", "depth": 5, **BASE},
    "heads": {"words": True, "match": True, "answers": 9500, "objects": {"feature": 2048, "label": 1600, "attribute": 400}},
}
SMALL = {"width": 8, "heads": 2, "mlp": 12}
OBJECTS = {"feature": 5, "label": 3, "attribute": 0}
TINY = {
    "name": "lxmert",
    "image": {"name": "regions", "features": 5, "depth": 1, **SMALL},
    "text": {"name": "bert", "vocab": 9, "length": 6, "depth": 1, "pooler": False, **SMALL},
    "cross": {"name": "co_attention", "depth": 2, **SMALL},
    "heads": {"objects": OBJECTS},
}
IDS = jnp.array([[3, 4, 5, 0], [7, 8, 6, 2]])


def test_published_size():
    """As transformers counts the parameters of its LxmertForPreTraining, and of the model without heads."""
    for heads, size in ((PUBLISHED["heads"], 228_051_752), ({}, 207_936_768)):
        params = models.build({**PUBLISHED, "heads": heads}).abstract["params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size


@pytest.mark.parametrize("see", ["regions", "patches"])
def test_objects_and_shared_weights(see):
    patches = {"name": "vit", "size": 8, "patch": 4, "width": 12, "depth": 1, "heads": 2, "mlp": 12, "class_token": False}
    model = models.build({**TINY, "image": {**patches, "pool": "mean"} if see == "patches" else TINY["image"]})
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), model.abstract["params"])
    assert "back" not in params["cross"]["blocks"]
    seen = {"image": jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)}
    if see == "regions":
        seen = {"regions": jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.float32), "boxes": jnp.full((2, 3, 4), 0.5)}
        seen["boxes"] = seen["boxes"].at[..., 2:].set(0.75)

    @jax.jit
    def run(params):
        live = model.bind(params)
        z, out = live.fuse(seen, IDS)
        return z, live.objects(z["visual"]), out

    z, objects, out = run(params)
    count = 3 if see == "regions" else 4
    assert {name: x.shape for name, x in objects.items()} == {"feature": (2, count, 5), "label": (2, count, 3)}
    pooler = params["pooler"]
    np.testing.assert_allclose(z["joint"], jnp.tanh(z["text"][:, 0] @ pooler["kernel"] + pooler["bias"]), atol=1e-6)
    assert out["cross"]["blocks"]["v2t"].shape == (2, 2, 2, count, 4)
    outputs = tree.flatten(params["objects_head"]["outputs"])
    assert set(outputs) == {f"{name}/{leaf}" for name in ("feature", "label") for leaf in ("kernel", "bias")}


def test_bad_heads():
    with pytest.raises(UserError, match=r"model\.heads\.objects: there is no 'labels'.*Did you mean 'label'"):
        models.check({**TINY, "heads": {"objects": {"labels": 3}}})
    with pytest.raises(UserError, match=r"there is no head 'object'.*Did you mean 'objects'"):
        models.check({**TINY, "heads": {"object": OBJECTS}})
    model = models.build({**TINY, "heads": {}})
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), model.abstract["params"])
    with pytest.raises(UserError, match="no head 'objects'"):
        model.bind(params).objects(jnp.zeros((1, 2, 8)))
