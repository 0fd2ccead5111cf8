"""ALBEF pretraining (Li et al. 2021, arXiv 2107.07651) with its paper's numbers.

    mmjax train --config=configs/albef.py --workdir=runs/albef --config.data.sources.0.source.dataset=YOURS

Hardware: 8 A100-80GB (the paper: 8 A100) or TPU v4-32; one mesh axis is -1, so it takes what there is. Data: a tfds set
"pairs" with image and text and BERT's tokenizer.json under MMJAX_DATA. It starts from published weights, folders of Hugging
Face's files: weights/bert-base-uncased, whose first six layers become the text encoder and whose last six the fusion layers,
and weights/deit-base-patch16-224, whose positions for 224 pixels are resized to 256; without them --config.init=none.
Expected, on 14 million pictures: after fine-tuning, COCO R@1 of 77.6 text and 60.7 image retrieval, VQA 76.0 (published; not
run here). RandAugment here has all its operations; the paper's code leaves out those of colour.

Ablations, a line each: --config.task.momentum=none (no teacher), --config.task.hard_negatives=False,
--config.task.weights.contrastive=0, ...matching=0, ...masked_tokens=0, --config.task.distil.contrastive=0,
...masked_tokens=0, --config.model.fusion=3 (with --config.init=none, or a map of other layers).

The argument "small" trains a small one on grids of emoji (`mmjax data get emoji_vqa`) from random weights in minutes on two CPU
cores; "debug" a tiny one on drawings in seconds.
"""

import base_fusion as fusion
from base import get_config as base
from ml_collections import ConfigDict

SIZE, LENGTH, VOCAB = 256, 30, 30522
BERT = [
    [r"text_encoder/stack/(blocks/.*)", r"encoder/stack/\1", [0, 6]],
    [r"fusion/blocks/(cross|ln_cross)/.*", None],
    [r"fusion/(blocks/.*)", r"encoder/stack/\1", [6, 12]],
    [r"text_encoder/(.*)", r"encoder/\1"],
    [r"image_.*|text_projection/.*|temperature|(words|match)_head/.*", None],
    [None, r"encoder/pooler/.*"],
]
DEIT = [[r"image_encoder/(.*)", r"encoder/\1"], [r".*", None], [None, r"head/.*"]]


