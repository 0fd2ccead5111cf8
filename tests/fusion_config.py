"""VisualBERT's debug recipe with a matching head: beside its answers ("both"), or ranking them ("rank")."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "configs"))

from visualbert import get_config as visualbert

LENGTH = 48  # of a question with its answer


def get_config(arg: str = ""):
    """arg: "both" or "rank"."""
    c = visualbert("debug")
    *seen, tokenise, answers = c.data.transforms
    if arg == "rank":
        ranked = {"name": "candidates", "answers": answers["answers"], "tokenizer": "bytes", "length": LENGTH}
        c.data.transforms = c.eval.transforms = [*seen, ranked, answers]
        c.batch = {name: c.batch[name] for name in ("image", "answer_scores")}
        c.batch["candidates"] = [[len(answers["answers"]), LENGTH], "int32"]
        c.model.text.length, c.model.heads = LENGTH, {"match": True}
        c.eval.sets[0]["fields"] = ["image", "candidates"]
    else:
        c.task = {"name": "pretraining", "weights": {"matching": 1.0, "answers": 1.0}, "loss": "softmax"}
        c.data.transforms = [*seen, {**tokenise, "into": "text"}, answers]
        c.batch = {"text": c.batch.question, "text_cut": c.batch.question_cut} | {
            name: c.batch[name] for name in ("image", "answer_scores")
        }
        c.batch["group"] = [[], "int32"]
        c.model.heads = {**c.model.heads, "match": True}
    return c
