"""ALBEF fine-tuned on VQA v2 (Li et al. 2021, arXiv 2107.07651, section 4), as a choice among 3,129 answers.

    mmjax train --config=configs/albef_vqa.py --workdir=runs/albef_vqa          # begins with runs/albef

Hardware: 8 A100, as the paper; one mesh axis is -1, so it takes what there is. Data: VQA v2 under ./coco, BERT's tokenizer as
the prepared set "bert". Batch 256 at 2e-5 for 8 epochs on pictures of 384 pixels, as the authors' config. Expected: 75.8 on VQA
v2 test-dev (published, of their decoder, which ranks the answers by likelihood; the head over answers here is ViLT's way, and
was not run). Any list of answers can be ranked by the matching head instead: the transform "candidates" for tokenise.

"small" goes on with `albef.py:small` (runs/albef_small) on emoji_vqa, on two CPU cores in minutes; "debug" with
`albef.py:debug` (runs/albef_debug) on drawings in seconds. --config.init=none begins with nothing.
"""

import albef
import base_fusion as fusion
from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """arg: "", "small" or "debug"."""
    if arg not in ("", "small", "debug"):
        raise ValueError(f"unknown argument {arg!r}; it takes: small, debug")
    c, pretrained = fusion.vqa(length=25), albef.get_config()
    c.model = pretrained.model
    c.model.heads = {"answers": fusion.ANSWERS}
    c.task = {"name": "answers", "loss": "sigmoid", "pixels": "openai"}
    c.data.transforms.insert(1, {"name": "rand_augment", "operations": 2, "magnitude": 7})
    # 8 epochs of 443,757 questions.
    c.batch_size, c.steps = 256, 13_900
    c.optim.lr, c.optim.weight_decay, c.optim.clip = 2e-5, 0.02, None
    c.optim.schedule = {"name": "cosine", "warmup": 0, "end": 0.05}
    fusion.start(c, "runs/albef", ("answer_head",), ("words_head", "match_head"))
    if arg == "small":
        fusion.small(c, arg)
        c.init["from"] = "runs/albef_small"
        c.model = albef.get_config(arg).model
        c.model.heads = {"answers": fusion.LISTED}
    if arg == "debug":
        fusion.debug(c)
        c.init["from"] = "runs/albef_debug"
        c.model = albef.get_config("debug").model
        c.model.text.length, c.model.heads = fusion.TOY_LENGTH, {"answers": fusion.TOY_ANSWERS}
    return c
