"""The classifier of two encoders, and the dual encoder of sounds and texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core import tree
from mmjax.core.errors import UserError
from mmjax.tasks.classification import Classification
from mmjax.tasks.contrastive import Contrastive
from mmjax.tasks.task import Binder

TEXT = {"name": "bag_of_words", "vocab": 9, "width": 4}
AUDIO = {"name": "whisper", "mels": 3, "frames": 4, "width": 6, "depth": 1, "heads": 2, "mlp": 8}
IDS = jnp.array([[1, 2, 3], [4, 5, 6]], jnp.int32)
MEL = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8)), jnp.float32)


def made(spec):
    model = models.build(spec)
    params, stats = model.init(jax.random.key(0))
    return model, params, stats


def normalised(x):
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)


def test_the_head_reads_both_vectors_side_by_side():
    model, params, stats = made({"name": "dual_classifier", "classes": 5, "text": TEXT, "audio": AUDIO})
    bound = model.bind(params, stats)
    vectors = [normalised(np.asarray(bound.audio_encoder(MEL))), normalised(np.asarray(bound.text_encoder(IDS)))]
    wanted = np.concatenate(vectors, 1) @ params["head"]["kernel"] + params["head"]["bias"]
    rows = {"text": IDS, "audio": MEL, "label": jnp.array([0, 1])}
    found = Classification().logits(Binder(model, stats), params, rows)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert params["head"]["kernel"].shape == (10, 5)


def test_two_encoders_are_needed():
    with pytest.raises(UserError, match="two of image, audio, text are read together; given: text"):
        models.build({"name": "dual_classifier", "classes": 5, "text": TEXT})


@pytest.mark.parametrize("kind", ["linear", "norm"])
def test_sounds_and_texts_meet_in_one_space(kind):
    spec = {"name": "dual_encoder", "dim": 3, "audio": AUDIO, "text": TEXT, "audio_projection": kind}
    model, params, stats = made(spec)
    assert {path.split("/")[0] for path in tree.flatten(params)} == {
        *("audio_encoder", "text_encoder", "audio_projection", "text_projection", "logit_scale")
    }
    task, bind = Contrastive({"name": "softmax"}), Binder(model, stats)
    rows = {"text": IDS, "audio": MEL, "group": jnp.arange(2)}
    z = task.encode(bind, params, rows, None)
    np.testing.assert_allclose(z["audio"], task.audio(bind, params, rows), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(z["audio"], axis=1), 1, rtol=1e-6)
    terms = task.relate(bind, params, z)[0] | task.read(bind, params, z, {}, None)
    np.testing.assert_allclose(terms["cosine/positive"][0], np.sum(z["audio"] * z["text"]), rtol=1e-5)
    logits = bind(params).scale() * np.asarray(z["audio"]) @ np.asarray(z["text"]).T
    both = [-np.diag(jax.nn.log_softmax(logits, axis)).mean() for axis in (0, 1)]
    total, count = terms["contrastive"]
    np.testing.assert_allclose(total / count, np.mean(both), rtol=1e-5)


def test_only_what_is_frozen_as_a_whole_is_encoded_before():
    model, params, stats = made({"name": "dual_encoder", "dim": 3, "audio": AUDIO, "text": TEXT})
    task, bind = Contrastive({"name": "softmax"}), Binder(model, stats)
    rows = {"text": IDS, "audio": MEL, "group": jnp.arange(2)}
    paths = set(tree.flatten(params))
    some = {path for path in paths if path.startswith("audio_encoder/conv")}
    assert set(task.encoded(bind, params, rows, some)) == set(rows)
    audio = {path for path in paths if path.startswith("audio_encoder/")}
    found = task.encoded(bind, params, rows, audio)
    assert set(found) == {"audio_encoded", "text", "group"}
    live, kept = (task.encode(bind, params, batch, None) for batch in (rows, found))
    for name in ("audio", "text"):
        np.testing.assert_array_equal(live[name], kept[name])
