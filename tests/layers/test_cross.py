"""The cross block against its formula, shared and own weights, the scanned stack, masks, taps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.core import keys, module, tap, tree
from mmjax.core.errors import UserError
from mmjax.layers.cross import CrossStack

B, T, S, D, N, M, DEPTH = 2, 5, 3, 6, 2, 7, 2
TEXT_VALID = jnp.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)
VISUAL_VALID = jnp.array([[1, 1, 0], [1, 1, 1]], bool)


def stack(depth=DEPTH, **options):
    return module.define(lambda key: CrossStack(depth, D, N, M, rngs=module.rngs(key), **options))


def fill(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), model.abstract["params"])


def pair():
    rng = np.random.default_rng(1)
    return tuple(jnp.asarray(rng.normal(size=(B, length, D)), jnp.float32) for length in (T, S))


def layers(bound):
    graph, arrays = nnx.split(bound.blocks)
    return [nnx.merge(graph, jax.tree.map(lambda a, i=i: a[i], arrays)) for i in range(bound.depth)]


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
@pytest.mark.parametrize("post_norm", [True, False], ids=["post_norm", "pre_norm"])
def test_stack_is_the_formula(shared, post_norm):
    model = stack(shared=shared, post_norm=post_norm)
    t, v = TEXT_VALID[:, None, None], VISUAL_VALID[:, None, None]

    @jax.jit
    def both(params, x, y):
        bound = model.bind(params)
        ours = bound(x, y, TEXT_VALID, VISUAL_VALID)
        for block in layers(bound):
            back, ln_back = (block.cross, block.ln_cross) if shared else (block.back, block.ln_back)
            if post_norm:
                a, b = block.ln_cross(x + block.cross(x, y, v)), ln_back(y + back(y, x, t))
            else:
                q, k = block.ln_cross(x), ln_back(y)
                a, b = x + block.cross(q, k, v), y + back(k, q, t)
            x, y = block.text(a, t), block.visual(b, v)
        return ours, (x, y) if post_norm else (bound.ln_text(x), bound.ln_visual(y))

    for ours, formula in zip(*both(fill(model), *pair()), strict=True):
        np.testing.assert_allclose(ours, formula, rtol=1e-5, atol=1e-5)  # float32


def test_shared_weights_are_one_set():
    shared, own = (tree.flatten(stack(shared=shared).abstract["params"]) for shared in (True, False))
    assert {path.split("/")[1] for path in set(own) - set(shared)} == {"back", "ln_back"}
    assert len(own) - len(shared) == 10


@functools.cache
def plain():
    """A compiled stack: (text, visual, text_valid, visual_valid, keys) -> (pair, taps)."""
    model = stack(dropout=0.3)

    @jax.jit
    def run(params, *args):
        with tap.frame() as out:
            return model.bind(params)(*args), out

    return lambda *args: run(fill(model), *args)


def test_padding_changes_nothing():
    (x, y), bound = pair(), lambda *args: plain()(*args)[0]
    a, b = bound(x, y, TEXT_VALID, VISUAL_VALID)
    moved = jnp.where(TEXT_VALID[..., None], x, 9.0), jnp.where(VISUAL_VALID[..., None], y, -9.0)
    c, d = bound(*moved, TEXT_VALID, VISUAL_VALID)
    np.testing.assert_allclose(a[TEXT_VALID], c[TEXT_VALID], atol=1e-5)
    np.testing.assert_allclose(b[VISUAL_VALID], d[VISUAL_VALID], atol=1e-5)
    assert np.abs(bound(x, y)[0] - a).max() > 0.01


def test_remat_changes_neither_value_nor_gradient():
    params, key = fill(stack()), keys.rows(jax.random.key(3), B)

    def run(remat):
        model = stack(remat=remat, dropout=0.2)
        loss = jax.value_and_grad(lambda p: sum(jnp.square(z).sum() for z in model.bind(p)(*pair(), key=key)))
        traced = jax.jit(loss).trace(params)
        return traced.lower().compile()(params), str(traced.jaxpr).count("dot_general")

    plain, products = run("none")
    again, more = run("full")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), plain, again)
    assert more > products


def test_dropout_is_drawn_from_each_examples_key():
    (x, y), key = pair(), keys.rows(jax.random.key(3), B)
    whole, part = (plain()(x, y, None, None, key)[0], plain()(x[1:], y[1:], None, None, key[1:])[0])
    assert np.abs(whole[0] - plain()(x, y)[0][0]).max() > 0.01
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_allclose(a[1:], b, atol=1e-5)


def test_taps_of_both_directions_and_gradients_at_them():
    model, (x, y) = stack(), pair()
    blocks = plain()(x, y, TEXT_VALID, VISUAL_VALID)[1]["blocks"]
    assert blocks["t2v"].shape == (DEPTH, B, N, T, S)
    assert blocks["v2t"].shape == (DEPTH, B, N, S, T)
    assert blocks["text"]["attention"].shape == (DEPTH, B, N, T, T)
    assert blocks["visual"]["output"].shape == (DEPTH, B, S, D)
    np.testing.assert_allclose(blocks["t2v"].sum(-1), 1, rtol=1e-6)
    assert (blocks["v2t"][:, 1, :, :, 2:] == 0).all()

    def run(zeros):
        with tap.perturb({"blocks": {"text": {"output": zeros}}}), tap.frame():
            return (3 * model.bind(fill(model))(x, y)[0]).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(run))(jnp.zeros((DEPTH, B, T, D)))[-1], 3)


def test_depth_zero_and_unknown_names():
    x, y = pair()
    assert stack(0).bind({})(x, y) == (x, y)
    with pytest.raises(UserError, match="remat: unknown 'some'"):
        stack(remat="some")
