"""ViLT-B/32 (Kim et al. 2021, arXiv 2102.03334): one Transformer over words and patches, no detector and no visual encoder.

    mmjax train --config=configs/vilt.py --workdir=runs/vilt
    mmjax train --config=configs/vilt.py:vqa --workdir=runs/vilt_vqa          # begins with runs/vilt
    mmjax train --config=configs/vilt.py:small --workdir=runs/vilt_small      # emoji_vqa
    mmjax train --config=configs/vilt.py:pairs --workdir=runs/vilt_pairs      # emoji_pairs, after :small

Hardware: 64 V100 for three days, as the paper; one mesh axis is -1, so it takes what there is. Data: COCO under ./coco, BERT's
tokenizer as the prepared set "bert". Batch 4,096 at 1e-4 for 200,000 steps, then 256 at 1e-4 for 10 epochs, the head at ten
times that, as the authors' config. Expected: 71.3 on VQA v2 test-dev (published, of four caption sets, on pictures of up to 384
x 640; not run here). Here pictures are 384 x 384 and captions are COCO's; a text is foreign in half of the rows, where the
authors put another picture.

"small": 2 CPU cores, minutes; the README's table has its results beside the other models'.
"entailment" and "pairs" (see base_fusion): go on from "small" (runs/vilt_small), 1,000 steps; 0.56 of validation's verdicts,
and 0.52, where a statement alone gives 0.50.
"""

import base_fusion as fusion
from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """arg: see base_fusion.ARGS."""
    fusion.check(arg, "pairs")
    length = 40
    c = fusion.vqa(length) if arg == "vqa" else fusion.coco(length)
    c.model = {
        "name": "vilt",
        "image": {"name": "vit", "size": 384, "patch": 32, "depth": 12, **fusion.BASE, "pool": "cls"},
        "text": {"name": "bert", "vocab": fusion.VOCAB, "length": length, "depth": 0, **fusion.BASE, "pool": "pooler"},
        "heads": {"words": True, "match": True},
    }
    c.optim.weight_decay = 0.01
    if arg == "vqa":
        c.model.heads = {"answers": fusion.ANSWERS}
        c.task = {"name": "answers", "loss": "sigmoid"}
        c.data.transforms.insert(1, {"name": "rand_augment"})
        c.batch_size, c.steps, c.optim.lr = 256, 17_300, 1e-4
        c.optim.lr_rules = [["answer_head/.*", 10.0], [".*", 1.0]]
        fusion.start(c, "runs/vilt", ("answer_head",), ("words_head", "match_head"))
    else:
        c.task = {"name": "pretraining", "weights": {"masked_tokens": 1.0, "matching": 1.0}}
        c.batch_size, c.steps, c.optim.lr = 4096, 200_000, 1e-4
    c.optim.schedule = {"name": "linear", "warmup": c.steps // 10}
    if arg in fusion.GRIDS:
        fusion.small(c, arg)
        c.model.image.update({"size": fusion.SIZE, "depth": 3, **fusion.SMALL})
        c.model.text.update({"vocab": fusion.WORDS, "length": fusion.CAPTION, **fusion.SMALL})
        c.model.heads = {"words": True, "answers": fusion.LISTED}
    if arg in fusion.VERDICTS:
        fusion.stated(c, arg, ("types",))
    if arg == "pairs":
        c.model.types = 3
    if arg == "debug":
        fusion.debug(c)
        c.model.image.update({**fusion.TOY_PICTURE, "depth": 2, **fusion.TOY})
        c.model.text.update({"vocab": fusion.TOY_WORDS, "length": fusion.TOY_LENGTH, **fusion.TOY})
        c.model.heads = {"answers": fusion.TOY_ANSWERS}
    return c
