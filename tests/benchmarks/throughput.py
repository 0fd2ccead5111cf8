"""One training step of CLIP in mmjax and in open_clip, same machine, same run, taking turns.

    python tests/benchmarks/throughput.py --config=configs/clip_b32.py --batch=256 --out=throughput.json     # a GPU
    python tests/benchmarks/throughput.py --config=configs/clip_b32.py --batch=16 --dtype=float32            # a CPU

Forward, backward and AdamW on one device with the batch already there; the loader is measured elsewhere. open_clip runs as its
users run it: torch.compile off, amp in the same dtype, its ClipLoss. Prints medians and spread, examples/s, the ratio round
by round, model flops utilisation where the device's peak is known, and peak memory. Needs torch and open_clip_torch beside
mmjax; without them it measures mmjax alone and says so.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from mmjax.core.config import load, plain
from mmjax.sharding import mesh as meshes
from mmjax.sharding import place
from mmjax.train import loop, step
from mmjax.train.peaks import PEAK

# The names that open_clip gives to the recipes.
PEER = {"clip_b32": "ViT-B-32-quickgelu", "clip_b16": "ViT-B-16-quickgelu", "clip_l14": "ViT-L-14-quickgelu"}


def batch(config: dict) -> dict[str, np.ndarray]:
    """Random pixels and ids with an end-of-text token, in the config's shapes."""
    rng, n, (length,) = np.random.default_rng(0), config["batch_size"], config["batch"]["text"][0]
    text = rng.integers(1, 1000, (n, length), dtype=np.int32)
    text[:, -1] = config["model"]["text"]["eos_id"]
    image = rng.integers(0, 256, (n, *config["batch"]["image"][0]), dtype=np.uint8)
    return {"image": image, "text": text, "group": np.arange(n, dtype=np.int32)}


class Ours:
    """mmjax's step, as the loop runs it."""

    def __init__(self, config: dict):
        self.plan = loop.plan(config, meshes.make(config["mesh"], jax.devices()[:1]))
        self.rows = place.batch(batch(config), self.plan.mesh)
        self.state, self.step = self.plan.make(), step.compiled(self.plan)
        self.flops = loop.model_flops(config, self.plan)

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self.state, measures = self.step(self.state, self.rows)
        jax.block_until_ready(measures)

    def memory(self) -> float | None:
        stats = jax.devices()[0].memory_stats() or {}
        return stats["peak_bytes_in_use"] / 2**30 if "peak_bytes_in_use" in stats else None


class Theirs:
    """open_clip's step."""

    def __init__(self, config: dict, name: str):
        import open_clip
        import torch

        self.torch, self.device = torch, "cuda" if torch.cuda.is_available() else "cpu"
        self.model = open_clip.create_model(name).to(self.device).train()
        if config["remat"] != "none":
            self.model.set_grad_checkpointing()
        self.loss = open_clip.loss.ClipLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, weight_decay=0.2)
        rows = batch(config)
        image = torch.from_numpy(rows["image"]).permute(0, 3, 1, 2).float() / 255
        self.image, self.text = image.to(self.device), torch.from_numpy(rows["text"]).long().to(self.device)
        self.amp = torch.autocast(self.device, torch.bfloat16, enabled=config["compute_dtype"] == "bfloat16")

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            with self.amp:
                images, texts, scale = self.model(self.image, self.text)
                loss = self.loss(images, texts, scale)
            loss.backward()
            self.optimizer.step()
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def memory(self) -> float | None:
        return self.torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/clip_b32.py")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--attention", default="plain", help='"plain" or "fused", of both towers')
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="a round")
    parser.add_argument("--out")
    args = parser.parse_args()
    config = plain(load(args.config)) | {"batch_size": args.batch, "compute_dtype": args.dtype, "remat": args.remat}
    config["mesh"] = {"data": 1, "fsdp": 1, "model": 1}
    config["model"]["image"]["attention"] = config["model"]["text"]["attention"] = args.attention
    runners = {"mmjax": Ours(config)}
    try:
        runners["open_clip"] = Theirs(config, PEER[Path(args.config).stem])
    except ImportError as error:
        print(f"mmjax alone: {error}")
    times = {name: [] for name in runners}
    for one in runners.values():  # compile, warm up
        one(2)
    for _ in range(args.rounds):
        for name, one in runners.items():
            began = time.perf_counter()
            one(args.steps)
            times[name].append((time.perf_counter() - began) / args.steps)
    result = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        **vars(args),
        "flops_a_step": runners["mmjax"].flops,
    }
    peak = PEAK.get(jax.devices()[0].device_kind)
    for name, seconds in times.items():
        median = statistics.median(seconds)
        row = {"step_ms": round(median * 1e3, 1), "min": round(min(seconds) * 1e3, 1), "max": round(max(seconds) * 1e3, 1)}
        row |= {"examples_per_s": round(args.batch / median, 1), "peak_gib": runners[name].memory()}
        if peak:
            row["mfu"] = round(runners["mmjax"].flops / median / peak, 4)
        result[name] = row
        print(name, row)
    if len(runners) > 1:
        result["speedup"] = round(statistics.median(b / a for a, b in zip(times["mmjax"], times["open_clip"], strict=True)), 3)
        print("speed of mmjax over open_clip, median of rounds:", result["speedup"])
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
