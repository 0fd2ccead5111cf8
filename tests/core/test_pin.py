"""Where activations live."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from mmjax.core.pin import on, pin
from mmjax.sharding.mesh import PINS, make


def constraints(fn, *args) -> list[NamedSharding]:
    found = jax.make_jaxpr(lambda *args: fn(*args))(*args).jaxpr.eqns  # a new function: jax remembers traces by function
    return [eqn.params["sharding"] for eqn in found if eqn.primitive.name == "sharding_constraint"]


@pytest.mark.smoke
def test_without_a_mesh_pin_does_nothing():
    x = jnp.ones((2, 3))
    assert pin(x) is x
    assert pin(x, "no such kind") is x
    with on(None, PINS):
        assert pin(x) is x


def test_with_a_mesh_pin_constrains_every_leaf():
    mesh = make({"data": -1}, jax.devices()[:1])
    tree = {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}
    with on(mesh, PINS):
        assert [s.spec for s in constraints(pin, tree)] == [PINS["rows"]] * 2
        assert [s.spec for s in constraints(lambda x: pin(x, "whole"), tree["a"])] == [PINS["whole"]]
        assert constraints(pin, tree)[0].mesh == mesh
    assert constraints(pin, tree) == []


def test_a_kind_without_a_rule_is_an_error():
    with (
        on(make({"data": -1}, jax.devices()[:1]), PINS),
        pytest.raises(ValueError, match="pin: the mesh has no rule for 'heads'; it has: rows, chunks, whole"),
    ):
        pin(jnp.ones(2), "heads")


def test_the_mesh_is_forgotten_after_an_error():
    with pytest.raises(ZeroDivisionError), on(make({"data": -1}, jax.devices()[:1]), PINS):
        raise ZeroDivisionError
    x = jnp.ones(2)
    assert pin(x) is x
