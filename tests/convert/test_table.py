"""The map: rows expanded over leaves, both directions, on arrays small enough to see."""

import numpy as np
import pytest

from mmjax.convert import table
from mmjax.convert.families import FAMILIES
from mmjax.convert.recognise import abstract
from mmjax.convert.table import Row, Tensor
from mmjax.core.errors import UserError

ROWS = [
    Row("layer.{layer}.weight", "params/blocks/kernel", "linear"),
    Row("layer.{layer}.qkv", tuple(f"params/blocks/{part}" for part in ("q", "k", "v")), "qkv"),
    Row("stage.{i}.{j}.bias", "params/stages/{i}/{j}/bias"),
]
OWN = {
    "params/blocks/kernel": np.zeros((2, 3, 1)),
    "params/blocks/q": np.zeros((2, 1)),
    "params/blocks/k": np.zeros((2, 1)),
    "params/blocks/v": np.zeros((2, 1)),
    "params/stages/0/1/bias": np.zeros(1),
}
FOREIGN = {
    "layer.0.weight": np.array([[1, 2, 3]]),
    "layer.1.weight": np.array([[4, 5, 6]]),
    "layer.0.qkv": np.array([7, 8, 9]),
    "layer.1.qkv": np.array([10, 11, 12]),
    "stage.0.1.bias": np.array([13]),
}


def tensors(arrays):
    return {name: table.tensor(x) for name, x in arrays.items()}


def test_layers_stack_and_split_and_come_back():
    entries = table.expand(ROWS, OWN)
    assert set(entries) == set(FOREIGN)
    leaves = table.read(entries, tensors(FOREIGN), OWN, "x")
    found = {path: leaf.read().tolist() for path, leaf in leaves.items()}
    assert found["params/blocks/kernel"] == [[[1], [2], [3]], [[4], [5], [6]]]
    assert [found[f"params/blocks/{part}"] for part in "qkv"] == [[[7], [10]], [[8], [11]], [[9], [12]]]
    assert found["params/stages/0/1/bias"] == [13]
    back = table.write(entries, leaves)
    assert {name: x.read().tolist() for name, x in back.items()} == {name: x.tolist() for name, x in FOREIGN.items()}
    assert {name: x.shape for name, x in back.items()} == {name: x.shape for name, x in FOREIGN.items()}


def test_a_leaf_is_read_once_for_all_its_layers_and_let_go():
    entries, read = table.expand(ROWS, OWN), []
    own = {path: Tensor(x.shape, x.dtype, lambda path=path, x=x: read.append(path) or x) for path, x in OWN.items()}
    for tensor in table.write(entries, own).values():
        tensor.read()
    assert sorted(read) == sorted(OWN)


def test_a_scalar_stays_a_scalar():
    entries = table.expand([Row("scale", "params/scale")], {"params/scale": np.zeros(())})
    scale = table.write(entries, tensors({"params/scale": np.array(2, np.float32)}))["scale"]
    assert scale.shape == scale.read().shape == ()


@pytest.mark.parametrize(
    "rows, message",
    [
        (ROWS[:2], "no row for 'params/stages/0/1/bias'"),
        ([*ROWS, ROWS[2]], "has two rows"),
        ([*ROWS[:2], Row("layer.0.weight", "params/stages/{i}/{j}/bias")], "'layer.0.weight' has two rows"),
    ],
)
def test_a_wrong_table_is_found(rows, message):
    with pytest.raises(RuntimeError, match=message):
        table.expand(rows, OWN)


def test_what_does_not_fit_is_one_line():
    entries = table.expand(ROWS, OWN)
    without = {name: x for name, x in FOREIGN.items() if name != "layer.1.qkv"}
    with pytest.raises(UserError, match=r"'layer.1.qkv' is missing. Did you mean 'layer.0.qkv'"):
        table.read(entries, tensors(without), OWN, "x")
    with pytest.raises(UserError, match=r"layer.0.weight \(1, 2\) gives \(2, 1\), and params/blocks/kernel is \(3, 1\)"):
        table.read(entries, tensors(FOREIGN | {"layer.0.weight": np.zeros((1, 2), int)}), OWN, "x")
    mixed = FOREIGN | {"layer.0.weight": np.zeros((1, 3), np.float16)}
    with pytest.raises(UserError, match="stored in float16, int64"):
        table.read(entries, tensors(mixed), OWN, "x")
    extra = tensors(FOREIGN | {"position_ids": np.zeros(2), "stage.0.2.bias": np.zeros(1)})
    with pytest.raises(UserError, match=r"'stage.0.2.bias' is of no known meaning"):
        table.rest(entries, extra, ["position_ids"], "x")
    del extra["stage.0.2.bias"]
    assert table.rest(entries, extra, ["position_ids"], "x") == ["position_ids"]


@pytest.mark.parametrize("name", [f"{f.name}/{f.format}/{like}" for f in FAMILIES for like in f.likes])
def test_published_models_have_one_row_a_leaf(name):
    kind, format, like = name.split("/", 2)
    family = next(f for f in FAMILIES if (f.name, f.format) == (kind, format))
    model = family.model(family.likes[like])
    if like.endswith("quickgelu") or like in ("ViT-bigG-14", "RN50x4"):  # the others differ by numbers alone
        table.expand(family.table(model), abstract(model))
    assert family.model(family.config(model)) == model
