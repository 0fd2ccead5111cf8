"""Distilled contrast: by hand, against the plain loss, its gradients, its queue and its groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.losses.contrastive import softmax
from mmjax.losses.distilled import distilled

LN = np.log


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), jnp.float32)


def draw(batch=5, slots=3, width=4):
    rng = np.random.default_rng(0)
    student, teacher = ({"image": unit(rng, batch, width), "text": unit(rng, batch, width)} for _ in range(2))
    queue = {"image": unit(rng, slots, batch, width), "text": unit(rng, slots, batch, width)}
    return student, teacher, queue | {"group": 100 + jnp.arange(slots * batch).reshape(slots, batch)}


def by_formula(student, teacher, scale, group, alpha, queue, filled):
    """One row and one column after the other, in numpy."""
    total, groups = 0.0, np.concatenate([group, np.asarray(queue["group"][:filled]).ravel()])
    for own, other in (("image", "text"), ("text", "image")):
        columns = np.concatenate([teacher[other], np.asarray(queue[other][:filled]).reshape(-1, teacher[other].shape[1])])
        for i in range(len(group)):
            logits, taught = (scale * columns @ np.asarray(side[own][i], np.float64) for side in (student, teacher))
            q, y = np.exp(taught) / np.exp(taught).sum(), (groups == group[i]) / (groups == group[i]).sum()
            total -= (alpha * q + (1 - alpha) * y) @ (logits - LN(np.exp(logits).sum()))
    return total


def test_a_batch_of_two_by_hand():
    """Logits of images ((ln 3, 0), (0, 0)), of texts ((0, 0), (0, 0)); the teacher's are all 0, so that q = (1/2, 1/2)."""
    eye = jnp.eye(2)
    student = {"image": eye * jnp.asarray([[1.0], [0]]), "text": jnp.zeros((2, 2))}
    teacher = {"image": jnp.zeros((2, 2)), "text": eye}
    found = distilled(student, teacher, jnp.float32(LN(3)), jnp.arange(2), 0.4)
    # Row 0: p = (3/4, 1/4), t = (0.8, 0.2); the three others: p = (1/2, 1/2), which cost ln 2 under any target.
    expected = -0.8 * LN(3 / 4) - 0.2 * LN(1 / 4) + 3 * LN(2)
    assert float(found["contrastive"][0]) == pytest.approx(expected, rel=1e-6)
    assert float(found["contrastive"][1]) == 4
    assert float(found["accuracy/i2t"][0]) == 1  # equal scores are not right


def test_without_teacher_and_queue_it_is_the_plain_loss():
    student, _, _ = draw()
    group = jnp.asarray([0, 1, 2, 0, 3])
    plain = softmax(student["image"], student["text"], jnp.float32(3), jnp.float32(0), group, form="dense")
    found = distilled(student, student, jnp.float32(3), group, 0.0)
    for name, (total, count) in plain.items():
        assert float(found[name][0]) == pytest.approx(float(total), rel=1e-6), name
        assert float(found[name][1]) == float(count)


@pytest.mark.parametrize("filled", [0, 2, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_queue_and_groups_are_the_formula(alpha, filled):
    student, teacher, queue = draw()
    queue["group"] = queue["group"].at[1, 2].set(7)  # the pair of example 1 comes by once more
    group = jnp.asarray([4, 7, 5, 4, 6])
    found = distilled(student, teacher, jnp.float32(4), group, alpha, queue, filled)
    expected = by_formula(student, teacher, 4.0, np.asarray(group), alpha, queue, filled)
    assert float(found["contrastive"][0]) == pytest.approx(expected, rel=1e-5)


def test_slots_without_content_count_nothing_and_give_no_gradient():
    student, teacher, queue = draw()
    odd = jax.tree.map(lambda x: x.at[1:].set(jnp.full_like(x[1:], 9)), queue)  # far from unit length
    group = jnp.arange(5)

    def loss(student, teacher, queue):
        return distilled(student, teacher, jnp.float32(4), group, 0.3, queue, 1)["contrastive"][0]

    assert float(loss(student, teacher, queue)) == float(loss(student, teacher, odd))
    floats = {name: queue[name] for name in ("image", "text")}
    by = jax.grad(lambda s, t, q: loss(s, t, q | {"group": queue["group"]}), (0, 1, 2))(student, teacher, floats)
    assert all(float(jnp.abs(x).max()) > 1e-3 for x in jax.tree.leaves(by[0]))
    assert all(float(jnp.abs(x).max()) == 0 for x in jax.tree.leaves(by[1:]))  # neither teacher nor queue learns


def test_the_teachers_own_answer_is_no_gradient():
    """Where the student is its own teacher and alpha is 1, its softmax is its target: nothing to learn."""
    student, _, queue = draw()
    by = jax.grad(lambda s: distilled(s, student, jnp.float32(4), jnp.arange(5), 1.0, queue, 3)["contrastive"][0])(student)
    assert all(float(jnp.abs(x).max()) < 1e-6 for x in jax.tree.leaves(by))
