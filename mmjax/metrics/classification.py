"""Classification: how often the right class is the best, or among the five best."""

import numpy as np
from jaxtyping import Float, Int

from mmjax.core.errors import UserError


def accuracy(class_scores: Float[np.ndarray, "B C"], labels: Int[np.ndarray, " B"]) -> dict[str, float]:
    """Accuracy over the rows that have a label.

    A class that ties with the right one stands before it, and a score that is not a number is a miss, so that a
    constant or broken model scores nought.

    Args:
      class_scores: any monotone score (logits, probabilities).
      labels: the right class of each row; rows with -1 are left out.

    Returns:
      top1, top5: the share of rows whose class is the best, or among the five best. mean_class: top1 of each class
      that occurs, averaged over classes.

    Raises:
      UserError: a label is outside of the classes, or no row has a label.
    """
    classes = class_scores.shape[1]
    wrong = labels[(labels < -1) | (labels >= classes)]
    if len(wrong):
        raise UserError(f"accuracy: label {wrong[0]} is not one of {classes} classes (0 to {classes - 1}, or -1 for none)")
    kept = labels >= 0
    if not kept.any():
        raise UserError(f"accuracy: none of {len(labels)} rows has a label (all are -1): choose a labelled set")
    class_scores, labels = class_scores[kept], labels[kept]
    right = np.take_along_axis(class_scores, labels[:, None], 1)
    rank = (~(class_scores < right)).sum(1) - 1  # the right class itself is not below itself
    first = rank == 0
    return {
        "top1": float(first.mean()),
        "top5": float((rank < 5).mean()),
        "mean_class": float(np.mean([first[labels == c].mean() for c in np.unique(labels)])),
    }
