"""ALBEF fine-tuned for retrieval on COCO (Li et al. 2021, arXiv 2107.07651): a shortlist by contrast, ranked by matching.

    mmjax train --config=configs/albef_retrieval.py --workdir=runs/albef_retrieval          # begins with runs/albef

Hardware: 8 A100, as the paper; one mesh axis is -1, so it takes what there is. Data: COCO under ./coco, BERT's tokenizer as
the prepared set "bert". Contrast with queue and teacher, and matching; batch 256 at 1e-5 for 5 epochs on pictures of 384
pixels, k of 256, as the authors' config. Expected: COCO R@1 of 77.6 text and 60.7 image retrieval by the head "itm" (published,
of 14 million pictures in pretraining; not run here). results.json has heads itc, itm and sum, and k as "shortlist".

"small" goes on with `albef.py:small` (runs/albef_small) on grids of emoji, on two CPU cores in minutes; "debug" with
`albef.py:debug` (runs/albef_debug) on drawings in seconds. --config.init=none begins with nothing.
"""

import albef
import base_fusion as fusion
from ml_collections import ConfigDict

SHORTLIST = {"": 256, "small": 16, "debug": 8}


def get_config(arg: str = "") -> ConfigDict:
    """arg: "", "small" or "debug"."""
    if arg not in ("", "small", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: small, debug")
    c = albef.get_config(arg)
    if arg == "":
        data = fusion.coco(albef.LENGTH)
        c.data, c.eval, c.batch = data.data, data.eval, data.batch
        c.data.transforms.insert(1, {"name": "rand_augment", "operations": 2, "magnitude": 7})
        # 5 epochs of 566,747 captions.
        c.batch_size, c.steps, c.optim.lr = 256, 11_000, 1e-5
        c.optim.schedule = {"name": "cosine", "warmup": 0, "end": 0.1}
        c.task.ramp, c.eval.every = 2200, 0
        source = {"name": "karpathy", "path": "coco/dataset_coco.json", "split": "test", "captions": "all"}
        c.eval.sets = [{"set": "test", "source": source}]
    elif arg == "small":
        c.steps, c.optim.lr, c.optim.schedule.warmup = 150, 1e-3, 15
    c.init = None
    fusion.start(c, f"runs/albef{arg and '_' + arg}", (), ("words_head",))
    # Without masked words no text is masked.
    c.data.transforms = [t for t in c.data.transforms if t["name"] != "mask_tokens"]
    del c.batch["mlm_labels"]
    c.model.heads = {"match": True}
    c.task.weights = {"contrastive": 1.0, "matching": 1.0}
    c.task.distil = {"contrastive": 0.4}
    for spec in c.eval.sets:
        spec.update({"name": "reranked", "shortlist": SHORTLIST[arg]})
    return c
