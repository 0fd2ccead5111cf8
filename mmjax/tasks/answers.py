"""Questions about pictures: an answer of a list, by a head over the list or by ranking texts."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mmjax.core import keys
from mmjax.losses import answers
from mmjax.tasks.normalise import Pixels, constants, visual
from mmjax.tasks.task import Binder, Rows, Task, Terms


class Answers(Task):
    """Soft-target classification over A answers; a row without an answer in the list counts nothing and is counted.

    Rows: image uint8 (B, height, width, 3), or regions (B, S, F) and boxes (B, S, 4); answer_scores (B, A); and either
    question int32 (B, T), which the model's answer head reads, or candidates int32 (B, A, T), each a text of question and
    answer, whose score is how far its matching head says yes rather than no: a model without an answer head then ranks
    answers that it was never trained on, and any list will do. (ALBEF and BLIP rank by the likelihood of a decoder; models
    without one have the matching head, which reads the same joint vector.)

    Args:
      loss: form of losses.answers.
      pixels: constants of `normalise`, for pictures.
    """

    weights = {"answers": 1.0}

    def __init__(self, loss: str = "sigmoid", pixels: Pixels = "imagenet"):
        answers.check(loss)
        constants(pixels)
        self._loss, self._pixels = loss, pixels

    def answers(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B A"]:
        """A logit for each answer."""
        model, shown = bind(params), visual(rows, self._pixels)
        if "candidates" not in rows:
            states = model.fuse(shown, rows["question"], key=key, segments=rows.get("question_segments"))[0]
            return model.answer(states["joint"])

        def score(one):
            logits = model.match(model.fuse(shown, one["text"], key=one.get("key"))[0]["joint"])
            return logits[:, 1] - logits[:, 0]

        texts = rows["candidates"].swapaxes(0, 1)
        # One answer at a time: memory of B rows, whatever the length of the list.
        return jax.lax.map(score, {"text": texts} | ({} if key is None else {"key": keys.split(key, len(texts))})).T

    def encode(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> dict[str, jax.Array]:
        return {"logits": self.answers(bind, params, rows, key), "scores": rows["answer_scores"]}

    def read(self, bind: Binder, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        return answers.answers(z["logits"], z["scores"].astype(jnp.float32), self._loss)
