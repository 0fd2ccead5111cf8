"""Activations, the block, the scanned stack, and what its taps cost."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.core import flops, keys, module, tap
from mmjax.core.errors import UserError
from mmjax.layers.block import ACTIVATIONS, Block, Mlp, Stack
from mmjax.layers.init import clip, init, xavier

B, T, D, N, M, DEPTH = 2, 5, 6, 2, 7, 3


def stack(depth=DEPTH, **options):
    return module.define(lambda key: Stack(depth, D, N, M, rngs=module.rngs(key), **options))


def fill(model):
    """Parameters of standard deviation 0.5, by numpy: XLA takes seconds to compile the real initialisers."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), model.abstract["params"])


def draw(seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(B, T, D)), jnp.float32)


@pytest.mark.parametrize("x", [-2.0, -0.3, 0.0, 1.5])
def test_activations_are_their_closed_forms(x):
    forms = {
        "gelu": 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
        "gelu_tanh": 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "quick_gelu": x / (1 + math.exp(-1.702 * x)),
    }
    assert forms.keys() == ACTIVATIONS.keys()
    for name, form in forms.items():
        assert float(ACTIVATIONS[name](jnp.float32(x))) == pytest.approx(form, abs=1e-6), name


def test_mlp_rejects_an_unknown_activation():
    with pytest.raises(UserError, match=r"'gelu_tan'.*Did you mean 'gelu_tanh'"):
        Mlp(2, 2, act="gelu_tan", init=xavier(2, 1), rngs=module.rngs(jax.random.key(0)))


def held(fn, *args):
    """Shapes of the activations (the arrays that lead with B) that the backward pass of `fn` keeps."""
    return sorted(x.shape for x in jax.tree.leaves(jax.vjp(fn, *args)[1]) if x.shape[:1] == (B,))


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_mlp_keeps_one_hidden_array_and_its_gradients_are_the_plain_formulas(act):
    model = module.define(lambda key: Mlp(D, M, act=act, init=xavier(D, 1), rngs=module.rngs(key)))
    params, x = fill(model), draw()

    def plain(p, x):
        hidden = ACTIVATIONS[act](x @ p["fc1"]["kernel"] + p["fc1"]["bias"])
        return hidden @ p["fc2"]["kernel"] + p["fc2"]["bias"]

    def ours(p, x):
        return model.bind(p)(x)

    assert held(ours, params, x) == [(B, T, D), (B, T, M)]
    assert held(plain, params, x).count((B, T, M)) > 1
    theirs, pull = jax.vjp(plain, params, x)
    y, pull_ours = jax.vjp(ours, params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), (y, pull_ours(y)), (theirs, pull(y)))
    gradient = jax.grad(lambda f, *args: f(*args).sum(), argnums=(1, 2))
    assert flops.count(lambda *args: gradient(ours, *args), params, x) == flops.count(
        lambda *args: gradient(plain, *args), params, x
    )


