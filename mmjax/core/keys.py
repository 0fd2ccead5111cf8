"""Every random number of a run comes from here: a function of (seed, stream, position) and of nothing else.

`stream` names the use ("dropout", "crop"), so that adding one use leaves the numbers of all others as they were.
"""

import zlib

import numpy as np


def key(seed: int, stream: str, step=0):
    """A jax key for `stream` at `step`; `step` may be a traced int32 scalar."""
    import jax  # the data room calls rng() in worker processes that have no use for jax

    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()) & 0x7FFFFFFF), step)


def rows(key, batch: int):
    """One key for each of `batch` examples: an example's randomness is then that of its row in the global batch, whatever
    the chunk or the device that it is computed in."""
    import jax

    return jax.random.split(key, batch)


def split(keys, n: int):
    """(n, B) keys from (B,): for each of `n` uses, one key an example."""
    import jax

    return jax.vmap(lambda key: jax.random.split(key, n), out_axes=1)(keys)


def rng(seed: int, stream: str, *index: int) -> np.random.Generator:
    """A numpy generator for `stream` at `index` (non-negative integers: a record's number, an attempt ...)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(stream.encode()), *index])))
