"""Time of the contrastive losses, forward and backward: dense, tiled and ring, and open_clip's, in one run, taking turns.

    python tests/benchmarks/contrastive.py --batches 2048 4096 8192 --out=contrastive.json        # a CPU: also open_clip's
    python tests/benchmarks/contrastive.py --batches 8192 32768 131072 524288                     # a GPU: each until it fails
    python tests/benchmarks/contrastive.py --precision                            # what bfloat16 does to gradients
    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/benchmarks/contrastive.py ... # the ring, on 8 fake devices

Gradients are those of both embeddings, scale and bias. open_clip's ClipLoss is compared with softmax, its SigLipLoss with
sigmoid: whole, and in the blocks that it computes on several ranks, here one after another. Accuracy, which open_clip's do
not compute, is part of ours. Prints medians, spread and ratios to dense, round by round, of wall time and of the process's
CPU time, which other work on the machine disturbs less; a form that fails at a size (out of memory) is left out from there
on, and said. Needs torch and open_clip_torch beside mmjax for the peers.
"""

import argparse
import functools
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.core import pin
from mmjax.losses import CONTRASTIVE
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place

SCALE, BIAS = 20.0, -10.0


def embeddings(batch: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of unit vectors with a cosine of about 0.5: a loss in the middle of training."""
    rng = np.random.default_rng(0)
    image, noise = rng.normal(size=(2, batch, width)).astype(np.float32)
    text = image + 1.7 * noise
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))


def ours(name: str, batch: int, width: int, mesh=None, **options) -> Callable[[], None]:
    """A compiled loss with its gradients, which waits for its result."""
    image, text = embeddings(batch, width)
    rows = {"image": image, "text": text, "group": np.arange(batch, dtype=np.int32)}
    rows = jax.tree.map(jnp.asarray, rows) if mesh is None else place.batch(rows, mesh)

    def loss(image, text, scale, bias, group):
        terms = CONTRASTIVE[name](image, text, scale, bias, group, **options)
        return terms["contrastive"][0] / terms["contrastive"][1], terms

    def both(*args):
        with pin.on(mesh, meshes.PINS):
            return jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(*args)

    args = rows["image"], rows["text"], jnp.float32(SCALE), jnp.float32(BIAS), rows["group"]
    run = jax.jit(both)
    return lambda: jax.block_until_ready(run(*args))


@functools.cache
def open_clip_losses():
    """open_clip's module of losses by its file: its package needs a torchvision that fits, which the losses do not."""
    package = importlib.util.find_spec("open_clip")
    if package is None:
        raise ImportError("no module open_clip")
    spec = importlib.util.spec_from_file_location("open_clip_losses", Path(package.origin).with_name("loss.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def theirs(name: str, batch: int, width: int, block: int | None) -> Callable[[], None]:
    """open_clip's loss with its gradients; `block` rows at a time where given, as its ranks do."""
    import torch

    peer = open_clip_losses()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    leaves = [torch.tensor(x, device=device, requires_grad=True) for x in (*embeddings(batch, width), SCALE, BIAS)]
    clip, siglip = peer.ClipLoss(), peer.SigLipLoss()

    def run():
        for leaf in leaves:
            leaf.grad = None
        image, text, scale, bias = leaves
        if name == "softmax":
            loss = clip(image, text, scale)
        elif block is None:
            loss = siglip(image, text, scale, bias)
        else:
            cut = [x.split(block) for x in (image, text)]
            pairs = [(i, j) for i in range(len(cut[0])) for j in range(len(cut[1]))]
            parts = [siglip._loss(cut[0][i], cut[1][j], scale, bias, negative_only=i != j) for i, j in pairs]
            loss = sum(parts) * block / batch
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def forms(name: str, tile: int | None) -> dict[str, Callable[[int, int], Callable[[], None]]]:
    """What there is to time: name -> (batch, width) -> run."""
    options = {} if tile is None else {"tile": tile}
    found = {form: lambda b, d, form=form: ours(name, b, d, form=form, **options) for form in ("dense", "tiled")}
    if jax.device_count() > 1:
        mesh = meshes.make({"data": -1})
        found["dense, all devices"] = lambda b, d: ours(name, b, d, mesh, form="dense")
        found["ring, all devices"] = lambda b, d: ours(name, b, d, mesh, form="ring", **options)
    try:
        open_clip_losses()
    except ImportError as error:
        print(f"without open_clip: {error}")
        return found
    peer = "ClipLoss" if name == "softmax" else "SigLipLoss"
    found[f"open_clip {peer}"] = lambda b, d: theirs(name, b, d, None)
    if name == "sigmoid":
        found["open_clip SigLipLoss in blocks"] = lambda b, d: theirs(name, b, d, min(1024, b))
    return found


def measure(name: str, batches: list[int], width: int, rounds: int, tile: int | None) -> list[dict]:
    """One row a batch size and form."""
    alive, rows = forms(name, tile), []
    for batch in batches:
        runs, times = {}, {}
        for form, make in list(alive.items()):
            try:
                runs[form] = make(batch, width)
                runs[form]()
            except (RuntimeError, MemoryError) as error:  # out of memory, in either framework's words
                print(f"{name} {form} fails at {batch}: {str(error).splitlines()[0][:120]}")
                del alive[form]
                runs.pop(form, None)
        for _ in range(rounds):
            for form, run in runs.items():
                began = time.perf_counter(), time.process_time()
                run()
                times.setdefault(form, []).append((time.perf_counter() - began[0], time.process_time() - began[1]))
        for form, both in times.items():
            row = {"loss": name, "batch": batch, "width": width, "form": form}
            for i, clock in enumerate(("ms", "cpu_ms")):
                seconds = [pair[i] for pair in both]
                dense = [pair[i] for pair in times.get("dense", both)]
                row[clock] = [round(1e3 * f(seconds), 1) for f in (statistics.median, min, max)]
                ratio = statistics.median(a / b for a, b in zip(seconds, dense, strict=True))
                row[f"{clock}_to_dense"] = round(ratio, 3) if "dense" in times else None
            rows.append(row)
            print(
                f"{name:8} {batch:7} x {width}  {form:32} {row['ms'][0]:9} ms ({row['ms'][1]} to {row['ms'][2]}), "
                f"{row['ms_to_dense']} of dense; {row['cpu_ms'][0]} ms of CPU, {row['cpu_ms_to_dense']}",
                flush=True,
            )
    return rows


def rounded(name: str, image, text, scale, bias, group) -> dict:
    """The losses of pairs with logits rounded to bfloat16, as an autocast product leaves them: what ours do not do."""
    table = (scale * jnp.einsum("id,jd->ij", *(x.astype(jnp.bfloat16) for x in (image, text))) + bias).astype(jnp.bfloat16)
    table, batch = table.astype(jnp.float32), jnp.float32(len(image))
    if name == "softmax":
        total = -sum(jnp.diag(jax.nn.log_softmax(table, axis)).sum() for axis in (0, 1))
        return {"contrastive": (total, 2 * batch)}
    sign = jnp.where(group[:, None] == group, 1, -1)
    return {"contrastive": (-jax.nn.log_sigmoid(sign * table).sum(), batch)}


def precision(batch: int, width: int) -> list[dict]:
    """How far bfloat16 moves loss and gradients from float64, by where it is used."""
    image, text = embeddings(batch, width)
    rows = []
    for name in CONTRASTIVE:

        def run(given, fn, **options):
            def loss(image, text, scale, bias):
                terms = fn(image, text, scale, bias, jnp.arange(batch, dtype=jnp.int32), **options)
                return terms["contrastive"][0] / terms["contrastive"][1]

            args = [jnp.asarray(x).astype(given) for x in (image, text)]
            scalars = [jnp.asarray(x, jnp.promote_types(given, jnp.float32)) for x in (SCALE, BIAS)]
            value, grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(*args, *scalars)
            return [np.asarray(x, np.float64) for x in (value, *grads)]

        with jax.enable_x64(True):
            exact = run("float64", CONTRASTIVE[name], form="dense")
        cases = {
            "float32 throughout": ("float32", {"form": "tiled"}),
            "travel in bfloat16, logits and sums in float32 (dtype)": ("float32", {"form": "tiled", "dtype": "bfloat16"}),
            "the same, dense: gradients leave in bfloat16": ("float32", {"form": "dense", "dtype": "bfloat16"}),
            "embeddings and their gradients are bfloat16": ("bfloat16", {"form": "tiled"}),
            "logits rounded to bfloat16 too (not ours)": ("bfloat16", {}),
        }
        for case, (given, options) in cases.items():
            found = run(given, CONTRASTIVE[name] if options else functools.partial(rounded, name), **options)
            errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, exact, strict=True)]
            rows.append({"loss": name, "case": case, **dict(zip(("value", "image", "text", "scale"), errors, strict=True))})
            print(f"{name:8} {case:62} " + "  ".join(f"{error:.1e}" for error in errors))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--losses", nargs="+", default=list(CONTRASTIVE), choices=list(CONTRASTIVE))
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tile", type=int)
    parser.add_argument("--precision", action="store_true", help="only the table of bfloat16's effect, at the first batch size")
    parser.add_argument("--out")
    args = parser.parse_args()
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}")
    if args.precision:
        rows = precision(args.batches[0], args.width)
    else:
        rows = [row for name in args.losses for row in measure(name, args.batches, args.width, args.rounds, args.tile)]
    if args.out:
        about = {"device": jax.devices()[0].device_kind, "devices": jax.device_count(), "jax": jax.__version__, **vars(args)}
        Path(args.out).write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