def test_block_is_pre_norm():
    """With zero output kernels each half adds its bias only; with a zero MLP the block is x + attn(ln1(x))."""
    block = Block(
        D, N, M, act="gelu", norm_eps=1e-6, dropout=0.0, attention="plain", init=xavier(D, 1),
        rngs=module.rngs(jax.random.key(0)),
    )  # fmt: skip
    x = draw()
    block.mlp.fc2.kernel[...] = jnp.zeros((M, D))
    np.testing.assert_allclose(block(x), x + block.attn(block.ln1(x)), atol=1e-6)
    block.attn.out.kernel[...] = jnp.zeros((D, D))
    block.mlp.fc2.bias[...] = jnp.arange(D, dtype=jnp.float32)
    np.testing.assert_allclose(block(x), x + jnp.arange(D), atol=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_scan_is_a_loop_over_layers(dropout):
    model, x, key = stack(dropout=dropout), draw(), keys.rows(jax.random.key(2), 2)
    params = fill(model)

    @jax.jit
    def scan_and_loop(params, x):
        bound = model.bind(params)
        graph, arrays = nnx.split(bound.blocks)
        y = x
        for i, layer in enumerate(keys.split(key, DEPTH)):
            y = nnx.merge(graph, jax.tree.map(lambda a, i=i: a[i], arrays))(y, key=layer if dropout else None)
        return bound(x, key=key), y

    np.testing.assert_allclose(*scan_and_loop(params, x), atol=2e-6)


def test_remat_changes_neither_value_nor_gradient():
    """A block has 8 products: "dots" recomputes attention's two, "full" all but the last, which nothing reads."""
    params = fill(stack())

    def run(remat):
        model = stack(remat=remat, dropout=0.2)
        key = keys.rows(jax.random.key(3), 2)  # the second pass must drop what the first did
        loss = jax.value_and_grad(lambda params, x: jnp.square(model.bind(params)(x, key=key)).sum())
        traced = jax.jit(loss).trace(params, draw())
        return traced.lower().compile()(params, draw()), str(traced.jaxpr).count("dot_general")

    plain, products = run("none")
    for remat, more in (("dots", 2), ("full", 7)):
        again, count = run(remat)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), plain, again)
        assert count == products + more


def test_depth_zero_and_unknown_names():
    model = stack(0)
    assert model.abstract["params"] == {}
    np.testing.assert_array_equal(model.bind({})(draw()), draw())
    with pytest.raises(UserError, match="remat: unknown 'some'"):
        stack(remat="some")
    with pytest.raises(UserError, match=r"init: unknown name 'clop'.*Did you mean 'clip'"):
        stack(init="clop")


def test_no_random_number_without_a_rate():
    def drawn(dropout):
        model = stack(dropout=dropout)
        params = fill(model)
        run = jax.make_jaxpr(lambda params, x, key: model.bind(params)(x, key=key))
        return "random_" in str(run(params, draw(), keys.rows(jax.random.key(0), 2)))

    assert drawn(0.1)
    assert not drawn(0.0)


