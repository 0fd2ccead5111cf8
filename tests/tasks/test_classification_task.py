"""Cross-entropy and accuracy of a classifier, on logits small enough to see."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.core.module import define
from mmjax.tasks.classification import Classification
from mmjax.tasks.task import Binder


class Given(nnx.Module):
    """A model whose logits are its input."""

    def encode(self, name, x, key):
        return x

    def decide(self, vectors):
        return vectors["text"]


def test_loss_and_accuracy():
    # softmax of (0, ln 3) is (1/4, 3/4); the row of label -1 counts nothing
    logits = jnp.log(jnp.array([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0]]))
    task, bind = Classification(), Binder(define(lambda key: Given()), {})
    z = task.encode(bind, {}, {"text": logits, "label": jnp.array([1, 0, -1])}, None)
    terms = task.read(bind, {}, z, {}, None)
    np.testing.assert_allclose(terms["classification"][0], -np.log(3 / 4) - np.log(1 / 4), rtol=1e-6)  # float32
    assert [float(x) for x in (*terms["classification"][1:], *terms["accuracy"])] == [2, 1, 2]
