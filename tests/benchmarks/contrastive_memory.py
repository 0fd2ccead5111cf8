"""Memory of the contrastive loss and of GradCache, from the compiler: nothing is run, and no such machine is needed.

    python tests/benchmarks/contrastive_memory.py --out=docs/contrastive_memory        # .md, .svg and .json
    python tests/benchmarks/contrastive_memory.py --gradcache=                         # the losses alone: a minute

compiled.memory_analysis() of loss and gradients with respect to both embeddings (float32), scale and bias: temporaries and
outputs of one device. Dense and tiled are on one device; the ring is a chip's share on 8 fake ones. GradCache: temporaries
of CLIP ViT-B/32's whole training step (configs/clip_b32.py in float32, blocks rematerialised as the recipe says) on one
device at a global batch of 32,768, by the number of examples encoded at a time. The CPU's compiler; others differ in
constants, not in growth.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.core import pin
from mmjax.core.config import load, plain
from mmjax.losses import CONTRASTIVE
from mmjax.sharding import mesh as meshes
from mmjax.tasks import build as tasks
from mmjax.train import loop, step

BATCHES = (4096, 16384, 65536, 262144, 1048576)
FORMS = {"dense": 1, "tiled": 1, "ring": 8}
COLOURS = {"dense": "#d9730d", "tiled": "#3f5bd9", "ring": "#12876f"}


def loss_bytes(name: str, form: str, batch: int, width: int, **options) -> int:
    """Bytes that one device needs beside the embeddings for the loss and its gradients."""
    devices = FORMS[form]
    mesh = meshes.make({"data": devices}, jax.devices()[:devices])
    split, whole = NamedSharding(mesh, meshes.ROWS), NamedSharding(mesh, PartitionSpec())
    embedding = jax.ShapeDtypeStruct((batch, width), jnp.float32)
    scalar, group = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)

    def loss(image, text, scale, bias, group):
        terms = CONTRASTIVE[name](image, text, scale, bias, group, form=form, **options)
        return terms["contrastive"][0], terms

    def both(*args):
        with pin.on(mesh, meshes.PINS):
            return jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(*args)

    run = jax.jit(both, in_shardings=(split, split, whole, whole, split))
    memory = run.lower(embedding, embedding, scalar, scalar, group).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes


def step_bytes(batch: int, chunk: int | None, config: str = "configs/clip_b32.py") -> int:
    """Bytes of temporaries of a training step on one device."""
    c = plain(load(config)) | {"batch_size": batch, "chunk": chunk, "compute_dtype": "float32"}
    c["task"]["loss"]["form"] = "tiled"
    plan = loop.plan(c, meshes.make({"data": 1}, jax.devices()[:1]))
    compiled = step.compiled(plan).lower(plan.abstract(), tasks.abstract_batch(c)).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def size(n: float) -> str:
    """12.3 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:,.3g} TiB" if n < 1000 else f"{n:,.0f} TiB"


def exponent(points: dict[int, int]) -> float:
    """By what power of the batch memory grows between the last two sizes."""
    (b0, m0), (b1, m1) = list(points.items())[-2:]
    return math.log(m1 / m0) / math.log(b1 / b0)


def table(found: dict[str, dict[int, int]], batches: tuple[int, ...]) -> list[str]:
    lines = [f"| loss, width, form | {' | '.join(f'{b:,}' for b in batches)} | grows as |", "|---" * (len(batches) + 2) + "|"]
    for what, points in found.items():
        cells = " | ".join(size(points[b]) for b in batches)
        lines.append(f"| {what} | {cells} | B^{exponent(points):.2f} |")
    return lines


