"""big_vision's npz: a SigLIP written with flax.linen as its modules are laid out, so that Linen itself gives the names.

big_vision is no package. What stands here was read off its public source (models/vit.py, models/proj/image_text/two_towers.py
and text_transformer.py): which modules have names of their own ("img", "txt", "embedding", "Transformer", "encoderblock_0",
"encoder_norm", "head"), which are numbered by Linen, and that a checkpoint's keys are the tree's, joined by "/".
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mmjax import models
from mmjax.convert import save, table
from mmjax.convert.recognise import recognise
from mmjax.core import tree

WIDTH, HEADS, MLP, DEPTH, PATCH, SIZE, VOCAB, LENGTH = 16, 2, 24, 2, 4, 12, 20, 7
IDS = np.array([[4, 5, 6, 7, 1, 1, 1], [4, 8, 9, 10, 11, 12, 1]])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class MlpBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(MLP, param_dtype=float)(x)  # Linen numbers modules as they are made: this is Dense_0
        return nn.Dense(WIDTH, param_dtype=float)(nn.gelu(x))


def norm(**named):
    return nn.LayerNorm(param_dtype=float, use_fast_variance=False, **named)


def attention():
    return nn.MultiHeadDotProductAttention(HEADS, param_dtype=float)


class Encoder1DBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        y = norm()(x)
        x = x + attention()(y, y)
        return x + MlpBlock()(norm()(x)), None


class Encoder(nn.Module):
    scan: bool = False

    @nn.compact
    def __call__(self, x):
        if self.scan:
            scanned = nn.scan(Encoder1DBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=DEPTH)
            x, _ = scanned(name="encoderblock")(x, None)
        else:
            for i in range(DEPTH):
                x, _ = Encoder1DBlock(name=f"encoderblock_{i}")(x)
        return norm(name="encoder_norm")(x)


class MAPHead(nn.Module):
    @nn.compact
    def __call__(self, x):
        probe = self.param("probe", nn.initializers.normal(1.0), (1, 1, WIDTH), float)
        x = attention()(jnp.tile(probe, (len(x), 1, 1)), x)
        return (x + MlpBlock()(norm()(x)))[:, 0]


def positions(module, x):
    return x + module.param("pos_embedding", nn.initializers.normal(1.0), (1, *x.shape[1:]), float)


class Image(nn.Module):
    scan: bool

    @nn.compact
    def __call__(self, image):
        x = nn.Conv(WIDTH, (PATCH, PATCH), (PATCH, PATCH), "VALID", name="embedding", param_dtype=float)(image)
        x = positions(self, x.reshape(len(x), -1, WIDTH))
        return MAPHead()(Encoder(self.scan, name="Transformer")(x))


class Text(nn.Module):
    scan: bool
    head: bool

    @nn.compact
    def __call__(self, ids):
        x = positions(self, nn.Embed(VOCAB, WIDTH, param_dtype=float)(ids))
        x = Encoder(self.scan)(x)[:, -1]
        return nn.Dense(WIDTH, name="head", param_dtype=float)(x) if self.head else x


class TwoTowers(nn.Module):
    scan: bool = False
    head: bool = True

    @nn.compact
    def __call__(self, image, ids):
        image, text = Image(self.scan, name="img")(image), Text(self.scan, self.head, name="txt")(ids)
        t, b = (self.param(name, nn.initializers.normal(1.0), (1,), float) for name in ("t", "b"))
        image, text = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
        return {"image": image, "text": text, "logits": image @ text.T * jnp.exp(t) + b}


def loss_of(logits):
    return -jax.nn.log_sigmoid((2 * jnp.eye(2) - 1) * logits).sum(-1).mean()


def linen(**kind):
    """(module, parameters, pictures), every weight normal with standard deviation 0.3."""
    module, pictures = TwoTowers(**kind), np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3))
    shapes = jax.eval_shape(module.init, jax.random.key(0), pictures, IDS)["params"]
    rng = np.random.default_rng(1)
    return module, jax.tree.map(lambda x: 0.3 * rng.normal(size=x.shape), shapes), pictures


def stored(path, params, prefix):
    np.savez(path, **{prefix + "/".join(name): x for name, x in flatten_dict(params).items()})


def error(a, b):
    floor = 1e-6 * max(np.abs(x).max() for x in b.values())
    return max(np.abs(np.asarray(a[name]) - b[name]).max() / max(np.abs(b[name]).max(), floor) for name in b)


@pytest.mark.parametrize(
    "kind, prefix",
    [({}, "params/"), ({"scan": True}, ""), ({"head": False}, "opt/target/")],
    ids=["params", "scanned", "no_head"],
)
def test_names_values_and_gradients(kind, prefix, tmp_path):
    module, params, pictures = linen(**kind)
    stored(tmp_path / "model.npz", params, prefix)

    def theirs(params):
        outputs = module.apply({"params": params}, pictures, IDS)
        return loss_of(outputs["logits"]), outputs

    (want_loss, want), want_gradients = jax.jit(jax.value_and_grad(theirs, has_aux=True))(params)
    found = recognise(str(tmp_path / "model.npz"))
    assert found.family.format == "npz"
    model = models.build(found.model, dtype="float64")
    own = tree.unflatten({name: jnp.asarray(leaf.read()) for name, leaf in found.leaves.items()})["params"]

    def ours(params):
        bound = model.bind(params, {})
        image, text = bound.image(jnp.asarray(pictures))[0], bound.text(jnp.asarray(IDS))[0]
        outputs = {"image": image, "text": text, "logits": bound.scale() * image @ text.T + bound.bias()}
        return loss_of(outputs["logits"]), outputs

    (loss, outputs), gradients = jax.jit(jax.value_and_grad(ours, has_aux=True))(own)
    names = {"/".join(name): np.asarray(x) for name, x in flatten_dict(want_gradients).items()}
    if kind.get("scan"):  # our names are those of layers one by one
        names = {
            name.replace("/encoderblock/", f"/encoderblock_{i}/"): x[i] if "/encoderblock/" in name else x
            for name, x in names.items()
            for i in range(DEPTH)
        }
    tensors = {path: table.tensor(x) for path, x in tree.flatten({"params": gradients}).items()}
    written = {name: tensor.read() for name, tensor in table.write(found.entries, tensors).items()}
    assert written.keys() == names.keys()
    for name in [name for name in names if name.endswith("key/bias")]:  # softmax is blind to what all keys share
        assert max(np.abs(names.pop(name)).max(), np.abs(written.pop(name)).max()) < 1e-10
    worst = {"outputs": error(outputs, want), "loss": abs(float(loss / want_loss) - 1), "gradients": error(written, names)}
    print({name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) < 1e-9


def test_there_and_back(tmp_path):
    _, params, _ = linen()
    stored(tmp_path / "model.npz", params, "params/")
    save.mmjax_folder(recognise(str(tmp_path / "model.npz")), f"{tmp_path}/mmjax", "test")
    save.foreign_folder(f"{tmp_path}/mmjax", f"{tmp_path}/back", "npz")
    with np.load(tmp_path / "model.npz") as before, np.load(tmp_path / "back" / "model.npz") as after:
        assert sorted(before) == sorted(after)
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_bfloat16_is_two_bytes_of_no_type(tmp_path):
    """So numpy stores it, and so big_vision's reader takes it."""
    _, params, _ = linen()
    low = jax.tree.map(lambda x: np.asarray(x).astype(ml_dtypes.bfloat16), params)
    stored(tmp_path / "model.npz", low, "params/")
    with np.load(tmp_path / "model.npz") as raw:
        assert raw["params/t"].dtype.kind == "V"
    leaf = recognise(str(tmp_path / "model.npz")).leaves["params/text_projection/kernel"]
    assert leaf.dtype == ml_dtypes.bfloat16
    assert np.array_equal(leaf.read(), low["txt"]["head"]["kernel"])


def test_an_optimizers_state_is_left_out(tmp_path):
    _, params, _ = linen()
    flat = {f"params/{'/'.join(name)}": x for name, x in flatten_dict(params).items()}
    np.savez(tmp_path / "model.npz", **flat, **{"opt/0/mu/img/embedding/bias": np.zeros(WIDTH)})
    assert recognise(str(tmp_path / "model.npz")).dropped == {
        "opt/0/mu/img/embedding/bias": "the state of an optimizer, and of a run"
    }