def test_layers_start_differently():
    kernel = jax.jit(stack(2).init)(jax.random.key(0))[0]["blocks"]["attn"]["query"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1


def test_clip_kernels_shrink_with_width_and_depth():
    scheme = init("clip", 64, 8)
    shape, key = (64, 64), jax.random.key(0)
    assert float(scheme.qkv(key, shape).std()) == pytest.approx(1 / 8, rel=0.05)
    assert float(scheme.out(key, shape).std()) == pytest.approx(1 / 32, rel=0.05)  # 1/8 over sqrt(2 x 8)
    assert float(scheme.up(key, shape).std()) == pytest.approx(1 / math.sqrt(128), rel=0.05)
    assert (scheme.token, scheme.position) == (0.02, 0.01) == (clip(8, 0).token, clip(8, 0).position)


def test_gradient_at_a_tapped_intermediate_is_the_hand_computed_one():
    """The last layer's output o enters loss = sum(w o), so the gradient there is w, and before it w times the Jacobian."""
    model, x = stack(), draw()
    params = fill(model)
    w = draw(5)

    def run(zeros):
        with tap.perturb({"blocks": {"output": zeros}}), tap.frame() as out:
            y = model.bind(params)(x)
        return (w * y).sum(), out

    gradient, out = jax.jit(jax.grad(run, has_aux=True))(jnp.zeros((DEPTH, B, T, D)))
    np.testing.assert_allclose(gradient[-1], w, rtol=1e-6)
    graph, arrays = nnx.split(model.bind(params).blocks)
    final = nnx.merge(graph, jax.tree.map(lambda a: a[-1], arrays))
    by_hand = jax.jit(lambda x: jax.vjp(final, x)[1](w)[0])(out["blocks"]["output"][-2])
    np.testing.assert_allclose(gradient[-2], by_hand, atol=1e-5)
    assert out["blocks"]["attention"].shape == (DEPTH, B, N, T, T)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_unread_taps_cost_nothing(remat):
    """The stacked probabilities appear in the compiled program only where somebody reads them."""
    model = stack(remat=remat)
    params = fill(model)

    def compiled(read):
        def run(params, x):
            with tap.frame() as out:
                y = model.bind(params)(x)
            return (y, out["blocks"]["attention"]) if read else y

        return jax.jit(run).lower(params, draw()).compile().as_text()

    stacked = re.compile(rf"f32\[{DEPTH},{B},{N},{T},{T}\]")
    assert stacked.search(compiled(True))
    assert not stacked.search(compiled(False))


def test_fused_has_the_same_values():
    model, fused = stack(), stack(attention="fused")
    params = fill(model)
    mask = jnp.tril(jnp.ones((T, T), bool))[None, None]
    np.testing.assert_allclose(model.bind(params)(draw(), mask), fused.bind(params)(draw(), mask), atol=2e-6)


def test_post_norm_and_layer_scale_are_their_formulas():
    options = {"act": "gelu", "norm_eps": 1e-6, "dropout": 0.0, "attention": "plain", "init": xavier(D, 1)}
    model = module.define(
        lambda key: Block(D, N, M, post_norm=True, layer_scale=True, key_bias=False, rngs=module.rngs(key), **options)
    )
    assert "bias" not in model.abstract["params"]["attn"]["key"]
    block, x = model.bind(fill(model)), draw()
    y = block.ln1(x + block.scale1[...] * block.attn(x))
    z = block.ln2(y + block.scale2[...] * block.mlp(y))
    np.testing.assert_allclose(block(x), z, rtol=1e-5, atol=1e-6)  # float32


@pytest.mark.parametrize("post_norm", [True, False], ids=["post_norm", "pre_norm"])
def test_a_cross_block_attends_between_its_two_halves(post_norm):
    options = {"act": "gelu", "norm_eps": 1e-6, "dropout": 0.0, "attention": "plain", "init": xavier(D, 1)}
    model = module.define(lambda key: Block(D, N, M, post_norm=post_norm, cross=True, rngs=module.rngs(key), **options))
    block, x, kv = model.bind(fill(model)), draw(), draw(2)[:, :3]
    mask = jnp.array([[1, 1, 0], [0, 1, 1]], bool)[:, None, None]
    with tap.frame() as out:
        y = block(x, kv=kv, kv_mask=mask)
    if post_norm:
        a = block.ln1(x + block.attn(x))
        b = block.ln_cross(a + block.cross(a, kv, mask))
        expected = block.ln2(b + block.mlp(b))
    else:
        a = x + block.attn(block.ln1(x))
        b = a + block.cross(block.ln_cross(a), kv, mask)
        expected = b + block.mlp(block.ln2(b))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)  # float32
    assert out["cross_attention"].shape == (B, N, T, 3)
    assert (out["cross_attention"][0, :, :, 2] == 0).all()
    assert np.abs(block(x) - y).max() > 0.01  # without another sequence the half is passed over


def test_a_stack_with_cross_halves_is_a_loop_over_layers():
    model, x, kv, key = stack(cross=True, post_norm=True, dropout=0.3), draw(), draw(2)[:, :3], keys.rows(jax.random.key(2), 2)
    mask = jnp.array([[1, 1, 0], [0, 1, 1]], bool)[:, None, None]

    @jax.jit
    def scan_and_loop(params, x):
        bound = model.bind(params)
        graph, arrays = nnx.split(bound.blocks)
        y = x
        for i, layer in enumerate(keys.split(key, DEPTH)):
            y = nnx.merge(graph, jax.tree.map(lambda a, i=i: a[i], arrays))(y, None, layer, kv, mask)
        with tap.frame() as out:
            return bound(x, None, key, kv, mask), y, out

    *both, out = scan_and_loop(fill(model), x)
    np.testing.assert_allclose(*both, atol=2e-6)
    assert out["blocks"]["cross_attention"].shape == (DEPTH, B, N, T, 3)
