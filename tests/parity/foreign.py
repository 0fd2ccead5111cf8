"""What the parity tests of converted weights share: random weights, and the comparison under the foreign names.

A library saves a folder; mmjax recognises and maps it; outputs, loss and the gradient of every parameter agree within 1e-9
relative (max|a - b| / max(max|b|, 1e-6 x the largest leaf's maximum); float64 keeps 16 digits). Gradients are compared under
the foreign names, by the map itself. Then the folder that mmjax writes back holds the same bytes.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mmjax import models
from mmjax.convert import readers, save, table
from mmjax.convert.recognise import recognise
from mmjax.core import tree

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = np.array([[1, 5, 6, 7, 19, 0, 0], [1, 8, 9, 10, 11, 12, 19]])
PIXELS = {"image_size": 12, "patch_size": 4}
WORDS = {"vocab_size": 20, "max_position_embeddings": 7}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def randomise(net):
    """Every weight normal with standard deviation 0.3, so that no bias is zero and no norm trivial."""
    generator = torch.Generator().manual_seed(0)
    net = net.double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
    return net


def learn_padding(net):
    """Rows 0 of LXMERT's embeddings learn nothing over there (padding_idx), the first position's and segment's among them.

    Values do not depend on it; it is taken off, so that all gradients can be compared.
    """
    for part in net.modules():
        if isinstance(part, torch.nn.Embedding):
            part.padding_idx = None
    return net


def pictures(size):
    return np.random.default_rng(0).normal(size=(2, size, size, 3))


def channels_first(x):
    return torch.tensor(np.asarray(x).transpose(0, 3, 1, 2))


def errors(a, b):
    """The relative error of DESIGN.md of each leaf; both have the same names."""
    assert a.keys() == b.keys()
    floor = 1e-6 * max(np.abs(x).max() for x in b.values())
    found = {}
    for name in b:
        assert a[name].shape == b[name].shape, name
        found[name] = float(np.abs(np.asarray(a[name]) - b[name]).max() / max(np.abs(b[name]).max(), floor))
    return found


def error(a, b):
    """The largest of `errors`, and its leaf."""
    found = errors(a, b)
    worst = max(found, key=found.get)
    return found[worst], worst


def load(path, like=None, dtype="float64"):
    """(what was recognised, the model in `dtype`, params, stats)"""
    found = recognise(str(path), like)
    arrays = tree.unflatten({name: jnp.asarray(leaf.read(), dtype) for name, leaf in found.leaves.items()})
    return found, models.build(found.model, dtype=dtype), arrays["params"], arrays.get("stats", {})


def ours(path, run, dtype="float64"):
    """(what was recognised, our outputs, loss and gradients, these under the foreign names).

    Args:
      path: the folder or file that the library saved.
      run: (bound model) -> (outputs by name, loss).
      dtype: to compute in.
    """
    found, model, params, stats = load(path, dtype=dtype)

    def value(params):
        outputs, loss = run(model.bind(params, stats))
        return loss, outputs

    (loss, outputs), gradient = jax.jit(jax.value_and_grad(value, has_aux=True))(params)
    flat = tree.flatten({"params": gradient})
    entries = {name: entry for name, entry in found.entries.items() if all(path in flat for path in entry.own)}
    written = table.write(entries, {path: table.tensor(np.asarray(x)) for path, x in flat.items()})
    return found, outputs, loss, {name: tensor.read() for name, tensor in written.items()}


def without_noise(gradients):
    """(gradients without attention's key biases, the largest of those).

    Softmax is blind to what all keys share, so that these gradients are zero but for rounding.
    """
    kept, noise = {}, [0.0]
    for name, x in gradients.items():
        if name.endswith(("k_proj.bias", "key.bias")):
            noise.append(np.abs(x).max())
        elif name.endswith("in_proj_bias"):
            keys = np.s_[len(x) // 3 : 2 * len(x) // 3]
            noise.append(np.abs(x[keys]).max())
            kept[name] = np.delete(x, keys)
        else:
            kept[name] = x
    return kept, float(max(noise))


def under_our_names(found, gradients, kept):
    """The library's gradients for ours: their common prefix is dropped where there is one, which a head never has."""
    prefix = found.family.prefix(found.model)
    return {name: kept[name] if name in kept else kept[prefix + name] for name in gradients}


def check(path, kept, theirs, loss, run):
    """Values, loss and gradients within 1e-9 in float64; gives what was recognised.

    Args:
      path: the folder that the library saved.
      kept: gradients under the names of that folder.
      theirs: the library's outputs by name.
      loss: the library's.
      run: (bound model) -> (outputs, loss).
    """
    found, outputs, value, gradients = ours(path, run)
    kept = without_noise(under_our_names(found, gradients, kept))[0]
    gradients, noise = without_noise(gradients)
    assert noise < 1e-10 * max(1, np.abs(value))
    worst = {
        "outputs": error(outputs, {name: y.detach().numpy() for name, y in theirs.items()}),
        "loss": error({"": value}, {"": loss.detach().numpy()}),
        "gradients": error(gradients, kept),
    }
    print({kind: f"{e:.1e} {name}" for kind, (e, name) in worst.items()})
    assert max(e for e, _ in worst.values()) < 1e-9, worst
    return found


def saved(net, folder):
    """Saves a transformers model; gives its gradients under the names of the file."""
    net.save_pretrained(folder)
    return saved_gradients(net, f"{folder}-gradients")


def saved_gradients(net, folder):
    """The gradients of a transformers model under the names that its weights have in a file."""
    named = net.named_parameters()
    net.save_pretrained(folder, state_dict={name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in named})
    return {name: tensor.read() for name, tensor in readers.read(Path(folder)).items()}


def round_trip(folder, tmp_path, format="hf", lost=()):
    """hf -> mmjax -> hf: the same names and bytes, but for what a rule drops."""
    save.mmjax_folder(recognise(str(folder)), f"{tmp_path}/mmjax", "test")
    save.foreign_folder(f"{tmp_path}/mmjax", f"{tmp_path}/back", format)
    before, after = readers.read(Path(folder)), readers.read(tmp_path / "back")
    assert sorted(set(before) - set(after)) == sorted(lost)
    assert set(after) <= set(before)
    for name in after:
        assert (after[name].dtype, after[name].shape) == (before[name].dtype, before[name].shape), name
        assert after[name].read().tobytes() == before[name].read().tobytes(), name
    return tmp_path / "back"


def assert_same(a, b):
    """The weights' bytes are equal, but torch's kernels round by where an array lies in memory."""
    assert error({"": a.detach().numpy()}, {"": b.detach().numpy()})[0] < 1e-13


def softmax_loss(logits):
    right = jnp.arange(len(logits))
    return -sum(jax.nn.log_softmax(x)[right, right].mean() for x in (logits, logits.T)) / 2


def softmax_of_torch(logits):
    right = torch.arange(len(logits))
    return sum(torch.nn.functional.cross_entropy(x, right) for x in (logits, logits.T)) / 2


def sigmoid_loss(logits):
    return -jax.nn.log_sigmoid((2 * jnp.eye(len(logits)) - 1) * logits).sum(-1).mean()


def dual(images, ids=IDS, loss=softmax_loss):
    """What a dual encoder gives of pictures (or of those of a size) and texts, and its loss."""
    images = pictures(images) if isinstance(images, int) else images

    def run(bound):
        image, text = bound.image(jnp.asarray(images))[0], bound.text(jnp.asarray(ids))[0]
        logits = bound.scale() * image @ text.T + bound.bias()
        return {"image": image, "text": text, "logits": logits}, loss(logits)

    return run


def labelled(images):
    """A classifier's logits, and their cross-entropy with the classes 2 and 0."""

    def run(bound):
        y = bound.logits(jnp.asarray(images))[0]
        return {"logits": y}, -jax.nn.log_softmax(y)[jnp.arange(2), jnp.array([2, 0])].mean()

    return run


def sines(x):
    """An encoder's vector, and a loss that has no meaning but a gradient everywhere."""

    def run(bound):
        y = bound.logits(jnp.asarray(x))[0]
        return {"vector": y}, jnp.sin(y).sum()

    return run
