"""What training leaves out at random: activations, image patches, text tokens.

Everywhere a key means training and None means inference; without a key or at rate 0 no random number is drawn.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def keys(key: jax.Array | None, n: int, *rates: float) -> Shaped[Array, " n"] | list[None]:
    """`n` keys, or `n` times None at inference and where all `rates` are 0."""
    return [None] * n if key is None or not any(rates) else jax.random.split(key, n)


def dropout(x: Float[Array, "..."], rate: float, key: jax.Array | None) -> Float[Array, "..."]:
    """Zeroes each element with probability `rate` and scales the others by 1 / (1 - rate)."""
    if key is None or not rate:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0).astype(x.dtype)


def token_dropout(x: Float[Array, "B T D"], rate: float, key: jax.Array | None) -> Float[Array, "B T D"]:
    """Hides whole tokens: each embedding is zeroed with probability `rate`, the others stay as they are."""
    if key is None or not rate:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, (*x.shape[:2], 1)), x, 0).astype(x.dtype)


def patch_dropout(x: Float[Array, "B S D"], rate: float, key: jax.Array | None) -> Float[Array, "B kept D"]:
    """Keeps ceil((1 - rate) S) random patches of each example, in their order (FLIP, Li et al. 2023).

    Add the positions before, and the class token after.
    """
    if key is None or not rate:
        return x
    count = x.shape[1]
    kept = math.ceil(round((1 - rate) * count, 6))  # rounded, for (1 - 0.7) * 10 is 3.0000000000000004
    order = jnp.argsort(jax.random.uniform(key, x.shape[:2]), axis=1)[:, :kept]
    return jnp.take_along_axis(x, jnp.sort(order, axis=1)[:, :, None], axis=1)
