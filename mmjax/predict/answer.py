"""Questions about pictures answered, and whether texts belong to pictures."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmjax.core.errors import UserError
from mmjax.predict.encoder import Encoder


def answer(
    encoder: Encoder, pictures: Sequence[bytes], questions: Sequence[str]
) -> tuple[list[str], Float[np.ndarray, "n questions answers"]]:
    """(the answers that the checkpoint knows, how probable each is for each question about each picture).

    Probabilities are the training loss's: of softmax they sum to 1 over answers, of sigmoid each answer stands alone.

    Raises:
      UserError: the checkpoint answers no questions, or carries no list of answers.
    """
    listed = encoder.meta.get("answers")
    if listed is None:
        raise UserError(f"{encoder.folder} carries no list of answers: is it a model that was trained on questions?")
    logits = encoder.pairs("answers", pictures, questions)
    if logits.shape[1] != len(listed):
        raise UserError(f"{encoder.folder} gives {logits.shape[1]} answers and its list has {len(listed)}")
    if encoder.meta["config"]["task"].get("loss", "sigmoid") == "sigmoid":
        found = 1 / (1 + np.exp(-logits))
    else:
        powers = np.exp(logits - logits.max(1, keepdims=True))
        found = powers / powers.sum(1, keepdims=True)
    return listed, found.reshape(len(pictures), len(questions), -1)


def match(encoder: Encoder, pictures: Sequence[bytes], texts: Sequence[str]) -> Float[np.ndarray, "n texts"]:
    """How probable it is that each text belongs to each picture, by the matching head.

    Raises:
      UserError: the checkpoint has no matching head.
    """
    logits = encoder.pairs("match", pictures, texts)
    return (1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).reshape(len(pictures), len(texts))
