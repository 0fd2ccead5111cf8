"""The wall around flax.nnx: define, init, bind, stack and scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.core import module, tap, tree
from mmjax.layers.norm import BatchNorm


class Net(nnx.Module):
    """Two listed layers, a norm with statistics, and a head that the forward never calls."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List(nnx.Linear(3, 3, rngs=rngs) for _ in range(2))
        self.norm = BatchNorm(3)
        self.head = nnx.Linear(3, 1, use_bias=False, rngs=rngs)

    def __call__(self, x, train: bool = False):
        for layer in self.layers:
            x = layer(x)
        return self.norm(x, train)


def net() -> module.Model:
    return module.define(lambda key: Net(module.rngs(key)))


def ramp(abstract):
    """The same small numbers for any shapes: 0, 0.1, 0.2 ..."""
    return jax.tree.map(lambda a: jnp.arange(a.size, dtype=a.dtype).reshape(a.shape) / 10, abstract)


@pytest.mark.smoke
def test_abstract_has_every_leaf_by_attribute_name():
    abstract = net().abstract
    assert {path: leaf.shape for path, leaf in tree.flatten(abstract).items()} == {
        "params/head/kernel": (3, 1),  # though no forward touches it
        "params/layers/0/bias": (3,),
        "params/layers/0/kernel": (3, 3),
        "params/layers/1/bias": (3,),
        "params/layers/1/kernel": (3, 3),
        "params/norm/bias": (3,),
        "params/norm/scale": (3,),
        "stats/norm/mean": (3,),
        "stats/norm/var": (3,),
    }
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in tree.flatten(abstract).values())


@pytest.mark.smoke
def test_init_gives_plain_dicts_of_arrays_of_the_abstract_shapes():
    model = net()
    params, stats = model.init(jax.random.key(0))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), {"params": params, "stats": stats}) == jax.tree.map(
        lambda a: (a.shape, a.dtype), model.abstract
    )
    assert type(params["layers"]["0"]) is dict
    assert all(type(leaf) is type(jnp.zeros(1)) for leaf in tree.flatten(params).values())
    again, other = model.init(jax.random.key(0))[0], model.init(jax.random.key(1))[0]
    assert (again["head"]["kernel"] == params["head"]["kernel"]).all()
    assert (other["head"]["kernel"] != params["head"]["kernel"]).any()


@pytest.mark.smoke
def test_a_bound_module_computes_with_the_given_arrays():
    model, x = net(), jnp.asarray([[1.0, 2.0, 3.0]])
    params, stats = ramp(model.abstract["params"]), model.init(jax.random.key(0))[1]
    hidden = x
    for i in "01":
        hidden = hidden @ params["layers"][i]["kernel"] + params["layers"][i]["bias"]
    wanted = hidden / np.sqrt(1 + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
    np.testing.assert_allclose(model.bind(params, stats)(x), wanted, rtol=1e-6)
    doubled = {**params, "norm": {**params["norm"], "scale": 2 * params["norm"]["scale"]}}
    assert not np.allclose(model.bind(doubled, stats)(x), wanted)


def test_gradients_are_dicts_like_the_parameters():
    model, x = net(), jnp.ones((2, 3))
    params, stats = model.init(jax.random.key(0))
    grads = jax.jit(jax.grad(lambda p: model.bind(p, stats)(x).sum()))(params)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    assert (grads["head"]["kernel"] == 0).all()
    np.testing.assert_allclose(grads["norm"]["bias"], [2, 2, 2])


def test_statistics_are_harvested_and_parameters_stay():
    model, x = net(), jnp.asarray([[0.0, 0, 0], [1, 2, 3]])
    params, stats = ramp(model.abstract["params"]), model.init(jax.random.key(0))[1]
    live = model.bind(params, stats)
    live(x)
    assert jax.tree.map(lambda a, b: bool((a == b).all()), model.stats(live), stats) == {"norm": {"mean": True, "var": True}}
    live(x, train=True)
    found = model.stats(live)["norm"]
    hidden = x
    for layer in live.layers:
        hidden = layer(hidden)
    np.testing.assert_allclose(found["mean"], 0.1 * hidden.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * hidden.var(0, ddof=1), rtol=1e-5)
    assert (stats["norm"]["mean"] == 0).all()  # what was bound is untouched


def test_a_batch_norm_whose_scale_and_bias_are_frozen_is_flagged():
    model = net()
    params, stats = model.init(jax.random.key(0))
    assert not model.bind(params, stats).norm.frozen
    assert not model.freeze({"norm/scale"}).bind(params, stats).norm.frozen
    frozen = model.freeze({"norm/scale", "norm/bias", "head/kernel"})
    live = frozen.bind(params, stats)
    assert live.norm.frozen
    live(jnp.ones((2, 3)) * 7, train=True)
    assert (frozen.stats(live)["norm"]["mean"] == 0).all()
    assert not model.bind(params, stats).norm.frozen  # freeze gave another model


class Layer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.norm = BatchNorm(3)

    def __call__(self, x, shift, train: bool):
        return tap.tap("output", self.norm(jnp.tanh(self.linear(x)) + shift, train))


class Deep(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.blocks = module.stack(Layer, 4, rngs)

    def __call__(self, x, shifts, train: bool, remat: str = "none"):
        return module.scan(self.blocks, lambda block, x, shift: block(x, shift, train), x, shifts, remat=remat)


@pytest.fixture(scope="module")
def deep():
    model = module.define(lambda key: Deep(module.rngs(key)))
    return model, *model.init(jax.random.key(0))


X, SHIFTS = jnp.asarray([[1.0, 0, -1], [0.5, 2, 0]]), jnp.arange(4.0)


@pytest.fixture(scope="module")
def looped(deep):
    """(value, new statistics, every layer's output) and the parameters' gradient, one layer after the other."""
    _, params, stats = deep
    one = module.define(lambda key: Layer(module.rngs(key)))

    def loss(params):
        x, seen, outputs = X, [], []
        for i, shift in enumerate(SHIFTS):
            live = one.bind(*jax.tree.map(lambda a, i=i: a[i], (params["blocks"], stats["blocks"])))
            x = live(x, shift, True)
            seen.append(one.stats(live))
            outputs.append(x)
        return (x * X).sum(), (x, {"blocks": jax.tree.map(lambda *a: jnp.stack(a), *seen)}, jnp.stack(outputs))

    (_, found), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return found, grads


def test_stacked_layers_start_from_different_keys(deep):
    kernel = deep[1]["blocks"]["linear"]["kernel"]
    assert kernel.shape == (4, 3, 3)
    assert len({float(k.sum()) for k in kernel}) == 4


@pytest.mark.parametrize("remat", module.REMAT)
def test_scan_is_a_loop_in_values_statistics_taps_and_gradients(deep, looped, remat):
    model, params, stats = deep

    def loss(params):
        live = model.bind(params, stats)
        with tap.frame() as out:
            x = live(X, SHIFTS, True, remat)
        return (x * X).sum(), (x, model.stats(live), out["blocks"]["output"])

    (_, found), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    for a, b in zip((found, grads), looped, strict=True):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), a, b)


def test_frozen_reaches_a_stacked_norm(deep):
    model, params, stats = deep
    frozen = model.freeze({"blocks/norm/scale", "blocks/norm/bias"})
    live = frozen.bind(params, stats)
    live(jnp.ones((2, 3)), jnp.zeros(4), True)
    assert (frozen.stats(live)["blocks"]["norm"]["mean"] == 0).all()
