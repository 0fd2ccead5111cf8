"""Operations counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from mmjax.core import flops, module
from mmjax.layers.block import Stack
from mmjax.sharding import mesh as meshes


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


@pytest.mark.smoke
def test_a_matrix_product_is_two_operations_a_multiply_add():
    assert flops.count(jnp.matmul, shape(3, 4), shape(4, 5)) == 2 * 3 * 4 * 5
    assert flops.count(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), shape(7, 3, 4), shape(7, 4, 5)) == 7 * 120
    assert flops.count(lambda a: jnp.tanh(a) + 1, shape(3, 4)) == 0


def test_the_backward_of_a_matrix_product_costs_two_more():
    def loss(a, b):
        return (a @ b).sum()

    assert flops.count(jax.value_and_grad(loss, 0), shape(3, 4), shape(4, 5)) == 2 * 120
    assert flops.count(jax.value_and_grad(loss, (0, 1)), shape(3, 4), shape(4, 5)) == 3 * 120


@pytest.mark.parametrize("stride, groups", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_convolution_and_its_backward(stride, groups):
    batch, size, kernel, inputs, outputs = 2, 8, 3, 4, 6

    def conv(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    args = shape(batch, size, size, inputs), shape(kernel, kernel, inputs // groups, outputs)
    once = 2 * batch * (size // stride) ** 2 * outputs * kernel**2 * inputs // groups
    assert flops.count(conv, *args) == once
    for arg in (0, 1):  # each gradient repeats the forward's multiply-adds
        assert flops.count(jax.value_and_grad(lambda x, w: conv(x, w).sum(), arg), *args) == 2 * once
    assert flops.count(jax.value_and_grad(lambda x, w: (conv(x, w) ** 2).sum(), (0, 1)), *args) == 3 * once


def test_a_scan_is_its_length_times_its_body():
    def run(x, ws):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, ws)[0]

    assert flops.count(run, shape(3, 4), shape(6, 4, 4)) == 6 * 2 * 3 * 4 * 4
    assert flops.count(jax.jit(run), shape(3, 4), shape(6, 4, 4)) == 6 * 2 * 3 * 4 * 4


def test_a_condition_takes_its_larger_branch():
    def run(p, x):
        return jax.lax.cond(p, lambda x: (x @ x) @ x, lambda x: x @ x, x)

    assert flops.count(run, jax.ShapeDtypeStruct((), bool), shape(4, 4)) == 2 * 2 * 4**3


def test_remat_counts_what_the_backward_computes_again():
    def loss(a, b):
        return jnp.square(jax.checkpoint(lambda a, b: jnp.sin(a @ b))(a, b)).sum()

    assert flops.count(jax.grad(loss, (0, 1)), shape(3, 4), shape(4, 5)) == 4 * 120  # forward, forward again, two backward


def test_a_shard_map_is_counted_on_all_its_devices():
    mesh = meshes.abstract({"data": 4}, 4)
    rows = PartitionSpec("data")
    run = jax.shard_map(lambda a, b: a @ b, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    assert flops.count(run, shape(8, 4), shape(4, 5)) == 2 * 8 * 4 * 5


@pytest.mark.parametrize("depth", [2, 4])
def test_a_scanned_stack_counts_as_a_loop(depth):
    batch, length, width, hidden = 2, 5, 8, 16
    model = module.define(lambda key: Stack(depth, width, 2, hidden, rngs=module.rngs(key)))
    one = module.define(lambda key: Stack(1, width, 2, hidden, rngs=module.rngs(key)))
    params, x = model.abstract["params"], shape(batch, length, width)

    def scanned(params, x):
        return jnp.square(model.bind(params)(x)).sum()

    def looped(params, x):
        for i in range(depth):
            x = one.bind(jax.tree.map(lambda a, i=i: a[i : i + 1], params))(x)
        return jnp.square(x).sum()

    tokens = batch * length
    layer = 2 * (4 * tokens * width**2 + 2 * tokens * length * width + 2 * tokens * width * hidden)
    assert flops.count(scanned, params, x) == flops.count(looped, params, x) == depth * layer
    # With respect to x too: otherwise the loop's first layer, but not the scan's, is spared its input's gradient.
    for fn in (scanned, looped):
        assert flops.count(jax.value_and_grad(fn, (0, 1)), params, x) == 3 * depth * layer
