"""SigLIP ViT-B/16 at 224 pixels from scratch (Zhai et al. 2023, arXiv 2303.15343).

    mmjax train --config=configs/siglip_b16.py --workdir=runs/siglip_b16 --config.data.sources.0.source.dataset=YOURS

Hardware: TPU v5e-256; one mesh axis is -1, so it takes what there is. Data: a tfds set "pairs" with image and text and
SigLIP's tokenizer.json (32,000 tokens) under MMJAX_DATA. Expected, trained on WebLI: 76.0% zero-shot top-1 on ImageNet
(published; not run here). The argument "debug" trains a tiny one on drawings in seconds.
"""

from base import get_config as base
from clip_b32 import debug
from ml_collections import ConfigDict

VOCAB = 32_000


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    return siglip(arg, patch=16, length=64, tower={"width": 768, "depth": 12, "heads": 12, "mlp": 3072})


def siglip(arg: str, *, patch: int, length: int, tower: dict[str, int]) -> ConfigDict:
    """SigLIP of any size; both towers have the same one, and the image tower's pooled output is the embedding."""
    if arg not in ("", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: debug")
    size, c = 224, base()
    c.batch_size, c.steps = 32768, 100_000
    c.compute_dtype, c.remat = "bfloat16", "dots"
    # big_vision's policy: lower case, no opening token, </s> closes and pads the text to its full length, which is read.
    tokenise = {"name": "tokenise", "tokenizer": "siglip", "length": length, "bos": None, "eos": "</s>", "pad_id": 1}
    c.data.sources = [{"source": {"name": "tfds", "dataset": "pairs", "split": "train"}, "weight": 1.0}]
    c.data.transforms = [{"name": "decode"}, {"name": "resize", "size": size}, tokenise]
    c.data.workers = 16
    c.batch = {"image": [[size, size, 3], "uint8"], "text": [[length], "int32"], "group": [[], "int32"]}
    common = {**tower, "act": "gelu_tanh", "norm_eps": 1e-6, "attention": "fused"}
    c.model = {
        "name": "dual_encoder",
        "dim": tower["width"],
        "image": {"name": "vit", "size": size, "patch": patch, **common, "pool": "map", "class_token": False},
        "text": {"name": "text_transformer", "vocab": VOCAB, "length": length, **common, "pool": "last"},
        "image_projection": "none",
        "text_projection": "bias",
        "logit_scale": 10.0,
        "max_logit_scale": None,
        "logit_bias": -10.0,
    }
    c.task = {"name": "contrastive", "loss": {"name": "sigmoid"}, "pixels": "siglip"}
    # b2 0.95 keeps large batches stable (section 4.6 of the paper). Its decay of 1e-4 is big_vision's, which is of kernels
    # alone and not multiplied by the learning rate of 1e-3; ours is.
    c.optim.lr, c.optim.weight_decay, c.optim.args = 1e-3, 0.1, {"b1": 0.9, "b2": 0.95}
    c.optim.decay_rules = [[".*kernel", 1.0], [".*", 0.0]]
    c.optim.schedule = {"name": "rsqrt", "warmup": 20_000, "cooldown": 20_000}
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": size}, tokenise]
    c.eval.every, c.eval.batch_size = 10_000, 1024
    source = {"name": "tfds", "dataset": "pairs", "split": "validation"}
    c.eval.sets = [{"name": "retrieval", "set": "validation", "source": source}]
    c.log_every, c.save_every = 100, 2000
    if arg == "debug":
        debug(c)
        c.model.dim = c.model.image.width
        c.optim.schedule.cooldown = 2
    return c
