"""Answers from a fixed list, of which several may be right in part (VQA, arXiv 1505.00468)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.core.errors import UserError, suggest
from mmjax.core.pin import pin
from mmjax.losses.contrastive import Terms

FORMS = ("sigmoid", "softmax")


def check(form: str) -> None:
    """Raises UserError for a form that there is not."""
    if form not in FORMS:
        raise UserError(f"task.loss {form!r} is not one of: {', '.join(FORMS)}.{suggest(form, FORMS)}")


def check_list(logits: Float[Array, "B A"], scores: Float[Array, "B L"]) -> None:
    """Raises UserError where the model's answers are not as many as the data's."""
    if logits.shape[1] != scores.shape[1]:
        raise UserError(
            f"the model gives {logits.shape[1]} answers and the data's list has {scores.shape[1]}: set model.heads.answers (of "
            f"two pictures: verdicts) to the length of the list that the transform 'answers' names"
        )


def answers(logits: Float[Array, "B A"], scores: Float[Array, "B A"], form: str = "sigmoid") -> Terms:
    """Cross-entropy of soft targets.

    "sigmoid": each answer is one yes-or-no question, summed over answers (Teney et al. 2017, arXiv 1708.02711, section 4;
    LXMERT's and ViLT's code have it too). "softmax": -sum over a of scores[a] / sum(scores) * log softmax(logits)[a], the KL
    divergence of VisualBERT's code to the scores as a distribution, less that distribution's own entropy.

    Args:
      logits: computed with in float32 at least.
      scores: how right each answer is, between 0 and 1; a row of zeros has no answer in the list and counts nothing.
      form: one of FORMS.

    Returns:
      {"answers": (sum, rows that have an answer)}; "accuracy/answers": the score of the best answer, over the same rows;
      "unanswered": (rows without an answer, all rows).

    Raises:
      UserError: an unknown form.
    """
    check(form)
    logits = pin(logits).astype(jnp.promote_types(logits.dtype, jnp.float32))
    scores = scores.astype(logits.dtype)
    known = scores.max(-1) > 0
    if form == "sigmoid":
        cost = -(scores * jax.nn.log_sigmoid(logits) + (1 - scores) * jax.nn.log_sigmoid(-logits)).sum(-1)
    else:
        share = scores / jnp.where(known, scores.sum(-1), 1)[:, None]
        cost = -(share * jax.nn.log_softmax(logits)).sum(-1)
    count = known.sum(dtype=logits.dtype)
    right = jnp.take_along_axis(scores, logits.argmax(-1)[:, None], axis=1).sum()
    rows = jnp.asarray(len(logits), logits.dtype)
    return {
        "answers": (jnp.where(known, cost, 0).sum(), count),
        "accuracy/answers": (right, count),
        "unanswered": (rows - count, rows),
    }