def get_config(arg: str = "") -> ConfigDict:
    """arg: "", "small" or "debug"."""
    if arg not in ("", "small", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: small, debug")
    c = base()
    # 30 epochs of 5.1 million pairs.
    c.batch_size, c.steps = 512, 300_000
    c.compute_dtype, c.remat = "bfloat16", "dots"
    tokenise = {"name": "tokenise", "tokenizer": "bert", "length": LENGTH, "bos": "[CLS]", "eos": "[SEP]"}
    c.data.sources = [{"source": {"name": "tfds", "dataset": "pairs", "split": "train"}, "weight": 1.0}]
    c.data.transforms = [
        {"name": "decode"},
        {"name": "random_resized_crop", "size": SIZE, "scale": [0.2, 1.0]},
        {"name": "flip"},
        {"name": "rand_augment", "operations": 2, "magnitude": 7},
        tokenise,
        {"name": "mask_tokens", "tokenizer": "bert", "rate": 0.15, "whole_words": False},
    ]
    c.data.workers = 16
    c.batch = batch(SIZE, LENGTH)
    tower = {"width": 768, "heads": 12, "mlp": 3072}
    c.model = {
        "name": "albef",
        "dim": 256,
        "image": {"name": "vit", "size": 224, "patch": 16, "depth": 12, **tower},
        "text": {"name": "bert", "vocab": VOCAB, "length": 512, "depth": 6, "dropout": 0.1, "pooler": False, **tower},
        "fusion": 6,
        "temperature": 0.07,
        "heads": {"words": True, "match": True},
    }
    c.task = {
        "name": "albef",
        "weights": {"contrastive": 1.0, "matching": 1.0, "masked_tokens": 1.0},
        "momentum": 0.995,
        "queue": 65536,
        "distil": {"contrastive": 0.4, "masked_tokens": 0.4},
        "ramp": 10_000,
        "hard_negatives": True,
        "pixels": "openai",
    }
    c.init = [{"from": "weights/bert-base-uncased", "map": BERT}, {"from": "weights/deit-base-patch16-224", "map": DEIT}]
    c.optim.lr, c.optim.weight_decay, c.optim.clip = 1e-4, 0.02, None
    c.optim.schedule = {"name": "cosine", "warmup": 1000, "end": 0.1}
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": SIZE, "mode": "squash"}, tokenise]
    c.eval.every, c.eval.batch_size = 10_000, 512
    source = {"name": "tfds", "dataset": "pairs", "split": "validation"}
    c.eval.sets = [{"name": "retrieval", "set": "validation", "source": source}]
    c.log_every, c.save_every = 100, 2000
    return {"": lambda c: c, "small": small, "debug": debug}[arg](c)


def batch(size: int, length: int) -> dict:
    """What a batch holds."""
    text, number = [[length], "int32"], [[], "int32"]
    return {"image": [[size, size, 3], "uint8"], "text": text, "mlm_labels": text, "group": number, "text_cut": number}


def shrink(c: ConfigDict, size: int, length: int, vocab: int, tokens: dict, width: int, layers: tuple[int, int, int]) -> None:
    """The same architecture from random weights; layers are those of picture, text and fusion."""
    c.compute_dtype, c.remat, c.init, c.data.workers = "float32", "none", None, 0
    tower = {"width": width, "heads": 4, "mlp": 4 * width}
    c.model.image.update({"size": size, "patch": 8, "depth": layers[0], **tower})
    c.model.text.update({"vocab": vocab, "length": length, "depth": layers[1], "dropout": 0.0, **tower})
    c.model.fusion = layers[2]
    c.batch = batch(size, length)
    tokenise = {"name": "tokenise", "length": length, "bos": "[BOS]", "eos": "[EOS]", **tokens}
    c.data.transforms = [
        {"name": "decode"},
        {"name": "random_shift", "pixels": 3, "scale": [0.88, 1.12], "size": size},
        tokenise,
    ]
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": size}, tokenise]


def small(c: ConfigDict) -> ConfigDict:
    """On grids of emoji and captions of them, three facts each, of which one vector holds little and a reader of both all."""
    told = {"tokenizer": "emoji_vqa", "field": "caption", "into": "text"}
    shrink(c, fusion.SIZE, fusion.CAPTION + 2, fusion.WORDS, told, 128, (2, 2, 2))
    c.model.image.update({"patch": 32, "mlp": 256})
    c.model.text.mlp = 256
    c.data.transforms[1] = {"name": "resize", "size": fusion.SIZE}
    c.data.transforms.append({"name": "mask_tokens", "tokenizer": "emoji_vqa", "rate": 0.3})
    c.steps, c.batch_size, c.log_every, c.save_every, c.eval.every, c.eval.batch_size = 300, 128, 25, 150, 0, 200
    grids = {"name": "tfds", "dataset": "emoji_vqa", "cache": True}
    c.data.sources = [{"source": {**grids, "split": "train"}}]
    c.model.dim = 128
    c.task = {**c.task, "queue": 1024, "momentum": 0.99, "ramp": 200, "pixels": fusion.WHITE}
    c.optim.name, c.optim.lr, c.optim.weight_decay, c.optim.clip = "muon", 5e-3, 0.05, 1.0
    c.optim.schedule = {"name": "cosine", "warmup": 30}
    # 1e-4, the rate of its paper; at that of the matrices it fell from 0.07 to 0.017 in 160 steps.
    c.optim.lr_rules = [["temperature", 0.02]]
    held = {**grids, "split": "validation"}
    c.eval.sets = [{"name": "reranked", "set": "validation", "source": held, "shortlist": 16}]
    return c


def debug(c: ConfigDict) -> ConfigDict:
    """In seconds, on drawings that need no download."""
    shrink(c, 32, 40, 260, {"tokenizer": "bytes"}, 32, (2, 1, 1))
    c.data.transforms.append({"name": "mask_tokens", "tokenizer": "bytes", "rate": 0.15})
    c.steps, c.batch_size, c.log_every, c.save_every, c.eval.every, c.eval.batch_size = 6, 16, 2, 3, 0, 16
    c.data.sources = [{"source": {"name": "synthetic", "n": 256, "size": 40}, "weight": 1.0}]
    c.eval.sets[0]["source"] = {"name": "synthetic", "n": 32, "size": 40, "seed": 1}
    c.model.dim = 16
    c.task.queue, c.task.ramp = 64, 4
    c.optim.schedule.warmup = 2
    return c
