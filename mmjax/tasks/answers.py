"""Questions about pictures: an answer of a list, by a head over the list or by ranking texts."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mmjax.core import keys
from mmjax.core.errors import UserError
from mmjax.losses import answers
from mmjax.tasks.normalise import Pixels, constants, visual
from mmjax.tasks.task import Binder, Rows, Task, Terms, truncated


class Answers(Task):
    """Soft-target classification over A answers; a row without an answer in the list counts nothing and is counted.

    Rows: image uint8 (B, height, width, 3), or regions (B, S, F) and boxes (B, S, 4); answer_scores (B, A); and either
    question int32 (B, T), which the model's answer head reads, or candidates int32 (B, A, T), each a text of question and
    answer, whose score is how far the matching head says yes rather than no: any list will do then, also one that training did
    not know. (ALBEF and BLIP rank by the likelihood of a decoder; models without one have the matching head, which reads the
    same joint vector.) question_cut (B,) counts questions that were too long. With a second picture, image_b, or regions_b and
    boxes_b, the question is a statement about both and the answers are the model's verdicts (NLVR2); a statement about one
    picture is a question whose answers are its verdicts (SNLI-VE).

    Args:
      loss: form of losses.answers.
      pixels: constants of `normalise`, for pictures.
      blind: shows nothing of what is seen: what is learned then is the question-only baseline of this very model.
    """

    weights = {"answers": 1.0}

    def __init__(self, loss: str = "sigmoid", pixels: Pixels = "imagenet", blind: bool = False):
        answers.check(loss)
        constants(pixels)
        self._loss, self._pixels, self._blind = loss, pixels, blind

    def answers(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B A"]:
        """A logit for each answer."""
        model, second = bind(params), next((name for name in ("image_b", "regions_b") if name in rows), None)
        seen = [visual(rows, self._pixels, suffix) for suffix in (("", "_b") if second else ("",))]
        if self._blind:
            seen = jax.tree.map(jnp.zeros_like, seen)
        if second:
            if not hasattr(model, "fuse_two"):
                raise UserError(f"{type(model).__name__} reads one picture, and the batch has {second}: use visualbert or vilt")
            states = model.fuse_two(*seen, rows["question"], key=key, segments=rows.get("question_segments"))[0]
            return model.verdict(states["joint"])
        if "candidates" not in rows:
            states = model.fuse(*seen, rows["question"], key=key, segments=rows.get("question_segments"))[0]
            return model.answer(states["joint"])

        once = hasattr(model, "fuse_tokens") and key is None  # then the picture is encoded once for all answers
        image = model.image_tokens(seen[0]["image"])[0] if once else None

        def score(one):
            if once:
                fused, _ = model.fuse_tokens(image, model.text_tokens(one["text"])[0], model.valid(one["text"]))
            else:
                fused, _ = model.fuse(*seen, one["text"], key=one.get("key"))
            logits = model.match(fused["joint"])
            return logits[:, 1] - logits[:, 0]

        texts = rows["candidates"].swapaxes(0, 1)
        # One answer at a time: memory of B rows, whatever the length of the list.
        return jax.lax.map(score, {"text": texts} | ({} if key is None else {"key": keys.split(key, len(texts))})).T

    def encode(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> dict[str, jax.Array]:
        cut = {name: rows[name] for name in ("question_cut",) if name in rows}
        logits, scores = self.answers(bind, params, rows, key), rows["answer_scores"]
        answers.check_list(logits, scores)
        return {"logits": logits, "scores": scores, **cut}

    def read(self, bind: Binder, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        return answers.answers(z["logits"], z["scores"], self._loss) | truncated(z, "question")
