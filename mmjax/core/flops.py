"""Floating-point operations of a program, from its jaxpr.

XLA's cost_analysis counts a loop's body once whatever its trip count, so a scanned Transformer looks one layer deep.
This walk multiplies: scan by its length, shard_map by its devices. Matrix products and convolutions are counted (2
operations a multiply-add), as published model flops are; elementwise work is not.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core as jax_core


def count(fn: Any, *args: Any) -> int:
    """Operations of one call of `fn(*args)`; args may be ShapeDtypeStructs. Nothing is compiled or run."""
    return _walk(jax.make_jaxpr(fn)(*args).jaxpr)


def again(fn: Callable) -> Callable:
    """`fn`, whose operations `count` leaves out: it computes anew what is counted where it was computed first."""

    def _again(*args):
        return fn(*args)

    return jax.jit(_again)


def _walk(jaxpr: jax_core.Jaxpr) -> int:
    return sum(_equation(eqn) for eqn in jaxpr.eqns)


def _equation(eqn: Any) -> int:
    name = eqn.primitive.name
    if name == "dot_general":
        (contract, _), _ = eqn.params["dimension_numbers"]
        lhs = eqn.invars[0].aval
        return 2 * eqn.outvars[0].aval.size * math.prod(lhs.shape[i] for i in contract)
    if name == "conv_general_dilated":
        numbers, kernel = eqn.params["dimension_numbers"], eqn.invars[1].aval
        out_channels = kernel.shape[numbers.rhs_spec[0]]
        # The transposed passes of a convolution dilate their input with zeros; multiplying zeros is not counted.
        dilation = math.prod(eqn.params["lhs_dilation"])
        return 2 * eqn.outvars[0].aval.size * kernel.size // out_channels // dilation
    if name == "scan":
        return eqn.params["length"] * _walk(eqn.params["jaxpr"].jaxpr)
    if name == "cond":
        return max(_walk(branch.jaxpr) for branch in eqn.params["branches"])
    if eqn.params.get("name") == "_again":
        return 0
    times = eqn.params["mesh"].size if name == "shard_map" else 1
    return times * sum(_walk(inner) for inner in _inner(eqn.params))


def _inner(params: dict[str, Any]) -> list[Any]:
    """The jaxprs that an equation carries (jit, remat, custom derivatives, while)."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, jax_core.ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, jax_core.Jaxpr):
                found.append(item)
    return found
