"""LiT B/16: a locked ImageNet-21k ViT-B/16, and BERT-base trained to read it (Zhai et al. 2022, arXiv 2111.07991).

    mmjax train --config=configs/lit_b16.py --workdir=runs/lit_b16 --config.data.sources.0.source.dataset=YOURS

Hardware: 64 TPU v4 chips; one mesh axis is -1, so it takes what there is. Data: a tfds set "pairs" with image and text (CC12M
and YFCC100M as published) under MMJAX_DATA; in weights/, Hugging Face's folders of vit-base-patch16-224-in21k and of
bert-base-uncased with its tokenizer.json. Expected: 73.9% zero-shot top-1 on ImageNet, R@1 0.515 and 0.318 on COCO
(LiT-B16B_2, 60,000 steps, as big_vision's README_lit says; not run here). The optimizer is that of big_vision's config
lit_coco. The argument "debug" trains a tiny one on drawings in seconds.
"""

from base import get_config as base
from clip_b32 import debug as shrink
from ml_collections import ConfigDict

SIZE, LENGTH = 224, 16
BASE = {"width": 768, "depth": 12, "heads": 12, "mlp": 3072}


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    if arg not in ("", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: debug")
    c = base()
    c.batch_size, c.steps = 16384, 60_000
    c.compute_dtype, c.remat = "bfloat16", "dots"
    texts = "weights/bert-base-uncased"
    tokenise = {"name": "tokenise", "tokenizer": texts, "length": LENGTH, "bos": "[CLS]", "eos": "[SEP]"}
    c.data.sources = [{"source": {"name": "tfds", "dataset": "pairs", "split": "train"}, "weight": 1.0}]
    augment = [{"name": "flip"}, {"name": "rand_augment", "operations": 2, "magnitude": 10}]
    c.data.transforms = [{"name": "decode"}, {"name": "resize", "size": SIZE}, tokenise, *augment]
    c.data.workers = 16
    c.batch = {"image": [[SIZE, SIZE, 3], "uint8"], "text": [[LENGTH], "int32"], "group": [[], "int32"]}
    c.model = {
        "name": "dual_encoder",
        "dim": 768,
        "image": {"name": "vit", "size": SIZE, "patch": 16, **BASE, "act": "gelu_tanh", "pool": "cls"},
        "text": {"name": "bert", "vocab": 30522, "length": 512, **BASE, "pool": "cls", "pooler": False},
        # The text tower comes to the picture's space, which stays as it is.
        "image_projection": "none",
        "text_projection": "bias",
        "logit_scale": 10.0,
        "max_logit_scale": None,
    }
    c.task = {"name": "contrastive", "loss": {"name": "softmax"}, "pixels": "siglip"}
    own = [["text_encoder/(.*)", "encoder/\\1"], ["text_projection/.*|logit_scale", None], [None, "encoder/pooler/.*"]]
    c.init = [
        {"from": "weights/vit-base-patch16-224-in21k", "map": [["image_encoder/(.*)", "encoder/\\1"]]},
        {"from": texts, "map": own},
    ]
    c.freeze = [["image_encoder/.*", True]]
    # big_vision's decay of 0.01 is not multiplied by the learning rate of 1e-3, ours is.
    c.optim.lr, c.optim.weight_decay = 1e-3, 10.0
    c.optim.schedule = {"name": "cosine", "warmup": 1800}
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": SIZE}, tokenise]
    c.eval.every, c.eval.batch_size = 10_000, 1024
    source = {"name": "tfds", "dataset": "pairs", "split": "validation"}
    c.eval.sets = [{"name": "retrieval", "set": "validation", "source": source}]
    c.log_every, c.save_every = 100, 2000
    return debug(c) if arg == "debug" else c


def debug(c: ConfigDict) -> ConfigDict:
    """The same at toy size, from random weights, on drawings that need no download."""
    shrink(c)
    c.model.dim, c.init = c.model.image.width, None
    return c
