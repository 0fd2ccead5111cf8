"""Published sizes against the implementations they come from, in fp32; by hand, for it takes an hour, its numbers are kept.

    python tests/parity/true_size.py [CASE ...]      # renews rows of true_size.json; each case runs in a process of its own

A case builds the library's own model at random and saves it; mmjax recognises and maps the folder; outputs, loss and the
gradients of all parameters are compared by DESIGN's relative error, a leaf at a time. Beside ours the library itself is held
against its own float64, which says how much of an error is fp32's. Both get the same float32 inputs.
"""

import hashlib
import importlib.metadata
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from true_size_cases import CASES

HERE = Path(__file__).parent
STORED = HERE / "true_size.json"
TOLERANCE = 2e-5
# (family, format) -> why it has no row.
UNMEASURED = {
    ("SigLIP", "npz"): "big_vision is no package; the way there and back is proven on small models",
    ("Whisper encoder", "ctranslate2"): "only its own converter writes such a container; test_real.py reads a real one",
}
PACKAGES = ("mmjax", "jax", "flax", "torch", "transformers", "open_clip_torch")


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
        gradients = {name: p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None}
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
