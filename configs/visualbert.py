"""VisualBERT (Li et al. 2019, arXiv 1908.03557): BERT over a text and then a detector's regions.

    mmjax train --config=configs/visualbert.py --workdir=runs/visualbert                     # COCO captions
    mmjax train --config=configs/visualbert.py:vqa --workdir=runs/visualbert_vqa             # begins with runs/visualbert
    mmjax train --config=configs/visualbert.py:small --workdir=runs/visualbert_small         # emoji_vqa, on patches
    mmjax train --config=configs/visualbert.py:pairs --workdir=runs/visualbert_pairs         # emoji_pairs, after :seen

Hardware: 4 V100 of 16 GiB, as the paper; one mesh axis is -1, so it takes what there is. Data: COCO under ./coco with the
region features of bottom-up attention (one tsv of 36 a picture), BERT's tokenizer as the prepared set "bert". Batch, rate and
epochs are those of the authors' configs: 48 at 5e-5 for 10 epochs, then 64 at 2e-5 for 10. Expected: 70.8 on VQA v2 test-dev
(published; not run here). Where the authors' pretraining shows two captions of a picture, there is one here, which is foreign
in half of the rows.

"small": 2 CPU cores, minutes, on pictures in patches; the README's table has its results beside the other models'.
"seen": the same on squares that `emoji_squares.py` (trained before, in runs/emoji_squares) puts into words, 0.67 of the
questions of validation; "named": on squares whose words are told, not run to a result.
"entailment" and "pairs" (see base_fusion): go on from "seen" (runs/visualbert_seen), 1,000 steps; 0.88 and 0.59 of validation's
verdicts.
"""

import base_fusion as fusion
from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """arg: see base_fusion.ARGS."""
    fusion.check(arg, "seen", "named", "pairs")
    length = 128
    c = fusion.vqa(length) if arg == "vqa" else fusion.coco(length)
    fusion.regions(c, "coco/trainval_resnet101_faster_rcnn_genome_36.tsv")
    bert = {"name": "bert", "vocab": fusion.VOCAB, "length": 512, "depth": 12, **fusion.BASE, "pool": "pooler"}
    c.model = {
        "name": "visualbert",
        "text": bert,
        "visual": {"name": "regions", "features": 2048},
        "heads": {"words": True, "match": True},
    }
    c.optim.weight_decay = 0.01
    if arg == "vqa":
        c.model.heads = {"answers": fusion.ANSWERS}
        c.model.text.pool = "before_end"
        c.task = {"name": "answers", "loss": "softmax"}
        c.batch_size, c.steps, c.optim.lr, c.optim.clip = 64, 69_000, 2e-5, 0.25
        fusion.start(c, "runs/visualbert", ("answer_head",), ("words_head", "match_head"))
    else:
        c.task = {"name": "pretraining", "weights": {"masked_tokens": 1.0, "matching": 1.0}}
        c.batch_size, c.steps, c.optim.lr, c.optim.clip = 48, 118_000, 5e-5, 1.0
    c.optim.schedule = {"name": "linear", "warmup": c.steps // 10}
    if arg in fusion.GRIDS:
        fusion.small(c, arg)
        c.model.text.update({"vocab": fusion.WORDS, "length": fusion.CAPTION, "depth": 3, **fusion.SMALL})
        c.model.visual = {"name": "patches", "size": fusion.SIZE, "patch": 32}
        c.model.heads = {"words": True, "answers": fusion.LISTED}
    if arg in fusion.SEEN:
        fusion.seen(c, "visual", "visual_embedding")
    if arg == "named":
        c.model.visual = {"name": "regions", "features": fusion.WORDS}
    if arg in fusion.VERDICTS:
        fusion.stated(c, arg)
    if arg == "debug":
        fusion.debug(c)
        c.model.text.update({"vocab": fusion.TOY_WORDS, "length": fusion.TOY_LENGTH, "depth": 2, **fusion.TOY})
        c.model.visual = {"name": "patches", **fusion.TOY_PICTURE}
        c.model.heads = {"answers": fusion.TOY_ANSWERS}
    return c
