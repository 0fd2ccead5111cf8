"""What training leaves out at random: activations, image patches, text tokens.

Everywhere a key means training and None means inference; without a key or at rate 0 no random number is drawn. There
is one key an example (core.keys.rows), and an example draws from its own alone: a batch computed in chunks, in any
order or on any mesh, leaves out what the whole batch would.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from mmjax.core import keys as random


def keys(key: Key[Array, " B"] | None, n: int, *rates: float) -> Key[Array, "n B"] | list[None]:
    """Keys for `n` uses, or `n` times None at inference and where all `rates` are 0."""
    return [None] * n if key is None or not any(rates) else random.split(key, n)


def draw(sample: Callable[..., jax.Array], key: Key[Array, " B"], shape: tuple[int, ...]) -> Shaped[Array, "B ..."]:
    """`sample(key, shape)` for each example with its own key."""
    return jax.vmap(lambda key: sample(key, shape=shape))(key)


def keep(key: Key[Array, " B"], rate: float, shape: tuple[int, ...]) -> Shaped[Array, "B ..."]:
    """Booleans of `shape` an example, False with probability `rate`."""
    return draw(lambda key, shape: jax.random.bernoulli(key, 1 - rate, shape), key, shape)


def dropout(x: Float[Array, "B ..."], rate: float, key: Key[Array, " B"] | None) -> Float[Array, "B ..."]:
    """Zeroes each element with probability `rate` and scales the others by 1 / (1 - rate)."""
    if key is None or not rate:
        return x
    return jnp.where(keep(key, rate, x.shape[1:]), x / (1 - rate), 0).astype(x.dtype)


def token_dropout(x: Float[Array, "B T D"], rate: float, key: Key[Array, " B"] | None) -> Float[Array, "B T D"]:
    """Hides whole tokens: each embedding is zeroed with probability `rate`, the others stay as they are."""
    if key is None or not rate:
        return x
    return jnp.where(keep(key, rate, (x.shape[1], 1)), x, 0).astype(x.dtype)


def patch_dropout(x: Float[Array, "B S D"], rate: float, key: Key[Array, " B"] | None) -> Float[Array, "B kept D"]:
    """Keeps ceil((1 - rate) S) random patches of each example, in their order (FLIP, Li et al. 2023).

    Add the positions before, and the class token after.
    """
    if key is None or not rate:
        return x
    count = x.shape[1]
    kept = math.ceil(round((1 - rate) * count, 6))  # rounded, for (1 - 0.7) * 10 is 3.0000000000000004
    order = jnp.argsort(draw(jax.random.uniform, key, (count,)), axis=1)[:, :kept]
    return jnp.take_along_axis(x, jnp.sort(order, axis=1)[:, :, None], axis=1)
