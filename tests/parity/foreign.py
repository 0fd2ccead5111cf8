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


def pictures(size):
    return np.random.default_rng(0).normal(size=(2, size, size, 3))


def channels_first(x):
    return torch.tensor(np.asarray(x).transpose(0, 3, 1, 2))


def error(a, b):
    """The largest relative error of DESIGN.md over leaves of the same names."""
    assert a.keys() == b.keys()
    floor = 1e-6 * max(np.abs(x).max() for x in b.values())
    errors = {}
    for name in b:
        assert a[name].shape == b[name].shape, name
        errors[name] = np.abs(np.asarray(a[name]) - b[name]).max() / max(np.abs(b[name]).max(), floor)
    worst = max(errors, key=errors.get)
    return errors[worst], worst


def load(path, like=None):
    """(what was recognised, the model in float64, params, stats)"""
    found = recognise(str(path), like)
    arrays = tree.unflatten({name: jnp.asarray(leaf.read(), jnp.float64) for name, leaf in found.leaves.items()})
    return found, models.build(found.model, dtype="float64"), arrays["params"], arrays.get("stats", {})


def check(path, kept, theirs, loss, run):
    """Values, loss and gradients.

    Args:
      path: the folder that the library saved.
      kept: gradients under the names of that folder.
      theirs: the library's outputs by name.
      loss: the library's.
      run: (bound model) -> (outputs, loss).
    """
    found, model, params, stats = load(path)

    def value(params):
        outputs, loss = run(model.bind(params, stats))
        return loss, outputs

    (ours, outputs), gradient = jax.jit(jax.value_and_grad(value, has_aux=True))(params)
    worst = {
        "outputs": error(outputs, {name: y.detach().numpy() for name, y in theirs.items()}),
        "loss": error({"": ours}, {"": loss.detach().numpy()}),
    }
    flat = tree.flatten({"params": gradient})
    entries = {name: entry for name, entry in found.entries.items() if all(path in flat for path in entry.own)}
    gradients = table.write(entries, flat)
    # softmax is blind to what all keys share: their biases' gradients are rounding noise
    noise = [name for name in gradients if name.endswith(("k_proj.bias", "key.bias"))]
    for name in noise:
        assert np.abs(gradients.pop(name)).max() < 1e-10 * max(1, np.abs(ours))
    for name in [name for name in gradients if name.endswith("in_proj_bias")]:
        size = len(gradients[name]) // 3
        for grads in (gradients, kept):
            grads[name] = np.delete(grads[name], np.s_[size : 2 * size])
    assert len(gradients) + len(noise) == len(entries)
    prefix = found.family.prefix(found.model)  # which a head's own names lack
    worst["gradients"] = error(gradients, {name: kept[name] if name in kept else kept[prefix + name] for name in gradients})
    print({kind: f"{e:.1e} {name}" for kind, (e, name) in worst.items()})
    assert max(e for e, _ in worst.values()) < 1e-9, worst
    return found


def saved(net, folder):
    """Saves a transformers model, and its gradients under the same names."""
    net.save_pretrained(folder)
    with torch.no_grad():
        for parameter in net.parameters():
            kept = parameter.detach().clone()
            parameter.copy_(torch.zeros_like(kept) if parameter.grad is None else parameter.grad)
            parameter.kept = kept
    net.save_pretrained(f"{folder}-gradients")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.kept)
    return {name: np.array(tensor.read()) for name, tensor in readers.read(Path(f"{folder}-gradients")).items()}


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


def dual(size):
    def run(bound):
        image, text = bound.image(jnp.asarray(pictures(size)))[0], bound.text(jnp.asarray(IDS))[0]
        logits = bound.scale() * image @ text.T + bound.bias()
        return {"image": image, "text": text, "logits": logits}, softmax_loss(logits)

    return run
