"""The bag of words: what order, padding and unknown words change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import keys, module
from mmjax.core.errors import UserError
from mmjax.models.words import BagOfWords, _hash

IDS = jnp.array([[3, 4, 5, 0, 0], [6, 7, 0, 0, 0]])


def bag(**options):
    return module.define(lambda key: BagOfWords(10, 4, **options, rngs=module.rngs(key)))


def run(model, ids=IDS, key=None):
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), model.abstract["params"])
    return params, jax.jit(lambda params, ids: model.bind(params)(ids, key))(params, ids)


def test_value_is_the_normalised_mean_of_words_and_pairs():
    params, y = run(bag(pairs=7))
    words, pairs = np.asarray(params["embed"]["embedding"]), np.asarray(params["pairs"])
    at = np.asarray(_hash(IDS[:1, :2], IDS[:1, 1:3], 7))[0]
    mean = (words[3] + words[4] + words[5] + pairs[at[0]] + pairs[at[1]]) / 3
    unit = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-6)
    np.testing.assert_allclose(y[0], unit * params["ln"]["scale"] + params["ln"]["bias"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("pairs", "told_apart"), [(0, False), (512, True)])
def test_only_pairs_tell_an_order_from_its_reverse(pairs, told_apart):
    _, y = run(bag(pairs=pairs), jnp.array([[3, 4, 5], [5, 4, 3]]))
    assert bool(np.abs(y[0] - y[1]).max() > 1e-3) == told_apart


def test_padding_changes_nothing():
    _, short = run(bag(pairs=64), IDS[:, :3])
    _, long = run(bag(pairs=64))
    np.testing.assert_allclose(short, long, rtol=1e-5)


def test_a_new_pair_adds_nothing():
    params, _ = bag(pairs=8).init(jax.random.key(0))
    assert not np.asarray(params["pairs"]).any()


def test_word_dropout_replaces_words_in_training_only_and_never_padding():
    model = bag(unknown_id=1, word_dropout=1.0)
    _, alone = run(model)
    _, hidden = run(model, key=keys.rows(jax.random.key(0), len(IDS)))
    _, unknown = run(model, jnp.where(IDS > 0, 1, 0))
    np.testing.assert_allclose(hidden, unknown, rtol=1e-5)
    assert np.abs(alone - hidden).max() > 1e-3


def test_word_dropout_without_the_unknown_word_is_refused():
    with pytest.raises(UserError, match="word_dropout needs unknown_id"):
        bag(word_dropout=0.1)


def test_the_hash_spreads_and_knows_the_order():
    first, second = jnp.meshgrid(jnp.arange(64), jnp.arange(64))
    cells = np.asarray(_hash(first, second, 1024)).ravel()
    counts = np.bincount(cells, minlength=1024)
    assert counts.size == 1024
    assert counts.max() <= 16  # 4 expected
    assert np.mean(np.asarray(_hash(second, first, 1024)).ravel() == cells) < 0.05
