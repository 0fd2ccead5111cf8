"""Projections in closed form: canonical correlations by hand, of pairs that share something, and as a run begins with them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import tree
from mmjax.core.config import load, plain
from mmjax.core.errors import UserError
from mmjax.sharding import mesh as meshes
from mmjax.train import fit, loop
from mmjax.train.cache import Cache

ROOT = Path(__file__).parents[2]
DEBUG = f"{ROOT}/configs/lit_tuxpaint.py:debug"


def covariances(xx, yy, xy):
    xx, yy, xy = (np.array(m, float) for m in (xx, yy, xy))
    return {"x": np.arange(1.0, len(xx) + 1), "y": np.zeros(len(yy)), "xx": xx, "yy": yy, "xy": xy}


@pytest.mark.parametrize(
    ("ridge", "power", "expected"),
    [
        # Variances 4 and 1 in both, correlations 0.5 and 1: the second direction comes first. Whitened: 1/2 and 1.
        (0.0, 0.0, [[0.0, 0.5], [1.0, 0.0]]),
        (0.0, 1.0, [[0.0, 0.25], [1.0, 0.0]]),
        # 1 x the mean variance, 2.5, is added: 6.5 and 3.5; correlations 2 / 6.5 and 1 / 3.5 change their order.
        (1.0, 0.0, [[6.5**-0.5, 0.0], [0.0, 3.5**-0.5]]),
        (1.0, 0.5, [[2**0.5 / 6.5, 0.0], [0.0, 1 / 3.5]]),
    ],
)
def test_cca_by_hand(ridge, power, expected):
    moments = covariances([[4, 0], [0, 1]], [[4, 0], [0, 1]], [[2, 0], [0, 1]])
    (kernel, bias), (other, _) = fit.cca(moments, 2, ridge=ridge, power=power)
    expected = np.array(expected)
    expected = expected / np.sqrt(2 * np.square(expected).mean())  # the scale of a fresh map: 1 / sqrt(2)
    np.testing.assert_allclose(np.abs(kernel), expected, atol=1e-12)
    np.testing.assert_allclose(kernel, other, atol=1e-12)
    np.testing.assert_allclose(bias, -np.array([1, 2]) @ kernel, atol=1e-12)


def test_what_two_views_share_is_recovered():
    """Four directions under noise of their own, beside others of nothing but louder noise, turned: they come first."""
    rng = np.random.default_rng(0)
    n, spread = 20_000, np.array([2.0, 1.5, 1.0, 0.7])
    shared = rng.normal(size=(n, 4)) * spread

    def view(noise):
        mixed = np.concatenate([shared + rng.normal(size=(n, 4)), 4 * rng.normal(size=(n, noise))], 1)
        return mixed @ np.linalg.qr(rng.normal(size=(4 + noise, 4 + noise)))[0] + 1

    x, y = view(8), view(4)
    found = jax.device_get(fit.moments(jnp.float32(x), jnp.float32(y)))
    np.testing.assert_allclose(found["xy"], np.cov(x.T, y.T, bias=True)[:12, 12:], atol=1e-4)
    (a, a_bias), (b, b_bias) = fit.cca(found, 4, ridge=0.0, power=0.0)
    u, v = x @ a + a_bias, y @ b + b_bias
    np.testing.assert_allclose(u.mean(0), 0, atol=1e-3)
    correlations = [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(correlations, spread**2 / (spread**2 + 1), atol=0.02)  # 3 deviations of 1 / sqrt(n)


@pytest.fixture(scope="module")
def made():
    """(settings, plan, fresh state, its cache, the fitted state)"""
    settings = plain(load(DEBUG))
    plan = loop.plan(settings, meshes.make(settings["mesh"], jax.devices()[:1]))
    state, stream = plan.make(), loop.setup(settings, "nowhere").stream
    cache = Cache(stream, plan, state["params"], state["stats"], 2)
    fitted = plan.filled(state, lambda arrays: fit.fit(settings["fit"], plan, cache.rows, arrays))
    return settings, plan, state, cache, fitted


def test_a_run_begins_with_it(made):
    settings, plan, state, cache, fitted = made
    old, new = tree.flatten(state["params"]), tree.flatten(fitted["params"])
    changed = {path for path in old if not np.array_equal(old[path], new[path])}
    assert changed == {f"{side}_projection/linear/{leaf}" for side in ("image", "text") for leaf in ("kernel", "bias")}
    model = plan.model.bind(fitted["params"], fitted["stats"])
    x, y = (cache.rows[f"{name}_encoded"] for name in ("image", "text"))
    z = [np.asarray(model.project(name, jnp.asarray(rows))) for name, rows in (("image", x), ("text", y))]
    x, y = ((v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-6) for v in (x, y))
    both = np.cov(x.T, y.T, bias=True)
    n = x.shape[1]
    moments = {"x": x.mean(0), "y": y.mean(0), "xx": both[:n, :n], "yy": both[n:, n:], "xy": both[:n, n:]}
    chosen = {name: value for name, value in settings["fit"].items() if name != "name"}
    plain = [v @ kernel + bias for v, (kernel, bias) in zip((x, y), fit.cca(moments, 16, **chosen), strict=True)]
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in plain)
    np.testing.assert_allclose(z[0] @ z[1].T, a @ b.T, atol=1e-3)  # single precision in the covariances
    assert (a * b).sum(1).mean() > 0.3


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["fit={'name': 'pca'}"], "unknown name 'pca'"),
        (["fit={'name': 'cca', 'ridges': 1}"], "takes no keyword 'ridges'"),
        (["cache=None"], "freeze both and set cache"),
        (["freeze=[['image_encoder/.*', True]]"], "freeze both and set cache"),
        (["model.text_projection='linear'"], "choose 'bias' or 'norm'"),
        (["model.dim=33"], "at most 32"),
    ],
)
def test_what_it_takes_is_said(overrides, said):
    settings = plain(load(DEBUG, overrides))
    with pytest.raises(UserError, match=said):
        loop.plan(settings, meshes.make(settings["mesh"], jax.devices()[:1]))
