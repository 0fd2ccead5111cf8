"""Losses of masked regions: what they looked like, what they were called, what a detector thought of them."""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Float, Int, Shaped

Terms = dict[str, tuple[Float[Array, ""], Float[Array, ""]]]


def feature(
    prediction: Float[Array, "B S F"], target: Float[Array, "B S F"], weight: Float[Array, "B S"], *, smooth: bool = True
) -> Terms:
    """Regression of features, the mean over F of a region's costs.

    Args:
      weight: 0 where a region is not masked, else what its cost is multiplied by (1, or the detector's confidence).
      smooth: Huber's loss with threshold 1 (LXMERT's code); else (prediction - target)^2 (UNITER, Chen et al. 2020, MRFR;
        LXMERT's paper, section 3.1.2).

    Returns:
      {"region_feature": (sum, number of masked regions)}.
    """
    gap = prediction - _known(target, weight)
    size = jnp.abs(gap)
    cost = jnp.where(size < 1, 0.5 * jnp.square(gap), size - 0.5) if smooth else jnp.square(gap)
    return {"region_feature": _weighted(cost.mean(-1), weight)}


def label(
    logits: Float[Array, "B S labels"], target: Int[Array, "B S"], weight: Float[Array, "B S"], *, term: str = "region_label"
) -> Terms:
    """Cross-entropy of one label a region (LXMERT's detected labels and attributes).

    Args:
      target: labels; where the weight is 0, anything.
      weight: as of `feature`.
      term: the name of the result.

    Returns:
      {term: (sum, number of masked regions)}.
    """
    right = _known(target[..., None], weight)
    cost = -jnp.take_along_axis(jax.nn.log_softmax(logits), right, axis=-1)[..., 0]
    return {term: _weighted(cost, weight)}


def distribution(logits: Float[Array, "B S labels"], target: Float[Array, "B S labels"], weight: Float[Array, "B S"]) -> Terms:
    """KL(target || softmax(logits)) of a detector's distribution over labels (ViLBERT, Lu et al. 2019; UNITER, MRC-kl).

    Args:
      target: probabilities, which sum to 1 where the weight is not 0.
      weight: as of `feature`.

    Returns:
      {"region_distribution": (sum, number of masked regions)}.
    """
    target = _known(target, weight)
    cost = (xlogy(target, target) - target * jax.nn.log_softmax(logits)).sum(-1)
    return {"region_distribution": _weighted(cost, weight)}


def _known(target: Shaped[Array, "B S _"], weight: Float[Array, "B S"]) -> Shaped[Array, "B S _"]:
    # What stands where nothing is masked may be no number, and 0 times it would be none either.
    return jnp.where(weight[..., None] > 0, target, 0)


def _weighted(cost: Float[Array, "B S"], weight: Float[Array, "B S"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    return (cost * weight).sum(), (weight > 0).sum(dtype=cost.dtype)
