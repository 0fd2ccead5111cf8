"""ViLT-B/32 (Kim et al. 2021, arXiv 2102.03334): one Transformer over words and patches, no detector and no visual encoder.

    mmjax train --config=configs/vilt.py --workdir=runs/vilt
    mmjax train --config=configs/vilt.py:vqa --workdir=runs/vilt_vqa          # begins with runs/vilt
    mmjax train --config=configs/vilt.py:small --workdir=runs/vilt_small      # emoji_vqa

Hardware: 64 V100 for three days, as the paper; one mesh axis is -1, so it takes what there is. Data: COCO under ./coco, BERT's
tokenizer as the prepared set "bert". Batch 4,096 at 1e-4 for 200,000 steps, then 256 at 1e-4 for 10 epochs, the head at ten times
that, as the authors' config. Expected: 71.3 on VQA v2 test-dev (published, with all of its four caption sets, RandAugment and
pictures of 384 x 640; not run here). Here pictures are 384 x 384 and captions are COCO's; a text is foreign in half of the rows,
where the authors put another picture.

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
    length = 40
    c = vqa(length) if arg == "vqa" else coco(length)
    c.model = {
        "name": "vilt",
        "image": {"name": "vit", "size": 384, "patch": 32, "depth": 12, **BASE, "pool": "cls"},
        "text": {"name": "bert", "vocab": VOCAB, "length": length, "depth": 0, **BASE, "pool": "pooler"},
        "heads": {"words": True, "match": True},
    }
    c.optim.weight_decay = 0.01
    if arg == "vqa":
        c.model.heads = {"answers": ANSWERS}
        c.task = {"name": "answers", "loss": "sigmoid"}
        c.data.transforms.insert(1, {"name": "rand_augment"})
        c.batch_size, c.steps, c.optim.lr = 256, 17_300, 1e-4
        c.optim.lr_rules = [["answer_head/.*", 10.0], [".*", 1.0]]
        start(c, "runs/vilt", ("answer_head",), ("words_head", "match_head"))
    else:
        c.task = {"name": "pretraining", "weights": {"masked_tokens": 1.0, "matching": 1.0}}
        c.batch_size, c.steps, c.optim.lr = 4096, 200_000, 1e-4
    c.optim.schedule = {"name": "linear", "warmup": c.steps // 10}
    if arg in ("captions", "small"):
        small(c, arg)
        c.model.image.update({"size": SIZE, "depth": 4, **SMALL})
        c.model.text.update({"vocab": WORDS, "length": CAPTION, **SMALL})
        c.model.heads = {"words": True, "answers": LISTED}
    if arg == "debug":
        debug(c)
        c.model.image.update({**TOY_PICTURE, "depth": 2, **TOY})
        c.model.text.update({"vocab": TOY_WORDS, "length": TOY_LENGTH, **TOY})
        c.model.heads = {"answers": TOY_ANSWERS}
    return c
