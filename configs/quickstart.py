"""A small dual encoder on OpenMoji, from random weights, on two CPU cores.

    mmjax data get openmoji
    mmjax train --config=configs/quickstart.py --workdir=runs/quickstart

Hardware: 2 CPU cores, about 5 minutes. Expected: R@1 of 0.6 on 395 held-out pairs and 0.36 on 286 pairs of unseen concepts,
both ways; the README's table has three seeds. The drawings are in the order of their code points, so a block of 8 holds
variants of one concept: hard negatives, which teach skin tone and gender apart from what is drawn. The text encoder adds up
words and pairs of words, and training hides some of them: what a caption says beside an unknown word still counts. There is
time for 750 steps only: Muon makes more of a step than AdamW, and an MLP of twice the width in place of four times makes a
step a quarter shorter and costs no accuracy. The argument "debug" trains a smaller one on made drawings for seconds.
"""

from base import get_config as base
from ml_collections import ConfigDict

SIZE, LENGTH, VOCAB = 32, 12, 1544
GROUPS = ["smiley", "person", "animal or plant", "food or drink", "place or vehicle", "activity", "object", "symbol", "flag"]


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    if arg not in ("", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: debug")
    c = base()
    c.steps, c.batch_size, c.log_every, c.save_every = 750, 512, 10, 150
    tokenise = {"name": "tokenise", "tokenizer": "openmoji", "length": LENGTH, "bos": None, "eos": None}
    c.data.sources = [{"source": {"name": "tfds", "dataset": "openmoji", "split": "train", "cache": True}, "block": 8}]
    c.data.transforms = [
        {"name": "decode"},
        {"name": "random_shift", "pixels": 3, "scale": [0.88, 1.12], "size": SIZE},
        tokenise,
    ]
    c.batch = {"image": [[SIZE, SIZE, 3], "uint8"], "text": [[LENGTH], "int32"], "group": [[], "int32"]}
    c.model = {
        "name": "dual_encoder",
        "dim": 128,
        "image": {"name": "vit", "size": SIZE, "patch": 8, "width": 128, "depth": 4, "heads": 4, "mlp": 256,
                  "act": "gelu_tanh", "pool": "mean", "class_token": False, "patch_dropout": 0.2,
                  "init": "clip"},
        "text": {"name": "bag_of_words", "vocab": VOCAB, "width": 128, "pairs": 4096, "unknown_id": 1, "word_dropout": 0.1},
    }  # fmt: skip
    c.task = {"name": "contrastive", "loss": {"name": "softmax"}, "pixels": "openai"}
    c.optim.name, c.optim.lr, c.optim.weight_decay = "muon", 3e-3, 0.2
    c.optim.schedule = {"name": "cosine", "warmup": 60}
    evaluation = {"name": "tfds", "dataset": "openmoji", "cache": True}
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": SIZE}, tokenise]
    c.eval.batch_size = 128
    c.eval.sets = [
        {"name": "retrieval", "set": split, "source": {**evaluation, "split": split}}
        for split in ("heldout_pairs", "unseen_concepts")
    ] + [
        {
            "name": "zeroshot",
            "set": "heldout_pairs",
            "source": {**evaluation, "split": "heldout_pairs"},
            "classes": GROUPS,
            "templates": ["{}", "a drawing of a {}", "an emoji of a {}"],
        }
    ]
    return debug(c) if arg == "debug" else c


def debug(c: ConfigDict) -> ConfigDict:
    """The same in seconds, on drawings that need no download."""
    c.steps, c.batch_size, c.log_every, c.save_every, c.eval.batch_size = 20, 32, 5, 10, 32
    c.data.sources = [{"source": {"name": "synthetic", "n": 512, "size": 48}, "weight": 1.0}]
    for transform in (c.data.transforms[-1], c.eval.transforms[-1]):
        transform["tokenizer"] = "bytes"
        transform["length"] = 40
    c.batch.text = [[40], "int32"]
    c.model.dim = 32
    c.model.image.update({"width": 32, "depth": 2, "mlp": 64})
    c.model.text.update({"vocab": 259, "width": 32, "pairs": 256})
    c.optim.schedule.warmup = 2
    for spec in c.eval.sets:
        spec["source"] = {"name": "synthetic", "n": 64, "size": 48, "seed": 1}
    c.eval.sets[-1].update({"classes": ["circle", "square", "triangle", "ring"], "templates": ["a {}"]})
    return c
