"""Checkpoints: what goes in comes out bit for bit, what does not fit is listed, what is half written is passed over."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.checkpoint import store
from mmjax.core.errors import UserError
from mmjax.sharding import mesh as meshes

META = {"config": {"steps": 7, "lr": 0.1}, "seed": 3, "tokenizer": None}


def make_state():
    rng = np.random.default_rng(0)
    params = {"fc": {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "bias": jnp.asarray([0.1, -0.0, 1e-40, 3])}}
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1, mu_dtype="bfloat16"))
    _, opt = tx.update(params, tx.init(params), params)
    return {
        "step": jnp.int32(7),
        "params": params,
        "stats": {"norm": {"mean": jnp.asarray([1.5, jnp.inf])}},
        "ema": {},
        "opt": opt,
        "extra": {"queue": jnp.arange(6, dtype=jnp.uint8).reshape(2, 3)},
    }


def places(like):
    where = NamedSharding(meshes.make({"data": -1}, jax.devices()[:1]), PartitionSpec())
    return jax.tree.map(lambda _: where, like)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(scope="module")
def state():
    return make_state()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, state):
    """A workdir with checkpoints 5 and 10, read only."""
    folder = tmp_path_factory.mktemp("run")
    saved = store.Store(str(folder), keep=2)
    for step in (0, 5, 10):
        saved.save(step, {**state, "step": jnp.int32(step)}, {**META, "at": step})
    saved.close()
    return folder


@pytest.mark.smoke
def test_a_state_comes_back_bit_for_bit(workdir, state):
    opened = store.Store(str(workdir))
    assert opened.latest() == 10
    like = jax.eval_shape(lambda: state)
    found = opened.restore(5, like, places(like))
    same(found, {**state, "step": jnp.int32(5)})
    assert found["params"]["fc"]["kernel"].sharding == places(1)
    opened.close()


def test_only_the_newest_are_kept(workdir):
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["10", "5"]


def test_meta_comes_back(workdir):
    assert store.meta(store.find(str(workdir))) == {**META, "at": 10}


@pytest.mark.smoke
def test_some_parts_alone(workdir, state):
    like = jax.eval_shape(lambda: {part: state[part] for part in ("params", "stats")})
    found = store.restore(store.find(str(workdir)), like, places(like), parts=("params", "stats"))
    same(found, {part: state[part] for part in ("params", "stats")})


def test_a_restored_leaf_has_the_dtype_asked_for(workdir):
    like = {
        "params": {
            "fc": {"kernel": jax.ShapeDtypeStruct((3, 4), jnp.bfloat16), "bias": jax.ShapeDtypeStruct((4,), jnp.float32)}
        }
    }
    assert (
        store.restore(store.find(str(workdir)), like, places(like), parts=["params"])["params"]["fc"]["kernel"].dtype
        == jnp.bfloat16
    )


def test_what_does_not_fit_is_listed(workdir, state):
    shape = jax.ShapeDtypeStruct
    like = {"params": {"fc": {"kernel": shape((3, 5), jnp.float32)}, "head": {"kernel": shape((2,), jnp.float32)}}}
    folder = store.find(str(workdir))
    with pytest.raises(UserError) as error:
        store.restore(folder, like, places(like), parts=["params"])
    assert str(error.value) == (
        f"checkpoint {folder} does not fit this config; 1 missing: params/head/kernel; 1 superfluous: params/fc/bias; "
        "1 of another shape: params/fc/kernel (3, 4) there, (3, 5) here"
    )
    like = jax.eval_shape(lambda: {**state, "opt": {}})
    with pytest.raises(UserError, match=r"; 5 superfluous: opt/1/0/count, opt/1/0/mu/fc/bias, .*$"):
        store.restore(folder, like, places(like))


def test_long_lists_are_cut():
    leaves = {f"params/{i}": jax.ShapeDtypeStruct((1,), jnp.float32) for i in range(7)}
    with pytest.raises(UserError, match=r"7 missing: params/0, params/1, params/2, params/3, params/4 \.\.\.$"):
        store.compare({}, leaves, "x")
    store.compare(leaves, leaves, "x")


@pytest.mark.parametrize("given, step", [("", "10"), ("checkpoints", "10"), ("checkpoints/5", "5"), ("checkpoints/10/", "10")])
def test_find_takes_a_workdir_its_checkpoints_or_one_of_them(workdir, given, step):
    assert store.find(f"{workdir}/{given}") == workdir / "checkpoints" / step


@pytest.mark.parametrize("given", ["nowhere", "checkpoints/7", "checkpoints/5/state"])
def test_find_says_what_to_give(workdir, given):
    with pytest.raises(
        UserError, match=r"^--checkpoint: no checkpoint in '.*': give a workdir of mmjax train, or its checkpoints/"
    ):
        store.find(f"{workdir}/{given}")


@pytest.mark.smoke
def test_steps_are_ordered_as_numbers(workdir, tmp_path):
    for step in ("5", "10"):
        shutil.copytree(workdir / "checkpoints" / "5", tmp_path / "checkpoints" / step)
    assert store.find(str(tmp_path)).name == "10"


@pytest.mark.parametrize(
    "half", ["20.orbax-checkpoint-tmp", "20.orbax-checkpoint-tmp-123", "20 without meta", "20 without state", "20 empty"]
)
def test_a_half_written_checkpoint_is_not_the_latest(workdir, tmp_path, state, half):
    folder = tmp_path / "checkpoints"
    shutil.copytree(workdir / "checkpoints" / "10", folder / "10")
    shutil.copytree(workdir / "checkpoints" / "10", folder / half.partition(" ")[0])
    if "without" in half:
        shutil.rmtree(folder / "20" / half.split()[-1])
    if "empty" in half:
        shutil.rmtree(folder / "20")
        (folder / "20").mkdir()
    assert store.find(str(tmp_path)).name == "10"
    opened = store.Store(str(tmp_path))
    assert opened.latest() == 10
    opened.save(20, state, META)  # a resumed run gets there again
    opened.close()
    assert store.find(str(tmp_path)).name == "20"
    assert store.meta(store.find(str(tmp_path))) == META


def test_json_is_written_whole_or_not_at_all(tmp_path):
    store.write_json(tmp_path / "new" / "results.json", {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(tmp_path / "new" / "results.json", {"a": object()})
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == {"a": 1}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["results.json"]
