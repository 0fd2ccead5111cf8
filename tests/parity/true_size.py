"""Published sizes against the implementations they come from, in fp32; by hand, for it takes an hour, its numbers are kept.

    python tests/parity/true_size.py [CASE ...]      # renews rows of true_size.json; each case runs in a process of its own

A case builds the library's own model at random and saves it; mmjax recognises and maps the folder; outputs, loss and the
gradients of all parameters are compared by DESIGN's relative error, a leaf at a time. Beside ours the library itself is held
against its own float64, which says how much of an error is fp32's. Both get the same float32 inputs.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
STORED = HERE / "true_size.json"
TOLERANCE = 2e-5
# (family, format) -> why it has no row.
UNMEASURED = {
    ("SigLIP", "npz"): "big_vision is no package; the way there and back is proven on small models",
    ("Whisper encoder", "ctranslate2"): "only its own converter writes such a container; test_real.py reads a real one",
    ("CoCa's towers", "open_clip"): "no case yet",
    ("LXMERT", "hf"): "no case yet; the published number of parameters is held by tests/models/test_lxmert.py",
    ("VisualBERT", "hf"): "no case yet",
    ("ViLT", "hf"): "no case yet",
}
PACKAGES = ("mmjax", "jax", "flax", "torch", "transformers", "open_clip_torch")


def pretrained(net, folder):
    """Transformers' own way of saving."""
    net.save_pretrained(folder)
    return folder


@dataclasses.dataclass
class Case:
    """One library's model.

    Attributes:
      net: theirs.
      theirs: (net, what makes a tensor of an array) -> (outputs by name, loss).
      ours: (bound model) -> (outputs by name, loss).
      keep: saves (net, folder) and gives the path to recognise.
      named: their name of a gradient -> its name in the file.
    """

    net: Any
    theirs: Callable
    ours: Callable
    keep: Callable = pretrained
    named: Callable[[str], str] = lambda name: name


def words(length, vocab, start, end, pad=0):
    """Two texts, one shorter than the model takes."""
    ids = np.random.default_rng(1).integers(1000, vocab - 2, (2, length))
    ids[:, 0] = start
    ids[0, length // 3 :], ids[0, length // 3], ids[1, -1] = pad, end, end
    return ids


def images(size=224):
    from foreign import pictures

    return pictures(size).astype(np.float32)


def clip_b32():
    import transformers

    return _dual_of_transformers(transformers.CLIPModel(transformers.CLIPConfig()), words(77, 49408, 49406, 49407))


def siglip_b16():
    import transformers
    from foreign import sigmoid_loss

    net = transformers.SiglipModel(transformers.SiglipConfig())
    return _dual_of_transformers(net, words(64, 32000, 5, 1, 1), sigmoid_loss)


def _dual_of_transformers(net, ids, *loss):
    import torch
    from foreign import dual

    x = images()

    def theirs(net, tensor):
        y = net(input_ids=torch.from_numpy(ids), pixel_values=tensor(x.transpose(0, 3, 1, 2)), return_loss=True)
        return {"image": y.image_embeds, "text": y.text_embeds, "logits": y.logits_per_image}, y.loss

    return Case(net, theirs, dual(x, ids, *loss))


def open_clip_b32():
    return _of_open_clip("ViT-B-32-quickgelu")


def clip_rn50():
    return _of_open_clip("RN50-quickgelu")


def _of_open_clip(name):
    import open_clip
    import torch
    from foreign import dual
    from test_parity_convert import open_clip_folder

    config, x, ids = open_clip.get_model_config(name), images(), words(77, 49408, 49406, 49407)

    def theirs(net, tensor):
        image, text, scale = net(tensor(x.transpose(0, 3, 1, 2)), torch.from_numpy(ids))
        logits, right = scale * image @ text.T, torch.arange(2)
        loss = sum(torch.nn.functional.cross_entropy(y, right) for y in (logits, logits.T)) / 2
        return {"image": image, "text": text, "logits": logits}, loss

    def keep(net, folder):
        open_clip_folder(net, config, folder)
        return folder

    return Case(open_clip.create_model(name), theirs, dual(x, ids), keep)


def vit_b16():
    import transformers

    return _labelled(transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)))


def resnet50():
    import transformers

    return _labelled(transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)))


