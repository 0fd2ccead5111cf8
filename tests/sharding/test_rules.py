"""Storage rules on a mesh that is not here: data 2 x fsdp 4 x model 2."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.core import tree
from mmjax.core.errors import UserError
from mmjax.sharding import mesh as meshes
from mmjax.sharding import rules as storage
from mmjax.train import optim

MESH = meshes.abstract({"data": 2, "fsdp": 4, "model": 2}, 16)
FSDP = [[".*", "fsdp"]]


def leaf(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def placed(rules, path, *shape):
    return storage.place(rules, tree.unflatten({path: leaf(*shape)}), MESH)[path]


@pytest.mark.smoke
@pytest.mark.parametrize(
    "path, shape, spec",
    [
        ("fc/kernel", (256, 512), (None, "fsdp")),
        ("fc/kernel", (512, 256), ("fsdp",)),
        ("fc/kernel", (512, 513), ("fsdp",)),  # the largest does not divide by 4
        ("fc/kernel", (256, 256), ("fsdp",)),  # the first of equals
        ("conv/kernel", (3, 3, 64, 130), (None, None, "fsdp")),
        ("blocks/fc/kernel", (256, 160, 128), (None, "fsdp")),  # the layer axis, though the largest, stays whole
        ("image/blocks/fc/kernel", (24, 130, 256), (None, None, "fsdp")),
        ("blocks/fc/kernel", (256, 127, 128), ()),  # small, a layer
        ("blocks/fc/bias", (512, 126), ()),  # only the layer axis would divide
        ("myblocks/fc/kernel", (512, 126), ("fsdp",)),
        ("fc/kernel", (127, 128), ()),  # below 2 ** 14 elements
        ("fc/kernel", (128, 128), ("fsdp",)),
        ("scale", (), ()),
    ],
)
def test_fsdp_splits_the_largest_free_dimension(path, shape, spec):
    assert placed(FSDP, path, *shape).spec == PartitionSpec(*spec)


def test_a_leaf_that_stays_whole_says_why():
    assert placed(FSDP, "bias", 64).note == "small"
    assert placed(FSDP, "kernel", 127, 255).note == "stays whole: no dimension of (127, 255) divides by fsdp 4"
    assert placed(FSDP, "kernel", 256, 256).note == ""
    one = meshes.abstract({"data": -1}, 8)
    assert storage.place(FSDP, {"kernel": leaf(127, 255)}, one)["kernel"].note == ""  # nothing was asked for


@pytest.mark.smoke
@pytest.mark.parametrize(
    "value, path, shape, spec",
    [
        (["fsdp", "model"], "q/kernel", (8, 6), ("fsdp", "model")),
        (["fsdp", "model"], "blocks/q/kernel", (3, 8, 6), (None, "fsdp", "model")),
        ([None, "model"], "q/kernel", (5, 6), (None, "model")),
        ([["data", "fsdp"]], "queue", (3, 16), (None, ("data", "fsdp"))),
        ("whole", "q/kernel", (512, 512), ()),
    ],
)
def test_a_list_names_the_trailing_dimensions(value, path, shape, spec):
    found = placed([[path, value], *FSDP], path, *shape)
    assert found.spec == PartitionSpec(*spec)
    assert found.rule == path


@pytest.mark.parametrize(
    "rules, text",
    [
        ([], "sharding: end the rules with ['.*', 'fsdp'] or ['.*', 'whole'], so that every leaf has a place"),
        ([["a/.*", "fsdp"]], "sharding: end the rules with ['.*', 'fsdp'] or ['.*', 'whole'], so that every leaf has a place"),
        (
            [["a/kernal", "whole"], *FSDP],
            "sharding: rule 'a/kernal' covers no leaf; there is a/bias, a/kernel. Did you mean 'a/kernel'?",
        ),
        ([["a/.*", "fdsp"], *FSDP], "sharding: rule 'a/.*': 'fdsp' is not 'fsdp', 'whole' or a list of mesh axes"),
        ([[".*bias", ["fsdp", "model"]], *FSDP], "sharding: rule '.*bias' names 2 dimensions and a/bias has shape (8,)"),
        ([["a/.*", ["tensor"]], *FSDP], "sharding: rule 'a/.*': unknown mesh axis 'tensor'; the axes are: data, fsdp, model"),
        (
            [["a/kernel", ["model", "fsdp"]], *FSDP],
            "sharding: rule 'a/kernel': a/kernel (8, 6) does not divide over 'fsdp': change the rule or the mesh",
        ),
        ([["a/kernel", ["model", "model"]], *FSDP], "sharding: rule 'a/kernel' uses mesh axis 'model' twice"),
    ],
)
def test_rules_that_cannot_be_kept(rules, text):
    with pytest.raises(UserError) as error:
        storage.place(rules, {"a": {"kernel": leaf(8, 6), "bias": leaf(8)}}, MESH)
    assert str(error.value) == text


def test_an_explicit_rule_never_splits_the_layer_axis():
    with pytest.raises(UserError, match="names 2 dimensions and blocks/bias has shape"):
        placed([["blocks/bias", ["fsdp", "model"]], *FSDP], "blocks/bias", 4, 8)


PARAMS = {"blocks": {"kernel": leaf(3, 256, 512)}, "out": {"kernel": leaf(512, 1024), "bias": leaf(1024)}}
RULES = [["out/kernel", ["model", "fsdp"]], *FSDP]


def follow(tx):
    state = jax.eval_shape(tx.init, PARAMS)
    return storage.follow(RULES, storage.place(RULES, PARAMS, MESH), PARAMS, state, MESH)


@pytest.mark.smoke
def test_moments_lie_where_their_parameters_lie():
    specs = {path: place.spec for path, place in follow(optax.adam(1.0)).items()}
    assert specs == {
        "0/count": PartitionSpec(),
        **{f"0/{m}/blocks/kernel": PartitionSpec(None, None, "fsdp") for m in ("mu", "nu")},
        **{f"0/{m}/out/kernel": PartitionSpec("model", "fsdp") for m in ("mu", "nu")},
        **{f"0/{m}/out/bias": PartitionSpec() for m in ("mu", "nu")},
    }


def test_factors_of_another_shape_fall_to_the_last_rule():
    found = follow(optim.adafactor(momentum=0.9))
    for path, place in found.items():
        if "v_row" in path or "v_col" in path or path.endswith("v/out/kernel"):
            assert place.rule == ".*", path
    momentum = [place.spec for path, place in found.items() if path.endswith("ema/out/kernel")]
    assert momentum == [PartitionSpec("model", "fsdp")]


def test_what_mirrors_no_parameter_goes_through_the_table():
    rules = [["queue", [["data", "fsdp"], None]], *RULES]
    extra = {"queue": leaf(4, 64, 32), "momentum": PARAMS}
    found = storage.follow(rules, storage.place(RULES, PARAMS, MESH), PARAMS, extra, MESH)
    assert found["queue"].spec == PartitionSpec(None, ("data", "fsdp"), None)
    assert found["momentum/out/kernel"].spec == PartitionSpec("model", "fsdp")


def test_a_rule_for_a_queue_alone_is_no_typo():
    rules, extra = [["queue", [["data", "fsdp"], None]], *FSDP], {"queue": leaf(4, 16, 8)}
    storage.place(rules, PARAMS, MESH, beside=extra)
    with pytest.raises(UserError, match="rule 'queue' covers no leaf"):
        storage.place(rules, PARAMS, MESH)


def test_bytes_of_one_device():
    placements = storage.place(RULES, PARAMS, MESH)
    assert storage.bytes_a_device(placements, PARAMS, MESH) == {
        "blocks/kernel": 3 * 256 * 512 * 4 // 4,
        "out/kernel": 512 * 1024 * 4 // 8,
        "out/bias": 1024 * 4,
    }


def test_shardings_have_the_structure_of_what_they_place():
    tx = optax.adam(1.0)
    state = jax.eval_shape(tx.init, PARAMS)
    made = storage.shardings(follow(tx), state, MESH)
    assert jax.tree.structure(made) == jax.tree.structure(state)
    assert made[0].mu["out"]["kernel"] == NamedSharding(MESH, PartitionSpec("model", "fsdp"))
