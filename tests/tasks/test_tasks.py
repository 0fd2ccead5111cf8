"""What tasks check before any data or compilation, and pixels on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.tasks import build as tasks
from mmjax.tasks.contrastive import Contrastive
from mmjax.tasks.normalise import PIXELS, normalise
from mmjax.tasks.task import Task

CONFIG = {
    "batch_size": 4,
    "batch": {"image": [[2, 2, 3], "uint8"], "text": [[3], "int32"], "group": [[], "int32"]},
    "model": {"name": "dual_encoder", "text": {"vocab": 9}},
}


@pytest.mark.smoke
@pytest.mark.parametrize("pixels", PIXELS)
def test_normalise_is_its_formula(pixels):
    image = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3) * 10
    mean, std = map(np.asarray, PIXELS[pixels])
    found = normalise(jnp.asarray(image), pixels)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, (image / 255 - mean) / std, rtol=1e-5, atol=1e-6)


def test_siglip_pixels_span_one_to_one():
    image = jnp.asarray([0, 255], jnp.uint8).reshape(2, 1, 1, 1) * jnp.ones((1, 1, 1, 3), jnp.uint8)
    assert normalise(image, "siglip")[:, 0, 0, 0].tolist() == [-1, 1]


def test_contrastive_checks_its_parts_when_it_is_made():
    Contrastive({"name": "sigmoid"}, "openai")
    with pytest.raises(UserError, match=r"task\.pixels 'clip' is not one of: openai, imagenet, siglip"):
        Contrastive({"name": "softmax"}, "clip")
    with pytest.raises(UserError, match=r"task.loss: unknown name 'sigmod'.*Did you mean 'sigmoid'\?"):
        Contrastive({"name": "sigmod"})
    for wrong in ({"direction": "left"}, {"form": "round"}, {"tile": 0}, {"dtype": "int8"}):
        with pytest.raises(UserError, match=f"task.loss: {next(iter(wrong))} "):
            Contrastive({"name": "softmax", **wrong})


def test_the_loss_is_a_weighted_sum_of_means():
    task = Task()
    task.weights = {"a": 2.0, "b": 0.5}
    terms = {
        "a": (jnp.float32(6), jnp.float32(3)),
        "b": (jnp.float32(8), jnp.float32(2)),
        "c": (jnp.float32(9), jnp.float32(1)),
    }
    assert float(task.total(terms)) == 2 * 2 + 0.5 * 4


def test_abstract_batch_is_what_the_config_says():
    made = tasks.abstract_batch(CONFIG)
    assert made["image"] == jax.ShapeDtypeStruct((4, 2, 2, 3), jnp.uint8)
    assert made["group"] == jax.ShapeDtypeStruct((4,), jnp.int32)


def rows(**changes):
    made = {
        "image": np.zeros((4, 2, 2, 3), np.uint8),
        "text": np.full((4, 3), 8, np.int32),
        "group": np.arange(4, dtype=np.int32),
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"text": None}, "the data gives no field 'text', which config.batch asks for; it gives: image, group"),
        ({"text": np.zeros((4, 5), np.int32)}, r"the data gives text of \[5\] int32, config.batch.text says \[3\] int32"),
        (
            {"image": np.zeros((4, 2, 2, 3), np.float32)},
            r"image of \[2, 2, 3\] float32, config.batch.image says \[2, 2, 3\] uint8",
        ),
        ({"text": np.full((4, 3), 9, np.int32)}, "the tokenizer gives text the id 9 and model.text.vocab is 9"),
        ({"question": np.full((4, 3), 12, np.int32)}, "the tokenizer gives question the id 12 and model.text.vocab is 9"),
        ({"candidates": np.full((4, 2, 3), 9, np.int32)}, "the tokenizer gives candidates the id 9 and model.text.vocab is 9"),
    ],
)
def test_a_batch_of_another_kind_is_named(changes, text):
    tasks.check_batch(CONFIG, rows())
    with pytest.raises(UserError, match=text):
        tasks.check_batch(CONFIG, rows(**changes))