def efficientnet_lite0():
    import efficientnet_lite_pytorch
    import torch

    def keep(net, folder):
        folder.mkdir()
        torch.save(net.state_dict(), folder / "lite0.pth")
        return folder / "lite0.pth"

    return _labelled(efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0"), keep)


def _labelled(net, keep=pretrained):
    import torch
    from foreign import labelled

    x = images()

    def theirs(net, tensor):
        y = net(tensor(x.transpose(0, 3, 1, 2)))
        y = getattr(y, "logits", y)
        return {"logits": y}, torch.nn.functional.cross_entropy(y, torch.tensor([2, 0]))

    return Case(net, theirs, labelled(x), keep)


def dinov2_s():
    return _dinov2(384, 6)


def dinov2_b():
    return _dinov2(768, 12)


def _dinov2(width, heads):
    import transformers
    from foreign import sines

    # Positions are stored for 518 pixels and interpolated to 224, as the model is mostly used.
    sizes = {"hidden_size": width, "num_attention_heads": heads, "image_size": 518, "patch_size": 14}
    x = images()

    def theirs(net, tensor):
        y = net(tensor(x.transpose(0, 3, 1, 2))).pooler_output
        return {"vector": y}, y.sin().sum()

    return Case(transformers.Dinov2Model(transformers.Dinov2Config(**sizes)), theirs, sines(x))


def bert_base():
    import transformers

    return _bert(transformers.BertModel, transformers.BertConfig(), words(128, 30522, 101, 102))


def minilm():
    import transformers

    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    return _bert(transformers.BertModel, transformers.BertConfig(**sizes), words(128, 30522, 101, 102), mean=True)


def roberta_base():
    return _roberta("Roberta", 50265)


def xlmr_base():
    return _roberta("XLMRoberta", 250002)


def _roberta(name, vocab):
    import transformers

    sizes = {"vocab_size": vocab, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    config = getattr(transformers, f"{name}Config")(**sizes, pad_token_id=1)
    return _bert(getattr(transformers, f"{name}Model"), config, words(128, vocab, 0, 2, 1))


def _bert(kind, config, ids, mean=False):
    import torch
    from foreign import sines

    mask = torch.from_numpy(ids != config.pad_token_id)

    def theirs(net, tensor):
        hidden = net(torch.from_numpy(ids), attention_mask=mask.long()).last_hidden_state
        y = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) if mean else hidden[:, 0]
        return {"vector": y}, y.sin().sum()

    def keep(net, folder):
        net.save_pretrained(folder)
        if mean:
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
        return folder

    config._attn_implementation = "eager"
    return Case(kind(config), theirs, sines(ids), keep)


def whisper_tiny():
    return _whisper(384, 4, 6)


def whisper_base():
    return _whisper(512, 6, 8)


def _whisper(width, depth, heads):
    import jax.numpy as jnp
    import transformers

    sizes = {"d_model": width, "encoder_layers": depth, "encoder_attention_heads": heads, "encoder_ffn_dim": 4 * width}
    # The decoder is not read: the smallest that there is.
    config = transformers.WhisperConfig(**sizes, decoder_layers=1, decoder_attention_heads=heads, decoder_ffn_dim=width)
    net = transformers.WhisperModel(config)
    net.get_encoder().embed_positions.requires_grad_(True)  # frozen there; its gradient is compared too
    mel = np.random.default_rng(0).normal(size=(2, 80, 3000)).astype(np.float32)

    def theirs(net, tensor):
        y = net.get_encoder()(tensor(mel)).last_hidden_state
        return {"tokens": y}, y.sin().sum()

    def ours(bound):
        y = bound.encoder.tokens(jnp.asarray(mel))
        return {"tokens": y}, jnp.sin(y).sum()

    return Case(net, theirs, ours, named=lambda name: name.removeprefix("encoder."))


CASES = {
    make.__name__: make
    for make in (clip_b32, open_clip_b32, clip_rn50, siglip_b16, vit_b16, dinov2_s, dinov2_b, resnet50, efficientnet_lite0,
                 bert_base, minilm, roberta_base, xlmr_base, whisper_tiny, whisper_base)
}  # fmt: skip


def fingerprint(family, model):
    """Changes with a family's map, or with the model it is applied to."""
    rows = [[row.foreign, row.own, row.how, row.heads] for row in family.table(model)]
    return hashlib.sha256(json.dumps([rows, model], sort_keys=True).encode()).hexdigest()[:16]


def measure(name):
    """The row of one case."""
    import torch
    from foreign import ours, under_our_names

    begin = time.perf_counter()
    torch.manual_seed(0)
    case = CASES[name]()
    randomise(case.net.float().eval())
    with tempfile.TemporaryDirectory() as place:
        path = case.keep(case.net, Path(place) / "weights")
        theirs = {kind: _theirs(case, kind, Path(place) / kind) for kind in ("float32", "float64")}
        case.net = None
        found, *mine = ours(path, case.ours, "float32")
        theirs = {kind: (y, loss, under_our_names(found, mine[2], grads)) for kind, (y, loss, grads) in theirs.items()}
        errors = {
            "ours_to_theirs": against(mine, theirs["float32"]),
            "ours_to_their_float64": against(mine, theirs["float64"]),
            "theirs_to_their_float64": against(theirs["float32"], theirs["float64"]),
        }
        return {
            "family": found.family.name,
            "format": found.family.format,
            "parameters": sum(int(np.prod(leaf.shape)) for path, leaf in found.leaves.items() if path.startswith("params/")),
            "errors": errors,
            "seconds": round(time.perf_counter() - begin),
            "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1),
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
            "map": fingerprint(found.family, found.model),
            "model": found.model,
        }


def randomise(net):
    """Kernels by their fan in (those of BatchNorm's nets keep their start), and noise on what is a vector.

    Published starts are small: what comes out of them is nearly the same for every picture or text, and the loss a small
    difference of large numbers, whose gradient fp32 does not hold to 2e-5 on either side.
    """
    import torch

    generator = torch.Generator().manual_seed(0)

    def noise(x):
        return torch.randn(x.shape, generator=generator)

    statistics = {name: buffer for name, buffer in net.named_buffers() if name.endswith(("running_mean", "running_var"))}
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim < 2:
                parameter += 0.1 * noise(parameter)
            elif not statistics or not parameter.any():
                parameter.copy_(noise(parameter) * (parameter.numel() / len(parameter)) ** -0.5)
        for name, buffer in statistics.items():
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator) if name.endswith("var") else 0.1 * noise(buffer))


