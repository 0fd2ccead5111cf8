"""LXMERT (Tan and Bansal 2019, arXiv 1908.07490): a language, an object-relationship and a cross-modality encoder.

    mmjax train --config=configs/lxmert.py --workdir=runs/lxmert
    mmjax train --config=configs/lxmert.py:vqa --workdir=runs/lxmert_vqa          # begins with runs/lxmert
    mmjax train --config=configs/lxmert.py:small --workdir=runs/lxmert_small      # emoji_vqa, on patches

Hardware: 4 Titan Xp for 10 days, as the paper; one mesh axis is -1, so it takes what there is. Data: VQA v2 under ./coco with
LXMERT's region features (train2014_obj36.tsv, val2014_obj36.tsv: with objects and attributes), BERT's tokenizer as "bert". All
five objectives, each with its weight in task.weights: masked words, matching, region features, region labels and attributes,
image QA. Sizes, batch and rates are the authors': 256 at 1e-4 for 670,000 steps, then 32 at 5e-5 for 4 epochs. Expected: 72.4
on VQA v2 test-dev (published; not run here). The paper's texts are captions and questions of five sets; here they are VQA v2's
questions.

"small": 2 CPU cores, minutes, on a picture's patches; the README's table has its results beside the other models'.
"seen": the same on squares that `emoji_squares.py` (trained before, in runs/emoji_squares) puts into words, 0.80 of the
questions of validation; "named": on squares whose words are told, 0.68, in fewer steps.
"entailment" (see base_fusion): goes on from "seen" (runs/lxmert_seen), 1,000 steps; 0.87 of validation's verdicts.
"""

import base_fusion as fusion
from ml_collections import ConfigDict

OBJECTS = {"feature": 2048, "label": 1600, "attribute": 400}


def get_config(arg: str = "") -> ConfigDict:
    """arg: see base_fusion.ARGS."""
    fusion.check(arg, "seen", "named")
    length, count = 20, 36
    c = fusion.vqa(length)
    fusion.regions(c, "coco/{split}_obj36.tsv", count)
    c.model = {
        "name": "lxmert",
        "text": {"name": "bert", "vocab": fusion.VOCAB, "length": 512, "depth": 9, **fusion.BASE, "pooler": False},
        "image": {"name": "regions", "features": 2048, "depth": 5, **fusion.BASE},
        "cross": {"name": "co_attention", "depth": 5, **fusion.BASE},
        "heads": {"words": True, "match": True, "answers": fusion.ANSWERS, "objects": OBJECTS},
    }
    c.optim.weight_decay = 0.01
    if arg == "vqa":
        c.model.heads = {"answers": fusion.ANSWERS}
        c.task = {"name": "answers", "loss": "sigmoid"}
        c.batch_size, c.steps, c.optim.lr, c.optim.clip = 32, 55_000, 5e-5, 5.0
        fusion.start(c, "runs/lxmert", (), ("words_head", "match_head", "objects_head"))
    else:
        pretraining(c, length, count)
    c.optim.schedule = {"name": "linear", "warmup": c.steps // (10 if arg == "vqa" else 20)}
    if arg in fusion.GRIDS:
        fusion.small(c, arg)
        c.model.text.update({"vocab": fusion.WORDS, "length": fusion.CAPTION, "depth": 1, **fusion.SMALL})
        c.model.image = {
            "name": "vit",
            "size": fusion.SIZE,
            "patch": 32,
            "depth": 0,
            **fusion.SMALL,
            "class_token": False,
            "pool": "mean",
        }
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
        c.model.text.update({"vocab": fusion.TOY_WORDS, "length": fusion.TOY_LENGTH, "depth": 1, **fusion.TOY})
        c.model.image = {"name": "vit", **fusion.TOY_PICTURE, "depth": 1, **fusion.TOY, "class_token": False, "pool": "mean"}
        c.model.cross.update({"depth": 1, **fusion.TOY})
        c.model.heads = {"answers": fusion.TOY_ANSWERS}
    return c


def pretraining(c: ConfigDict, length: int, count: int) -> None:
    """The five objectives, over questions whose words and regions are masked."""
    terms = ("masked_tokens", "matching", "region_feature", "region_label", "region_attribute", "answers")
    c.task = {"name": "pretraining", "weights": dict.fromkeys(terms, 1.0), "loss": "softmax"}
    c.batch_size, c.steps, c.optim.lr = 256, 670_000, 1e-4
    tokenise = {**c.data.transforms[0], "into": "text"}
    answers = c.data.transforms[-1]
    masked = [{"name": "mask_tokens", "tokenizer": "bert"}, {"name": "mask_regions"}]
    c.data.transforms = [tokenise, *masked, answers]
    c.batch = {
        "regions": [[count, 2048], "float32"],
        "region_targets": [[count, 2048], "float32"],
        "boxes": [[count, 4], "float32"],
        **{name: [[count], "float32"] for name in ("region_masked", "region_object_scores", "region_attribute_scores")},
        **{name: [[count], "int32"] for name in ("region_objects", "region_attributes")},
        **{name: [[length], "int32"] for name in ("text", "mlm_labels")},
        **{name: [[], "int32"] for name in ("group", "text_cut")},
        "answer_scores": [[fusion.ANSWERS], "float32"],
    }