def picture(found: dict[str, dict[int, int]], title: str) -> str:
    """Memory against batch size, both on logarithmic axes, as SVG."""
    left, right, top, bottom, width, height = 70, 110, 40, 46, 720, 420
    xs = sorted({b for points in found.values() for b in points})
    ys = [m for points in found.values() for m in points.values()]
    x0, x1 = math.log2(xs[0]), math.log2(xs[-1])
    y0, y1 = math.floor(math.log2(min(ys))), math.ceil(math.log2(max(ys)))

    def x(b):
        return left + (math.log2(b) - x0) / (x1 - x0) * (width - left - right)

    def y(m):
        return height - bottom - (math.log2(m) - y0) / (y1 - y0) * (height - top - bottom)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/><text x="{left}" y="22" font-size="15">{title}</text>',
    ]
    for power in range(y0 + (-y0) % 4, y1 + 1, 4):
        at = y(2**power)
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e3e3df"/>')
        out.append(f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#686872">{size(2**power)}</text>')
    for b in xs:
        out.append(f'<text x="{x(b):.1f}" y="{height - bottom + 20}" text-anchor="middle" fill="#686872">{b // 1024}k</text>')
    out.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle" fill="#686872">global batch</text>'
    )
    for what, points in found.items():
        form = what.split(", ")[-1].split(" ")[0]
        dash = "" if what.startswith("softmax") else ' stroke-dasharray="5 4"'
        line = " ".join(f"{x(b):.1f},{y(m):.1f}" for b, m in points.items())
        out.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[form]}" stroke-width="2"{dash}/>')
        for b, m in points.items():
            dot = f'<circle cx="{x(b):.1f}" cy="{y(m):.1f}" r="3" fill="{COLOURS[form]}">'
            out.append(f"{dot}<title>{what}, {b:,}: {size(m)}</title></circle>")
    ends = {what.split(", ")[-1]: list(points.items())[-1] for what, points in found.items() if what.startswith("softmax")}
    for form, (b, m) in ends.items():
        colour = COLOURS[form.split(" ")[0]]
        out.append(f'<text x="{x(b) + 10:.1f}" y="{y(m) + 4:.1f}" fill="{colour}">{form.split(", ")[0]}</text>')
    return "\n".join([*out, "</svg>", ""])


def report(
    found: dict[str, dict[int, int]], chunks: dict[int, int], batches: tuple[int, ...], width: int, out: str | None
) -> None:
    """Prints the tables; writes them, the picture of one width and the numbers to `out` with three endings."""
    lines = ["# Memory of the contrastive loss", "", *table(found, batches)]
    if chunks:
        whole = max(chunks)
        lines += ["", f"CLIP ViT-B/32, one device, global batch {whole:,}, float32: temporaries of a step.", ""]
        lines += ["| encoded at a time | temporaries |", "|---|---|"]
        lines += [f"| {'all' if chunk == whole else f'{chunk:,}'} | {size(used)} |" for chunk, used in chunks.items()]
    print("\n".join(lines))
    if out is None:
        return
    said = f"Written by `tests/benchmarks/contrastive_memory.py`, jax {jax.__version__}; nothing was run."
    Path(out + ".md").write_text("\n".join([*lines, "", said, ""]))
    some = {what: points for what, points in found.items() if f", {width}, " in what}
    title = f"Memory of the contrastive loss and its gradients, width {width} (line: softmax, dashes: sigmoid)"
    Path(out + ".svg").write_text(picture(some, title))
    Path(out + ".json").write_text(json.dumps({"loss": found, "gradcache": chunks}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 768])
    parser.add_argument("--gradcache", default="32768,4096,1024,256", help="chunks, the first the whole batch; empty for none")
    parser.add_argument("--out", help="path without ending")
    args = parser.parse_args()
    batches, found, began = tuple(args.batches), {}, time.monotonic()
    for name in CONTRASTIVE:
        for width in args.widths:
            for form in FORMS:
                label = f"{name}, {width}, {form}" + (" (a chip of 8)" if form == "ring" else "")
                found[label] = {b: loss_bytes(name, form, b, width) for b in batches}
                print(f"{time.monotonic() - began:5.0f} s  {label:36}", *map(size, found[label].values()), flush=True)
    chunks = {}
    for text in filter(None, args.gradcache.split(",")):
        batch = int(args.gradcache.split(",")[0])
        chunk = int(text)
        chunks[chunk] = step_bytes(batch, None if chunk == batch else chunk)
        print(f"{time.monotonic() - began:5.0f} s  batch {batch:,}, {chunk:,} at a time: {size(chunks[chunk])}", flush=True)
    report(found, chunks, batches, args.widths[0], args.out)


if __name__ == "__main__":
    main()