def _theirs(case, kind, folder):
    """(outputs, loss, gradients by their names in a file) of the library in a dtype."""
    import torch
    from foreign import saved_gradients

    net, dtype = case.net, getattr(torch, kind)
    net.zero_grad(set_to_none=True)
    net.to(dtype)
    outputs, loss = case.theirs(net, lambda x: torch.tensor(x).to(dtype))
    loss.backward()
    if hasattr(net, "save_pretrained"):
        gradients = saved_gradients(net, folder)
    else:
        gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    numbers = {name: y.detach().numpy() for name, y in outputs.items()}
    return numbers, loss.detach().numpy(), {case.named(name): x for name, x in gradients.items()}


def against(a, b):
    """Relative errors of (outputs, loss, gradients) a to b; the worst leaf, and how many are beyond the tolerance."""
    from foreign import error, errors, without_noise

    (mine, noise), (kept, _) = without_noise(a[2]), without_noise(b[2])
    leaves = errors(mine, kept)
    worst = sorted(leaves, key=leaves.get, reverse=True)
    return {
        "outputs": float(f"{error(a[0], b[0])[0]:.2g}"),
        "loss": float(f"{error({'': a[1]}, {'': b[1]})[0]:.2g}"),
        "gradients": float(f"{leaves[worst[0]]:.2g}"),
        "worst": {name: float(f"{leaves[name]:.2g}") for name in worst[:3]},
        "beyond": sum(e > TOLERANCE for e in leaves.values()),
        "leaves": len(leaves),
        "key_biases": float(f"{noise / max(np.abs(x).max() for x in kept.values()):.2g}"),
    }


def main(names):
    if len(names) == 1:
        import conftest  # noqa: F401  open_clip's torchvision

        row = measure(*names)
        rows = json.loads(STORED.read_text()) if STORED.exists() else {}
        STORED.write_text(json.dumps(dict(sorted({**rows, names[0]: row}.items())), indent=1) + "\n")
        print(names[0], json.dumps({key: row[key] for key in ("errors", "seconds", "peak_gib")}), flush=True)
        return
    for name in names or CASES:
        subprocess.run([sys.executable, __file__, name], check=False)


if __name__ == "__main__":
    if unknown := [name for name in sys.argv[1:] if name not in CASES]:
        sys.exit(f"no case {unknown[0]!r}; there are: {', '.join(CASES)}")
    main(sys.argv[1:])
