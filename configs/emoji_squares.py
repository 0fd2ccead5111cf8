"""The eye of cross_encoder's, lxmert's and visualbert's `:seen`: a small dual encoder on single squares of emoji_vqa's grids.

    mmjax data get emoji_vqa
    mmjax train --config=configs/emoji_squares.py --workdir=runs/emoji_squares

Hardware: 2 CPU cores, minutes. A square is 32 pixels; its text is the name of what is in it or its colour, where that is clear,
or "nothing", no word of the vocabulary: objects and attributes, as a detector learns them (Anderson et al. 2018), here by
contrast. It sees no more than the training grids that questions are asked about, and none of their questions. Evaluation asks
for names alone. Expected: of 4,000 squares of validation 0.998 find their name first, of the unseen style 0.63, of unseen
concepts, half of the things there, 0.44. The argument "debug" trains it on drawings, for seconds.
"""

import base_fusion as fusion
from base import get_config as base
from ml_collections import ConfigDict

TILE = fusion.EYE["image"]["size"]
WORDS = 4  # tokens of a text


def get_config(arg: str = "") -> ConfigDict:
    """arg: "" or "debug"."""
    if arg not in ("", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: debug")
    c = base()
    c.steps, c.batch_size, c.log_every, c.save_every = 1000, 256, 50, 500
    decode = {"name": "decode"}
    square = {"name": "one_square", "side": fusion.SIDE}
    tokenise = {"name": "tokenise", "tokenizer": "emoji_vqa", "length": WORDS, "bos": None, "eos": None}
    grids = {"name": "tfds", "dataset": "emoji_vqa", "cache": True}
    c.data.sources = [{"source": {**grids, "split": "train"}}]
    c.data.transforms = [decode, square, tokenise]
    c.eval.transforms = [decode, {**square, "fields": ["grid"]}, tokenise]
    c.batch = {"image": [[TILE, TILE, 3], "uint8"], "text": [[WORDS], "int32"], "group": [[], "int32"]}
    c.model = {"name": "dual_encoder", **fusion.EYE}
    c.task = {"name": "contrastive", "loss": {"name": "softmax"}, "pixels": fusion.WHITE}
    c.optim.name, c.optim.lr, c.optim.weight_decay = "muon", 3e-3, 0.05
    c.optim.schedule = {"name": "cosine", "warmup": 100}
    c.eval.batch_size = 200
    c.eval.sets = [
        {"name": "retrieval", "set": split, "source": {**grids, "split": split}}
        for split in ("validation", "unseen_concepts", "unseen_style")
    ]
    return debug(c) if arg == "debug" else c


def debug(c: ConfigDict) -> ConfigDict:
    """20 steps on drawings."""
    c.steps, c.batch_size, c.log_every, c.save_every, c.eval.batch_size = 20, 32, 5, 10, 32
    c.optim.schedule.warmup = 2
    tokenise = {"name": "tokenise", "tokenizer": "bytes", "length": fusion.TOY_LENGTH, "bos": None, "eos": None}
    drawn = {"name": "synthetic", "size": 48}
    c.data.sources = [{"source": {**drawn, "n": 512}}]
    c.data.transforms = c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": TILE}, tokenise]
    c.batch.text, c.model.text.vocab = [[fusion.TOY_LENGTH], "int32"], fusion.TOY_WORDS
    c.eval.sets = [{"name": "retrieval", "set": "drawings", "source": {**drawn, "n": 64, "seed": 1}}]
    return c
