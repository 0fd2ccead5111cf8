"""BERT: padding changes nothing, segments and offsets pick rows, pools are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core.errors import UserError

SPEC = {"name": "bert", "vocab": 9, "length": 6, "width": 8, "depth": 2, "heads": 2, "mlp": 12}


def bound(**changes):
    model = models.build({"name": "classifier", "encoder": {**SPEC, **changes}})
    rng = np.random.default_rng(0)
    return model.bind(jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), model.abstract["params"]))


@pytest.mark.parametrize("pool", ["cls", "mean", "pooler"])
def test_padding_changes_nothing(pool):
    encoder = bound(pool=pool).encoder
    short, long = encoder(jnp.array([[3, 4, 5]])), encoder(jnp.array([[3, 4, 5, 0, 0, 0]]))
    np.testing.assert_allclose(short, long, atol=1e-6)  # float32: sums of another length
    assert encoder.width == 8


def test_pools():
    encoder = bound(pool="mean").encoder
    ids = jnp.array([[3, 4, 0]])
    x = encoder.tokens(ids)
    np.testing.assert_allclose(encoder(ids)[0], (x[0, 0] + x[0, 1]) / 2, atol=1e-6)
    encoder.pool = "cls"
    np.testing.assert_allclose(encoder(ids), x[:, 0])
    encoder.pool = "pooler"
    np.testing.assert_allclose(encoder(ids), jnp.tanh(encoder.pooler(x[:, 0])))
    encoder.pool = "before_end"
    np.testing.assert_allclose(
        encoder(jnp.array([[3, 4, 0], [5, 3, 4]])), encoder.tokens(jnp.array([[3, 4, 0], [5, 3, 4]]))[[0, 1], [0, 1]]
    )


def test_segments_and_offset():
    encoder = bound(offset=2).encoder
    assert encoder.positions.shape == (8, 8)
    ids = jnp.array([[3, 4]])
    same = encoder.tokens(ids, segments=jnp.zeros((1, 2), int))
    np.testing.assert_array_equal(encoder.tokens(ids), same)
    assert not np.allclose(same, encoder.tokens(ids, segments=jnp.ones((1, 2), int)))


def test_bad_input():
    with pytest.raises(UserError, match="exceeds the text encoder's length 6"):
        bound().encoder(jnp.ones((1, 7), int))
    with pytest.raises(UserError, match="pool: unknown name 'max'"):
        bound(pool="max")
    with pytest.raises(UserError, match="needs pooler=True"):
        bound(pool="pooler", pooler=False)
