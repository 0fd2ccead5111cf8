"""Zero-shot classes by their names (Radford et al. 2021, section 3.1.4), or the classes of a checkpoint's own head."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmjax.core.errors import UserError
from mmjax.predict.encoder import Encoder

TEMPLATES = ("a photo of a {}.",)


def zero_shot(
    encoder: Encoder, pictures: Sequence[bytes], labels: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Float[np.ndarray, "n classes"]:
    """Probabilities of the labels: a softmax of scaled cosines; a sigmoid each for a model that has a bias, as SigLIP.

    Args:
      templates: sentences with {} for the label; a label's vectors are averaged over them and normalised again.

    Raises:
      UserError: a template without {}, or what the encoder raises.
    """
    if bad := [template for template in templates if "{}" not in template]:
        raise UserError(f"--template={bad[0]!r} has no {{}} for the label")
    texts = encoder.texts([template.format(label) for label in labels for template in templates])
    classes = texts.reshape(len(labels), len(templates), -1).mean(1)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    scale, bias = encoder.scale()
    logits = scale * encoder.images(pictures) @ classes.T + bias
    if encoder.meta["config"]["model"].get("logit_bias") is not None:
        return 1 / (1 + np.exp(-logits))
    return _softmax(logits)


def by_head(encoder: Encoder, pictures: Sequence[bytes]) -> Float[np.ndarray, "n classes"]:
    """Probabilities of a classifier's own classes.

    Raises:
      UserError: it has none.
    """
    if encoder.meta["config"]["model"].get("classes") is None:
        raise UserError("this checkpoint has no classes of its own: give --labels")
    return _softmax(encoder.images(pictures, "logits"))


def _softmax(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
