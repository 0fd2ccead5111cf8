"""A tiny ALBEF, its config and batches, for tests."""

import numpy as np

B, T, SIZE, VOCAB, WIDTH, DIM = 4, 6, 8, 13, 8, 6
IMAGE = {"name": "vit", "size": SIZE, "patch": 4, "width": WIDTH, "depth": 2, "heads": 2, "mlp": 12}
TEXT = {"name": "bert", "vocab": VOCAB, "length": T, "width": WIDTH, "depth": 2, "heads": 2, "mlp": 12, "pooler": False}
MODEL = {"name": "albef", "dim": DIM, "fusion": 2, "image": IMAGE, "text": TEXT, "heads": {"words": True, "match": True}}
TASK = {
    "name": "albef",
    "weights": {"contrastive": 1.0, "matching": 1.0, "masked_tokens": 1.0},
    "momentum": 0.9,
    "queue": 3 * B,
    "ramp": 4,
}
OPTIM = {"name": "adamw", "args": {}, "lr": 1e-2, "schedule": {"name": "constant"}, "weight_decay": 0.02,
         "decay_rules": None, "lr_rules": [], "clip": 1.0, "ema": None}  # fmt: skip


def config(task=None, model=None, batch=B, **changes):
    """Plain; the keys of configs/base.py that a step needs."""
    base = {"seed": 0, "steps": 9, "batch_size": batch, "chunk": None, "accumulation": "gradcache", "bad_steps": "stop",
            "compute_dtype": "float32", "remat": "none", "freeze": [], "optim": OPTIM, "sharding": [[".*", "fsdp"]],
            "mesh": {"data": -1, "fsdp": 1, "model": 1}}  # fmt: skip
    base["batch"] = {"image": [[SIZE, SIZE, 3], "uint8"], "text": [[T], "int32"], "group": [[], "int32"],
                     "mlm_labels": [[T], "int32"]}  # fmt: skip
    return base | {"model": MODEL | (model or {}), "task": TASK | (task or {})} | changes


def rows(batch=B, seed=0, groups=None):
    """Captions 2 w w w [w] 3 [0] with one hidden word (1 is the mask) each, two of every third."""
    rng = np.random.default_rng(seed)
    text = np.zeros((batch, T), np.int32)
    labels = np.full((batch, T), -1, np.int32)
    for i in range(batch):
        words = 3 + i % 2
        text[i, : words + 2] = [2, *rng.integers(4, VOCAB, words), 3]
        for at in range(1, 2 + (i % 3 == 2)):
            labels[i, at], text[i, at] = text[i, at], 1
    return {
        "image": rng.integers(0, 256, (batch, SIZE, SIZE, 3), dtype=np.uint8),
        "text": text,
        "group": np.arange(batch, dtype=np.int32) if groups is None else np.asarray(groups, np.int32),
        "mlm_labels": labels,
    }
