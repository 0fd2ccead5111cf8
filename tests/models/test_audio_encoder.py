"""Where a spectrogram holds sound, and an encoder that pools there alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core.errors import UserError
from mmjax.models.audio import heard

TINY = {"name": "whisper", "mels": 3, "frames": 4, "width": 8, "depth": 1, "heads": 2, "mlp": 8}


def spectrogram(frames, sound):
    mel = np.full((1, 3, frames), -1.5, np.float32)
    mel[0, 1, :sound] = 0.25
    return jnp.asarray(mel)


def test_heard_is_what_is_above_the_floor_in_a_band():
    assert heard(spectrogram(6, 3)).tolist() == [[True, True, False]]
    assert heard(spectrogram(5, 5)).tolist() == [[True, True, True]]
    assert heard(spectrogram(4, 0)).tolist() == [[False, False]]


def test_the_pool_is_the_mean_of_heard_tokens():
    model = models.build({"name": "classifier", "encoder": {**TINY, "pool": "heard"}})
    params, stats = model.init(jax.random.key(0))
    bound, mel = model.bind(params, stats), spectrogram(8, 3)
    tokens = bound.encoder.tokens(mel)
    np.testing.assert_allclose(bound.logits(mel)[0], tokens[:, :2].mean(1), rtol=1e-5, atol=1e-6)


def test_an_unknown_pool_is_named():
    with pytest.raises(UserError, match=r"model.encoder: pool: unknown name 'hear'; .*Did you mean 'heard'"):
        models.build({"name": "classifier", "encoder": {**TINY, "pool": "hear"}})
