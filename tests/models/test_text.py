"""Text encoders: what each position may know, what is pooled, what padding does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import keys, module, tap
from mmjax.core.errors import UserError
from mmjax.models.text import GRUText, TextTransformer

EOS, PAD = 9, 0
TINY = {"vocab": 10, "length": 6, "width": 8, "depth": 2, "heads": 2, "mlp": 12}
IDS = jnp.array([[3, 4, 5, 9, 0, 0], [6, 7, 9, 0, 0, 0]])


def text(**options):
    return module.define(lambda key: TextTransformer(**{**TINY, **options}, rngs=module.rngs(key)))


def gru(**options):
    return module.define(lambda key: GRUText(10, 4, 5, **options, rngs=module.rngs(key)))


def fill(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.5, a.shape), a.dtype), model.abstract["params"])


def run(model, ids=IDS, key=None):
    """The output and every position."""

    def forward(params, ids):
        with tap.frame() as out:
            y = model.bind(params)(ids, key)
        return y, out["tokens"]

    return jax.jit(forward)(fill(model), ids)


@pytest.mark.parametrize("causal", [True, False])
def test_a_later_token_reaches_earlier_ones_only_without_causal(causal):
    model = text(causal=causal)
    _, before = run(model)
    _, after = run(model, IDS.at[:, 3].set(8))
    changed = np.abs(before - after).max((0, 2)) > 1e-4
    assert changed.tolist() == ([False] * 3 if causal else [True] * 3) + [True] * 3


@pytest.mark.parametrize(("pool", "position"), [("eos", [3, 2]), ("last", [5, 5])])
def test_pooled_position(pool, position):
    y, tokens = run(text(pool=pool, eos_id=EOS))
    np.testing.assert_array_equal(y, tokens[jnp.arange(2), jnp.array(position)])


@pytest.mark.parametrize("pool", ["last", "mean", "map"])
def test_pads_are_masked_everywhere_or_nowhere(pool):
    """With a pad_id, more padding changes nothing; without, pads are tokens like others."""
    model = text(pool=pool, pad_id=PAD)
    short, _ = run(model, IDS[:, :4])
    np.testing.assert_allclose(run(model)[0], short, atol=1e-5)
    assert np.abs(run(text(pool=pool))[0] - run(text(pool=pool), IDS[:, :4])[0]).max() > 1e-3


def test_causal_and_pads_together():
    model = text(causal=True, pad_id=PAD)
    ids = jnp.array([[3, 0, 4, 5, 0, 0]])
    _, before = run(model, ids)
    _, later = run(model, ids.at[0, 3].set(6))
    assert (np.abs(before - later)[0].max(-1) > 1e-4).tolist() == [False, False, False, True, True, True]
    # With no pad at position 1, the positions before it are as they were and those after it see it.
    _, filled = run(model, ids.at[0, 1].set(7))
    assert (np.abs(before - filled)[0].max(-1) > 1e-4).tolist() == [False, True, True, True, True, True]
    # A pad in front has nothing to look at, and stays finite.
    assert np.isfinite(run(model, ids.at[0, 0].set(PAD))[1]).all()


def test_bag_of_words():
    """Depth 0, no positions, no norm: the mean of the words' vectors, pads left out."""
    model = text(depth=0, pool="mean", positions="none", final_norm=False, pad_id=PAD)
    params = fill(model)
    assert set(params) == {"embed"}
    table = np.asarray(params["embed"]["embedding"])
    y, _ = run(model)
    np.testing.assert_allclose(y, [table[[3, 4, 5, 9]].mean(0), table[[6, 7, 9]].mean(0)], rtol=1e-5, atol=1e-6)


def test_token_dropout_hides_whole_tokens_in_training():
    model = text(depth=0, positions="none", final_norm=False, token_dropout=0.5)
    table = np.asarray(fill(model)["embed"]["embedding"])
    _, tokens = run(model, jnp.tile(IDS, (20, 1)), keys.rows(jax.random.key(0), 20 * len(IDS)))
    zero = (tokens == 0).all(-1)
    assert 0.3 < zero.mean() < 0.7
    np.testing.assert_array_equal(np.where(zero[..., None], 0, table[np.tile(IDS, (20, 1))]), tokens)


def test_positions():
    def same(positions):
        tokens = run(text(depth=0, positions=positions), jnp.array([[3, 3, 3]]))[1]
        return np.allclose(tokens[:, 0], tokens[:, 1])

    assert [same(positions) for positions in ("learned", "sincos", "none")] == [False, False, True]
    with pytest.raises(UserError, match="a text of 7 tokens exceeds the text encoder's length 6"):
        run(text(), jnp.ones((1, 7), jnp.int32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "eos"}, "pool 'eos' needs an eos_id"),
        ({"pool": "first"}, "pool: unknown name 'first'"),
        ({"positions": "learnt"}, "Did you mean 'learned'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        text(**options)


def test_gru_takes_the_last_valid_state():
    y, states = run(gru(pad_id=PAD))
    assert y.shape == (2, 5)
    np.testing.assert_array_equal(y, states[jnp.arange(2), jnp.array([3, 2])])
    np.testing.assert_allclose(run(gru(pad_id=PAD), IDS[:, :4])[0], y, atol=1e-6)
    assert np.abs(run(gru())[0] - y).max() > 1e-3


def test_gru_mean_leaves_pads_out():
    y, states = run(gru(pad_id=PAD, pool="mean"))
    np.testing.assert_allclose(y, [states[0, :4].mean(0), states[1, :3].mean(0)], rtol=1e-5, atol=1e-6)


def test_a_class_token_behind_the_text_reads_it():
    model = text(causal=True, pool="cls", pad_id=PAD)
    y, tokens = run(model)
    assert tokens.shape == (2, 7, 8)
    np.testing.assert_array_equal(y, tokens[:, -1])
    # A token of the text is seen; the padding's own vectors are not, but for the first: open_clip's mask lies one off.
    params = fill(model)
    for position, seen in ((0, True), (3, True), (4, True), (5, False)):
        shifted = {**params, "positions": params["positions"].at[position, 0].add(3.0)}
        changed = jnp.abs(model.bind(shifted)(IDS)[0] - y[0]).max() > 1e-4
        assert bool(changed) == seen, position
