"""Random numbers are functions of (seed, stream, position)."""

import itertools

import jax
import numpy as np
import pytest

from mmjax.core import keys


def bits(seed, stream, step=0):
    return tuple(np.asarray(jax.random.key_data(keys.key(seed, stream, step))).tolist())


@pytest.mark.smoke
def test_every_seed_stream_and_step_has_its_own_key():
    places = list(itertools.product((0, 1, 2), ("init", "step", "crop"), (0, 1, 2)))
    assert len({bits(*place) for place in places}) == len(places)
    assert bits(1, "crop", 2) == bits(1, "crop", 2)


def test_a_traced_step_gives_the_same_key():
    traced = jax.jit(lambda step: jax.random.key_data(keys.key(3, "step", step)))(np.int32(5))
    assert tuple(traced.tolist()) == bits(3, "step", 5)


@pytest.mark.smoke
def test_rng_is_reproducible_and_its_places_differ():
    assert keys.rng(0, "crop", 3, 1).integers(0, 1000, 4).tolist() == keys.rng(0, "crop", 3, 1).integers(0, 1000, 4).tolist()
    places = list(itertools.product((0, 1), ("crop", "shift"), (0, 1, 2), (0, 1, 2)))
    assert len({keys.rng(seed, stream, *index).integers(2**63) for seed, stream, *index in places}) == len(places)


def test_neighbouring_streams_are_uncorrelated():
    draws = np.stack([keys.rng(0, "crop", i).normal(size=4000) for i in range(3)])
    off = np.corrcoef(draws)[~np.eye(3, dtype=bool)]
    assert np.abs(off).max() < 0.08  # five standard deviations of 1 / sqrt(4000)


def test_rows_and_uses_have_keys_of_their_own():
    split = keys.split(keys.rows(keys.key(0, "step", 1), 5), 3)
    assert split.shape == (3, 5)
    assert len({tuple(k) for k in np.asarray(jax.random.key_data(split)).reshape(15, 2).tolist()}) == 15
    one = keys.split(keys.rows(keys.key(0, "step", 1), 5)[2:3], 3)
    assert (jax.random.key_data(one[:, 0]) == jax.random.key_data(split[:, 2])).all()
