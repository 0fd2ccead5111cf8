"""The textbook's cross-modal encoder: a ViT, a BERT, and blocks in which each modality looks at the other.

    mmjax train --config=configs/cross_encoder.py --workdir=runs/cross_encoder               # COCO captions
    mmjax train --config=configs/cross_encoder.py:vqa --workdir=runs/cross_encoder_vqa       # begins with runs/cross_encoder
    mmjax train --config=configs/cross_encoder.py:small --workdir=runs/cross_encoder_small   # emoji_vqa

Hardware: 8 A100 or TPU v5e-16; one mesh axis is -1, so it takes what there is. Data: COCO under ./coco, BERT's tokenizer as the
prepared set "bert". No paper has just this model: sizes are ViT-B/16's and BERT-base's with LXMERT's five blocks between them,
batch and rates ViLT's in fine-tuning. Expected: nothing published; not run here.

"small": 2 CPU cores, minutes; the README's table has its results beside the other models'.
"seen": the same on squares that `emoji_squares.py` (trained before, in runs/emoji_squares) puts into words: of the questions
of validation 0.94 are answered right (README); "named": on squares whose words are told, 0.83 in fewer steps.
"entailment" (see base_fusion): goes on from "seen" (runs/cross_encoder_seen), 1,000 steps; 0.99 of validation's verdicts.
"""

import base_fusion as fusion
from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """arg: see base_fusion.ARGS."""
    fusion.check(arg, "seen", "named")
    size, length = 224, 40
    c = fusion.vqa(length, size) if arg == "vqa" else fusion.coco(length, size)
    c.model = {
        "name": "cross_encoder",
        "image": {"name": "vit", "size": size, "patch": 16, "depth": 12, **fusion.BASE},
        "text": {"name": "bert", "vocab": fusion.VOCAB, "length": 512, "depth": 12, **fusion.BASE, "pooler": False},
        "cross": {"name": "co_attention", "depth": 5, **fusion.BASE},
        "heads": {"words": True, "match": True},
    }
    c.batch_size, c.optim.lr, c.optim.weight_decay = 256, 1e-4, 0.01
    if arg == "vqa":
        c.model.heads = {"answers": fusion.ANSWERS}
        c.task, c.steps = {"name": "answers", "loss": "sigmoid"}, 17_300
        fusion.start(c, "runs/cross_encoder", ("answer_head",), ("words_head", "match_head"))
    else:
        c.task, c.steps = {"name": "pretraining", "weights": {"masked_tokens": 1.0, "matching": 1.0}}, 100_000
    c.optim.schedule = {"name": "linear", "warmup": c.steps // 10}
    if arg in fusion.GRIDS:
        fusion.small(c, arg)
        c.model.image.update(
            {"size": fusion.SIZE, "patch": 32, "depth": 1, **fusion.SMALL, "class_token": False, "pool": "mean"}
        )
        c.model.text.update({"vocab": fusion.WORDS, "length": fusion.CAPTION, "depth": 1, **fusion.SMALL})
        c.model.cross.update({"depth": 1, **fusion.SMALL})
        c.model.heads = {"words": True, "answers": fusion.LISTED}
    if arg in fusion.SEEN:
        fusion.seen(c)
    if arg == "named":
        c.model.image = {"name": "regions", "features": fusion.WORDS, "depth": 0, **fusion.SMALL}
    if arg in fusion.VERDICTS:
        fusion.stated(c, arg)
    if arg == "debug":
        fusion.debug(c)
        c.model.image.update({**fusion.TOY_PICTURE, "depth": 1, **fusion.TOY, "class_token": False, "pool": "mean"})
        c.model.text.update({"vocab": fusion.TOY_WORDS, "length": fusion.TOY_LENGTH, "depth": 1, **fusion.TOY})
        c.model.cross.update({"depth": 1, **fusion.TOY})
        c.model.heads = {"answers": fusion.TOY_ANSWERS}
    return c
