"""A batch in chunks gives the loss, terms and gradients of the whole batch; what could not is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.core import flops, keys, module, tree
from mmjax.core.errors import UserError
from mmjax.layers.drop import dropout
from mmjax.layers.norm import BatchNorm
from mmjax.losses import CONTRASTIVE
from mmjax.sharding import mesh as meshes
from mmjax.tasks.task import Task
from mmjax.train import state as states
from mmjax.train import step as steps
from mmjax.train.chunks import Cut

B, WIDTH = 7, 4
OPTIM = {"name": "adamw", "args": {}, "lr": 0.1, "schedule": {"name": "constant"}, "weight_decay": 0.1,
         "decay_rules": None, "lr_rules": [], "clip": 1.0, "ema": None}  # fmt: skip
CONFIG = {"freeze": [], "optim": OPTIM, "steps": 9, "seed": 0, "bad_steps": "stop", "chunk": None,
          "accumulation": "gradcache", "sharding": [[".*", "fsdp"]]}  # fmt: skip


class Net(nnx.Module):
    """Two towers, a scale, a head that reads both, and a BatchNorm that only some tests train."""

    def __init__(self, norm: bool, rngs: nnx.Rngs):
        self.image, self.text = nnx.Linear(3, WIDTH, rngs=rngs), nnx.Linear(3, WIDTH, rngs=rngs)
        self.head = nnx.Linear(2 * WIDTH, 5, rngs=rngs)
        self.scale = nnx.Param(jnp.full((), 2.0))
        self.norm = BatchNorm(3) if norm else None

    def tower(self, name: str, x, key):
        x = dropout(x if self.norm is None else self.norm(x, key is not None), 0.4, key)
        z = getattr(self, name)(x)
        return z / jnp.linalg.norm(z, axis=-1, keepdims=True)


class Alone(Task):
    """Words of a masked kind: only some positions of some examples count, and how many hangs on the data."""

    weights = {"words": 0.5}

    def encode(self, bind, params, rows, key):
        a, b = (None, None) if key is None else keys.split(key, 2)
        net = bind(params)
        return {
            "image": net.tower("image", rows["x"], a),
            "text": net.tower("text", rows["y"], b),
            "group": rows["group"],
            "words": rows["words"],
        }

    def read(self, bind, params, z, aux, key):
        joined = jnp.concatenate([z["image"], z["text"] + aux.get("partner", 0)], -1)
        logp = jax.nn.log_softmax(bind(params).head(dropout(joined, 0.3, key)))
        asked = z["words"] >= 0
        cost = -jnp.where(asked, jnp.take_along_axis(logp, jnp.maximum(z["words"], 0), 1), 0)
        seen = ((logp.argmax(-1) == 0).sum(dtype=logp.dtype), jnp.asarray(len(logp), logp.dtype))
        return {"words": (cost.sum(), asked.sum(dtype=logp.dtype)), "seen": seen}


class Together(Alone):
    """The same and a contrastive loss, whose nearest texts each example reads beside its own."""

    weights = {"words": 0.5, "contrastive": 2.0}

    def __init__(self, loss: str = "softmax", form: str = "dense"):
        self.loss, self.form = loss, form

    def relate(self, bind, params, z):
        scale = bind(params).scale[...]
        bias = jnp.zeros_like(scale)
        terms = CONTRASTIVE[self.loss](z["image"], z["text"], scale, bias, z["group"], form=self.form, tile=3)
        nearest = jnp.argsort(jax.lax.stop_gradient(z["image"] @ z["text"].T), 1)[:, 0]
        return terms, {"partner": scale * z["text"][nearest], "nearest": nearest}


def plan(task=None, norm=False, **changes) -> states.Plan:
    model = module.define(lambda key: Net(norm, module.rngs(key)))
    return states.plan({**CONFIG, **changes}, model, task or Together(), meshes.make({"data": -1}, jax.devices()[:1]))


def batch():
    rng = np.random.default_rng(0)
    words = np.full((B, 2), -1, np.int32)
    words[[0, 0, 1, 4, 6], [0, 1, 0, 1, 0]] = [1, 2, 0, 4, 3]  # 2 1 0 0 1 0 1: uneven in every chunking
    return {
        "x": jnp.asarray(rng.normal(size=(B, 3))),
        "y": jnp.asarray(rng.normal(size=(B, 3))),
        "group": jnp.asarray([0, 1, 2, 0, 3, 1, 4], jnp.int32),
        "words": jnp.asarray(words),
    }


def gradients(static: states.Plan):
    state = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if x.dtype == jnp.float32 else x, static.init(jax.random.key(1)))
    state["step"] += 5
    value, terms, _, grads, _ = jax.jit(lambda state, rows: steps.gradients(static, state, rows))(state, batch())
    return jax.device_get({"loss": value, "terms": terms, "grads": grads})


@pytest.mark.smoke
@pytest.mark.parametrize("chunk", [1, 3, 4])  # 7 = 7 x 1, 3 + 3 + 1 and 4 + 3
@pytest.mark.parametrize("task", [Together(), Together("sigmoid", "tiled"), Alone()], ids=["softmax", "sigmoid", "alone"])
def test_chunks_equal_the_whole_batch(task, chunk):
    with jax.enable_x64(True):
        whole, chunked = gradients(plan(task)), gradients(plan(task, chunk=chunk))
    a, b = tree.flatten(whole), tree.flatten(chunked)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(whole["grads"]))
    assert a.keys() == b.keys()
    for path in a:
        assert np.abs(a[path] - b[path]).max() <= 1e-9 * max(np.abs(a[path]).max(), 1e-6 * largest), path
    assert whole["terms"]["words"][1] == 5
    if task.relates:
        assert np.abs(whole["grads"]["scale"]) > 1e-3  # through relate's terms and what read makes of aux


def test_a_frozen_part_stays_out():
    with jax.enable_x64(True):
        whole, chunked = (gradients(plan(freeze=[["image/.*", True]], chunk=chunk)) for chunk in (None, 3))
    assert "image" not in chunked["grads"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), whole["grads"]["text"], chunked["grads"]["text"])


@pytest.mark.parametrize("task", [Together(), Alone()], ids=["together", "alone"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_the_second_encoding_is_no_flop_of_the_model(task, chunk):
    def cost(chunk):
        static = plan(task, chunk=chunk)
        return flops.count(lambda s, rows: steps.gradients(static, s, rows)[3], static.abstract(), jax.eval_shape(batch))

    assert cost(chunk) == cost(None)


def test_a_cut_is_even_where_it_can_be():
    assert Cut.of(40, 16, 8) == Cut(8, 2, 2, 1)  # 5 rows a device: 2 + 2 + 1
    assert Cut.of(40, 24, 4) == Cut(4, 2, 5, 0)  # 10 by at most 6: 5 + 5
    assert Cut.of(7, 3, 1) == Cut(1, 2, 3, 1)


def test_each_device_keeps_its_rows():
    """Rows 0 to 4 are on the first device, 5 to 9 on the second; chunks of 4 take two of each, the last one of each."""
    seen = []

    def fn(carry, x):
        seen.append(x.shape)
        return carry + x[0], 2 * x, x.sum()

    carry, rows, total = Cut.of(10, 4, 2).each_chunk(fn, jnp.zeros((), int), jnp.arange(10))
    assert seen == [(4,), (2,)]
    assert rows.tolist() == list(range(0, 20, 2))
    assert int(total) == 45
    assert int(carry) == 0 + 2 + 4  # the first rows of the three chunks


def test_plain_accumulation_is_refused_where_examples_meet():
    assert plan(Alone(), accumulation="plain", chunk=2).chunk == 2
    with pytest.raises(UserError, match="'plain' sums the losses of chunks, and Together compares all examples of the batch"):
        plan(accumulation="plain")
    with pytest.raises(UserError, match=r"accumulation 'plane' is not one of: gradcache, plain\. Did you mean 'plain'"):
        plan(accumulation="plane")


def test_batchnorm_that_trains_is_refused():
    with pytest.raises(UserError, match="chunk 2: the BatchNorm norm normalises by the whole batch") as refused:
        plan(norm=True, chunk=2)
    assert "\n" not in str(refused.value)
    assert plan(norm=True, chunk=2, freeze=[["norm/.*", True]]).chunk == 2
    assert plan(norm=True).chunk is None


def test_a_chunk_divides_over_the_devices():
    model = module.define(lambda key: Net(False, module.rngs(key)))
    with pytest.raises(UserError, match=r"chunk 6 is not divisible by 4 \(data 2 x fsdp 2\): use 4 or 8"):
        states.plan({**CONFIG, "chunk": 6}, model, Together(), meshes.abstract({"data": 2, "fsdp": 2}, 4))
