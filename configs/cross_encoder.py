"""The textbook's cross-modal encoder: a ViT, a BERT, and blocks in which each modality looks at the other.

    mmjax train --config=configs/cross_encoder.py --workdir=runs/cross_encoder               # COCO captions
    mmjax train --config=configs/cross_encoder.py:vqa --workdir=runs/cross_encoder_vqa       # begins with runs/cross_encoder
    mmjax train --config=configs/cross_encoder.py:small --workdir=runs/cross_encoder_small   # emoji_vqa

Hardware: 8 A100 or TPU v5e-16; one mesh axis is -1, so it takes what there is. Data: COCO under ./coco, BERT's tokenizer as the
prepared set "bert". No paper has just this model: sizes are ViT-B/16's and BERT-base's with LXMERT's five blocks between them, and
batch and rates are ViLT's fine-tuning's. Expected: nothing published; not run here.

"small": 2 CPU cores, minutes; the README's table has its results beside the other models'.
"""

from base_fusion import (
    ANSWERS, BASE, CAPTION, LISTED, SIZE, SMALL, TOY, TOY_ANSWERS, TOY_LENGTH, TOY_PICTURE, TOY_WORDS, VOCAB, WORDS,
    check, coco, debug, small, start, vqa,
)  # fmt: skip
from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """arg: see base_fusion.ARGS."""
    check(arg)
    size, length = 224, 40
    c = vqa(length, size) if arg == "vqa" else coco(length, size)
    c.model = {
        "name": "cross_encoder",
        "image": {"name": "vit", "size": size, "patch": 16, "depth": 12, **BASE},
        "text": {"name": "bert", "vocab": VOCAB, "length": 512, "depth": 12, **BASE, "pooler": False},
        "cross": {"name": "co_attention", "depth": 5, **BASE},
        "heads": {"words": True, "match": True},
    }
    c.batch_size, c.optim.lr, c.optim.weight_decay = 256, 1e-4, 0.01
    if arg == "vqa":
        c.model.heads = {"answers": ANSWERS}
        c.task, c.steps = {"name": "answers", "loss": "sigmoid"}, 17_300
        start(c, "runs/cross_encoder", ("answer_head",), ("words_head", "match_head"))
    else:
        c.task, c.steps = {"name": "pretraining", "weights": {"masked_tokens": 1.0, "matching": 1.0}}, 100_000
    c.optim.schedule = {"name": "linear", "warmup": c.steps // 10}
    if arg in ("captions", "small"):
        small(c, arg)
        c.model.image.update({"size": SIZE, "patch": 32, "depth": 1, **SMALL, "class_token": False, "pool": "mean"})
        c.model.text.update({"vocab": WORDS, "length": CAPTION, "depth": 1, **SMALL})
        c.model.cross.update({"depth": 1, **SMALL})
        c.model.heads = {"words": True, "answers": LISTED}
    if arg == "debug":
        debug(c)
        c.model.image.update({**TOY_PICTURE, "depth": 1, **TOY, "class_token": False, "pool": "mean"})
        c.model.text.update({"vocab": TOY_WORDS, "length": TOY_LENGTH, "depth": 1, **TOY})
        c.model.cross.update({"depth": 1, **TOY})
        c.model.heads = {"answers": TOY_ANSWERS}
    return c
