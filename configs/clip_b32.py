"""CLIP ViT-B/32 from scratch (Radford et al. 2021, arXiv 2103.00020, tables 19 and 20), in the batch of its paper.

    mmjax train --config=configs/clip_b32.py --workdir=runs/clip_b32 --config.data.sources.0.source.dataset=YOURS

Hardware: TPU v5e-64, or 64 A100; one mesh axis is -1, so it takes what there is. Data: a tfds set "pairs" with image and
text and CLIP's tokenizer.json under MMJAX_DATA. Expected, trained on LAION-400M for 13 billion examples: 62.9% zero-shot
top-1 on ImageNet (OpenCLIP's published figure; not run here). The argument "debug" trains a tiny one on drawings in
seconds.
"""

from base import get_config as base
from ml_collections import ConfigDict

# <|endoftext|> of CLIP's vocabulary, at which the text is read.
VOCAB, LENGTH, EOS = 49408, 77, 49407


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    return clip(arg, patch=32, vision=(768, 12, 12), text=(512, 12, 8), dim=512)


def clip(arg: str, *, patch: int, vision: tuple[int, int, int], text: tuple[int, int, int], dim: int) -> ConfigDict:
    """CLIP of any size; vision and text are (width, depth, heads)."""
    if arg not in ("", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: debug")
    size, c = 224, base()
    c.batch_size, c.steps = 32768, 400_000
    c.compute_dtype, c.remat = "bfloat16", "dots"
    tokenise = {"name": "tokenise", "tokenizer": "clip", "length": LENGTH, "bos": "<|startoftext|>", "eos": "<|endoftext|>"}
    c.data.sources = [{"source": {"name": "tfds", "dataset": "pairs", "split": "train"}, "weight": 1.0}]
    c.data.transforms = [{"name": "decode"}, {"name": "random_resized_crop", "size": size, "scale": [0.9, 1.0]}, tokenise]
    c.data.workers = 16
    c.batch = {"image": [[size, size, 3], "uint8"], "text": [[LENGTH], "int32"], "group": [[], "int32"]}
    common = {"act": "quick_gelu", "norm_eps": 1e-5, "init": "clip", "attention": "fused"}
    c.model = {
        "name": "dual_encoder",
        "dim": dim,
        "image": {"name": "vit", "size": size, "patch": patch, **_tower(*vision), **common,
                  "pool": "cls", "pre_norm": True, "patch_bias": False},
        "text": {"name": "text_transformer", "vocab": VOCAB, "length": LENGTH, **_tower(*text), **common,
                 "causal": True, "pool": "eos", "eos_id": EOS},
    }  # fmt: skip
    c.task = {"name": "contrastive", "loss": {"name": "softmax"}, "pixels": "openai"}
    c.optim.lr, c.optim.weight_decay, c.optim.args = 5e-4, 0.2, {"b1": 0.9, "b2": 0.98, "eps": 1e-6}
    c.optim.schedule = {"name": "cosine", "warmup": 2000}
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": size, "mode": "crop"}, tokenise]
    c.eval.every, c.eval.batch_size = 10_000, 1024
    source = {"name": "tfds", "dataset": "pairs", "split": "validation"}
    c.eval.sets = [{"name": "retrieval", "set": "validation", "source": source}]
    c.log_every, c.save_every = 100, 2000
    return debug(c) if arg == "debug" else c


def debug(c: ConfigDict) -> ConfigDict:
    """The same architecture at toy size, on drawings that need no download."""
    c.steps, c.batch_size, c.log_every, c.save_every, c.eval.every, c.eval.batch_size = 6, 16, 2, 3, 0, 16
    size, length = 32, 40
    for transforms in (c.data.transforms, c.eval.transforms):
        transforms[1]["size"] = size
        transforms[2].update({"tokenizer": "bytes", "length": length, "bos": "[BOS]", "eos": "[EOS]"})
    c.data.workers = 0
    c.data.sources = [{"source": {"name": "synthetic", "n": 256, "size": 40}, "weight": 1.0}]
    c.eval.sets[0]["source"] = {"name": "synthetic", "n": 32, "size": 40, "seed": 1}
    c.batch = {"image": [[size, size, 3], "uint8"], "text": [[length], "int32"], "group": [[], "int32"]}
    c.model.dim = 16
    c.model.image.update({"size": size, "patch": 8, "width": 32, "depth": 2, "heads": 4, "mlp": 64})
    c.model.text.update({"vocab": 259, "length": length, "width": 32, "depth": 2, "heads": 4, "mlp": 64})
    if "eos_id" in c.model.text:
        c.model.text.eos_id = 2
    c.optim.schedule.warmup = 2
    return c


def _tower(width: int, depth: int, heads: int) -> dict[str, int]:
    return {"width": width, "depth": depth, "heads": heads, "mlp": 4 * width}
