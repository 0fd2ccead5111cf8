"""What the recipes of models that read picture and text together share: BERT's size, VQA v2, a CPU-sized run, a toy.

Not a recipe by itself. Arguments of such a recipe: "" as published; "vqa" fine-tuning on VQA v2 as published; "small" on
emoji_vqa, CPU-sized; "seen", of models that read regions, the same with each square put into words by runs/emoji_squares (see
`emoji_squares.py`), as by a detector; "named", with what is in each square named, as by one that never errs; "captions", what
"small" may start from: masked words of what is in the grids; "entailment" and, of models that read two pictures, "pairs": the
same model on emoji_entailment and emoji_pairs, which goes on from "seen" (runs/RECIPE_seen) or, where it reads no regions, from
"small" (runs/RECIPE_small); "debug", a toy on drawings that need no download.
"""

from base import get_config as base
from ml_collections import ConfigDict

ARGS = ("", "vqa", "captions", "small", "entailment", "debug")
VOCAB, BASE = 30522, {"width": 768, "heads": 12, "mlp": 3072, "dropout": 0.1}
ANSWERS = 3129
# emoji_vqa: its picture, its words and its answers.
SIZE, WORDS, LISTED, QUESTION, CAPTION = 96, 787, 110, 16, 25
# emoji_entailment's and emoji_pairs' verdicts, and tokens of a statement about two grids, in emoji_vqa's vocabulary.
VERDICTS, STATEMENT = {"entailment": 3, "pairs": 2}, 48
SEEN = ("seen", *VERDICTS)  # of models that read regions
GRIDS = ("captions", "small", "seen", "named", *VERDICTS)
WHITE = {"mean": [1.0] * 3, "std": [0.25] * 3}  # an empty square is 0
SMALL = {"width": 64, "heads": 4, "mlp": 128, "dropout": 0.0}
# A grid's squares a side, and what reads one: `emoji_squares.py`'s model.
SIDE = 3
EYE = {
    "dim": SMALL["width"],
    "image": {"name": "vit", "size": SIZE // SIDE, "patch": 8, "depth": 2, **SMALL, "class_token": False, "pool": "mean"},
    "text": {"name": "bag_of_words", "vocab": WORDS, "width": SMALL["width"]},
    "image_projection": "none",
    # At a scale that grows the vectors of 80 things come to lie in 14 directions, and one word hides the other.
    "logit_scale": 10.0,
    "max_logit_scale": 10.0,
}
# A toy's blocks, picture, words and answers.
TOY = {"width": 32, "heads": 4, "mlp": 64}
TOY_PICTURE, TOY_WORDS, TOY_LENGTH, TOY_ANSWERS = {"size": 32, "patch": 16}, 259, 40, 6


def check(arg: str, *more: str) -> None:
    """Raises ValueError for an argument that is neither in ARGS nor one of `more`."""
    choices = (*ARGS, *more)
    if arg not in choices:
        raise ValueError(f"unknown argument {arg!r}; it takes: {', '.join(filter(None, choices))}")


def start(c: ConfigDict, path: str, fresh: tuple[str, ...] = (), dropped: tuple[str, ...] = ()) -> None:
    """Begins with the weights at `path`: `fresh` are parts that it lacks, `dropped` those of its own that are not wanted."""
    new, old = ([f"{name}(/.*)?" for name in names] for names in (fresh, dropped))
    c.init = {"from": path, "map": [*([name, None] for name in new), ["(.*)", r"\1"], *([None, name] for name in old)]}


def regions(c: ConfigDict, path: str, count: int = 36, width: int = 2048) -> None:
    """COCO's region features in place of pictures (Anderson et al. 2018, arXiv 1707.07998).

    path: of the tsv; {split} is the questions' own, "train2014" or "val2014".
    """
    del c.batch["image"]
    c.batch.update({"regions": [[count, width], "float32"], "boxes": [[count, 4], "float32"]})
    specs = [entry["source"] for entry in c.data.sources] + [spec["source"] for spec in c.eval.sets]
    specs += [spec["training"] for spec in c.eval.sets if "training" in spec]
    for spec in specs:
        split = next((name for name in ("train2014", "val2014") if name in spec["path"]), None)
        spec["regions"] = {"path": path.format(split=split), "count": count, "width": width}
        spec["pictures"] = False
    for transforms in (c.data.transforms, c.eval.transforms):
        transforms[:] = [t for t in transforms if t["name"] not in ("decode", "resize", "random_resized_crop", "rand_augment")]
    for spec in c.eval.sets:
        if spec["name"] == "answers":
            spec["fields"] = ["regions", "boxes", "question"]


def coco(length: int, size: int = 384) -> ConfigDict:
    """Pretraining on COCO's captions: the data, batch and evaluation; whoever calls it says how."""
    c = base()
    c.compute_dtype, c.remat = "bfloat16", "dots"
    tokenise = {"name": "tokenise", "tokenizer": "bert", "length": length, "bos": "[CLS]", "eos": "[SEP]"}
    c.data.sources = [{"source": {"name": "karpathy", "path": "coco/dataset_coco.json", "split": "train+restval"}}]
    c.data.transforms = [
        {"name": "decode"},
        {"name": "resize", "size": size},
        tokenise,
        {"name": "mask_tokens", "tokenizer": "bert"},
    ]
    c.data.workers = 16
    c.batch = {
        "image": [[size, size, 3], "uint8"],
        **{name: [[length], "int32"] for name in ("text", "mlm_labels")},
        **{name: [[], "int32"] for name in ("group", "text_cut")},
    }
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": size}, tokenise]
    c.log_every, c.save_every = 100, 2000
    return c


def vqa(length: int, size: int = 384) -> ConfigDict:
    """VQA v2: 3,129 answers, trained on train, evaluated on val."""
    c = base()
    c.compute_dtype, c.remat = "bfloat16", "dots"
    tokenise = {"name": "tokenise", "tokenizer": "bert", "length": length, "bos": "[CLS]", "eos": "[SEP]", "field": "question"}
    answers = {"name": "answers", "answers": "coco/answers.txt"}

    def source(split: str) -> dict:
        return {
            "name": "vqa",
            "path": f"coco/v2_OpenEnded_mscoco_{split}_questions.json",
            "annotations": f"coco/v2_mscoco_{split}_annotations.json",
        }

    c.data.sources = [{"source": source("train2014")}]
    c.data.transforms = [{"name": "decode"}, {"name": "resize", "size": size}, tokenise, answers]
    c.data.workers = 16
    c.batch = _asked(size, length, ANSWERS)
    c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": size}, tokenise, answers]
    c.eval.sets = [{"name": "answers", "set": "val", "source": source("val2014"), "training": source("train2014")}]
    c.log_every, c.save_every = 100, 2000
    return c


def small(c: ConfigDict, arg: str) -> ConfigDict:
    """`c`'s model on emoji_vqa; of "captions" the task is masked words of its facts.

    A drawing lies anywhere in its square, and a square is a patch: moving the picture would only part it.
    """
    decode = [{"name": "decode"}, {"name": "resize", "size": SIZE}]
    tokenise = {"name": "tokenise", "tokenizer": "emoji_vqa", "length": QUESTION, "field": "question", "bos": "[MASK]"}
    answers = {"name": "answers", "answers": "emoji_vqa"}
    asked = {"name": "tfds", "dataset": "emoji_vqa", "split": "train"}
    c.data.sources, c.data.workers = [{"source": {**asked, "cache": True}}], 0
    c.compute_dtype, c.remat, c.freeze = "float32", "none", []
    c.batch_size, c.steps, c.log_every, c.save_every = 128, 2000, 50, 1000
    # At 5e-3 and more the models stay for long where they look at squares that are named and find none by what is in it.
    c.optim.update({"name": "muon", "args": {}, "lr": 2e-3, "weight_decay": 0.05, "clip": 1.0})
    c.optim.schedule = {"name": "cosine", "warmup": 200}
    c.eval.transforms = [*decode, tokenise, answers]
    c.eval.every, c.eval.batch_size = 0, 200
    if arg == "captions":
        c.steps, c.optim.schedule.warmup = 1500, 150
        c.task = {"name": "pretraining", "weights": {"masked_tokens": 1.0}, "pixels": WHITE}
        told = {"name": "tokenise", "tokenizer": "emoji_vqa", "length": CAPTION, "field": "caption", "into": "text"}
        c.data.transforms = [*decode, told, {"name": "mask_tokens", "tokenizer": "emoji_vqa", "rate": 0.5}]
        c.batch = {
            "image": [[SIZE, SIZE, 3], "uint8"],
            **{name: [[CAPTION], "int32"] for name in ("text", "mlm_labels")},
            "text_cut": [[], "int32"],
        }
        c.eval.transforms, c.eval.sets = [*decode, told], []
    else:
        c.task = {"name": "answers", "loss": "softmax", "pixels": WHITE}
        c.data.transforms = [*decode, tokenise, answers]
        c.batch = _asked(SIZE, QUESTION, LISTED)
        c.eval.sets = [
            {"name": "answers", "set": split, "source": {**asked, "split": split}, "training": asked}
            for split in ("validation", "unseen_concepts", "unseen_style")
        ]
    if arg in ("seen", "named"):
        c.steps = 3500 if arg == "seen" else 2500
        c.optim.schedule.warmup = c.steps // 10
    if arg == "named":
        _named(c)
    return c


def seen(c: ConfigDict, spec: str = "image", part: str = "image_encoder") -> None:
    """The picture of `c`'s model in nine tiles, which the frozen eye of `emoji_squares.py` puts into words."""
    c.model[spec] = {"name": "tiles", "eye": EYE, "side": SIDE, "regions": {"depth": 0, **SMALL}}
    c.init = {"from": "runs/emoji_squares", "map": [[rf"{part}/eye/(.*)", r"\1"], [".*", None]]}
    c.freeze = [[f"{part}/eye/.*", True]]


def _named(c: ConfigDict) -> None:
    """The words of what is in each square, and where it is, in place of the picture."""
    named = {"name": "named_squares", "tokenizer": "emoji_vqa"}
    for part in (c.data, c.eval):
        part.transforms = [named, *part.transforms[2:]]
    del c.batch["image"], c.task["pixels"]
    c.batch.update({"regions": [[9, WORDS], "float32"], "boxes": [[9, 4], "float32"]})
    for spec in c.eval.sets:
        spec["fields"] = ["regions", "boxes", "question"]


def stated(c: ConfigDict, arg: str, shapes: tuple[str, ...] = ()) -> ConfigDict:
    """`c`, which `small` made, on statements: of "entailment" about a grid, of "pairs" about two.

    `shapes` are parts that have another shape where there are two pictures.
    """
    dataset, count, pairs = f"emoji_{arg}", VERDICTS[arg], arg == "pairs"
    length = STATEMENT if pairs else CAPTION

    def other(spec: dict) -> dict:
        return {**spec, "dataset": dataset}

    c.data.sources = [{"source": other(c.data.sources[0]["source"])}]
    c.eval.sets = [{**spec, "source": other(spec["source"]), "training": other(spec["training"])} for spec in c.eval.sets]
    for part in (c.data, c.eval):
        *seen, tokenise, answers = part.transforms
        second = [{"name": "second_image", "transforms": seen}] if pairs else []
        part.transforms = [*seen, *second, {**tokenise, "length": length}, {**answers, "answers": dataset}]
    c.batch = _asked(SIZE, length, count)
    c.model.heads = {"verdicts" if pairs else "answers": count}
    if pairs:
        c.batch.image_b, c.model.text.length = c.batch.image, length
        for spec in c.eval.sets:
            spec["fields"] = ["image", "image_b", "question"]
    anew = ("text_encoder/positions", *shapes) if pairs else ()
    head = "verdict_head" if pairs else "answer_head"
    c.steps, c.optim.schedule.warmup = 1000, 100
    before = "seen" if c.freeze else "small"
    start(c, f"runs/{c.model.name}_{before}", (head, *anew), ("words_head", "answer_head", *anew))
    return c


def debug(c: ConfigDict) -> ConfigDict:
    """`c`'s toy model, answering questions about drawings for seconds."""
    size, length, answers = 32, 40, ["red", "green", "blue", "yellow", "black", "white"]
    tokenise = {"name": "tokenise", "tokenizer": "bytes", "length": length, "field": "question"}
    scores = {"name": "answers", "answers": answers}
    source = {"name": "synthetic", "n": 256, "size": size}
    c.steps, c.batch_size, c.log_every, c.save_every, c.optim.schedule.warmup = 6, 16, 2, 3, 2
    c.compute_dtype, c.remat, c.data.workers = "float32", "none", 0
    c.task = {"name": "answers", "loss": "softmax"}
    c.data.sources = [{"source": source}]
    c.data.transforms = c.eval.transforms = [{"name": "decode"}, {"name": "resize", "size": size}, tokenise, scores]
    c.batch = _asked(size, length, len(answers))
    c.eval.every, c.eval.batch_size = 0, 16
    c.eval.sets = [{"name": "answers", "set": "drawings", "source": {**source, "n": 32, "seed": 1}, "training": source}]
    return c


def _asked(size: int, length: int, answers: int) -> dict:
    return {
        "image": [[size, size, 3], "uint8"],
        "question": [[length], "int32"],
        "question_cut": [[], "int32"],
        "answer_scores": [[answers], "float32"],
    }
