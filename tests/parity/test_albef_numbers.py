"""One step of ALBEF is its public code's, for a tiny model in float64: states, losses, gradients, teacher and queue.

The numbers are in albef.txt, written by albef_numbers.py; neither torch nor the public code is needed here.
"""

from pathlib import Path

import albef_numbers as public
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.core import tree
from mmjax.tasks import build as tasks
from mmjax.tasks.task import Binder

LINES = [line.split() for line in (Path(__file__).parent / "albef.txt").read_text().splitlines() if line[0] != "#"]
EXPECTED = {
    name: np.array(values, np.float64).reshape([] if shape == "-" else [int(n) for n in shape.split("x")])
    for name, shape, *values in LINES
}
TOLERANCE = 1e-9  # both sides compute in float64, and the file has 12 digits
TOWER = {"width": public.WIDTH, "depth": public.LAYERS, "heads": public.HEADS, "mlp": public.MLP}
CONFIG = {
    "model": {
        "name": "albef",
        "dim": public.DIM,
        "fusion": public.FUSION,
        "image": {"name": "vit", "size": public.SIZE, "patch": public.PATCH, **TOWER},
        "text": {"name": "bert", "vocab": public.VOCAB, "length": public.T, "pooler": False, **TOWER},
        "heads": {"words": True, "match": True},
    },
    "task": {
        "name": "albef",
        "weights": {"contrastive": 1.0, "matching": 1.0, "masked_tokens": 1.0},
        "momentum": public.MOMENTUM,
        "queue": public.SLOTS * public.B,
        "distil": {"contrastive": public.ALPHA, "masked_tokens": public.ALPHA},
        "ramp": public.RAMP,
    },
    "batch_size": public.B,
    "compute_dtype": "float64",
    "remat": "none",
}


@pytest.fixture(scope="module")
def found():
    """What our code computes, under the names of albef.txt."""
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        patch.setattr("mmjax.tasks.albef.normalise", lambda image, pixels: image)  # the pictures are numbers as they are
        yield jax.device_get(_step())


def _step():
    model, task = tasks.build(CONFIG)

    def fill(prefix):
        params = tree.map_with_path(lambda p, x: jnp.asarray(public.filled(prefix + p, *x.shape)), model.abstract["params"])
        return params | {"temperature": jnp.float64(public.TEMPERATURE)}

    # The public code moves its teacher when a step begins, with what the step before made of the parameters: we, at its end.
    pairs = ("image", "text")
    params, shape = fill(""), (public.SLOTS, public.B, public.DIM)
    queue = {name: jnp.asarray(public.features(f"queue/{name}", *shape)) for name in pairs}
    queue["group"] = 100 + jnp.arange(public.SLOTS * public.B).reshape(shape[:2])
    before = {"taught": {name: jnp.asarray(public.features(f"batch/{name}", *shape[1:])) for name in pairs}}
    extra = {"step": jnp.int32(public.STEP - 1), "teacher": fill("teacher/"), "queue": queue}
    extra = task.advance(params, before | {"group": 50 + jnp.arange(public.B)}, extra)
    ids, labels = public.masked()
    rows = {"image": public.filled("images", public.B, public.SIZE, public.SIZE, 3), "text": ids, "mlm_labels": labels}
    rows = {name: jnp.asarray(x) for name, x in rows.items()} | {"group": jnp.arange(public.B)}

    def loss(params):
        bind = Binder(model, {}, extra)
        z = task.encode(bind, params, rows, None)
        terms, aux = task.relate(bind, params, z)
        terms |= task.read(bind, params, z, aux, None)
        return task.total(terms), (terms, z)

    (_, (terms, z)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    after = task.advance(params, z, extra)["queue"]
    live, columns = model.bind(params), {name: [z["taught"][name], *extra["queue"][name]] for name in pairs}
    fused = live.fuse_tokens(z["image_tokens"], z["text_tokens"], z["valid"])[0]
    text, seen = live.text_tokens(rows["text"])[0], z["image_tokens"]
    words = live.words(live.fuse_tokens(seen, text, z["valid"])[0]["text"])
    other = {way: _hardest(z, way) for way in ("i2t", "t2i")}
    matched = [
        fused["joint"],
        live.fuse_tokens(seen[other["t2i"]], z["text_tokens"], z["valid"])[0]["joint"],
        live.fuse_tokens(seen, z["text_tokens"][other["i2t"]], z["valid"][other["i2t"]])[0]["joint"],
    ]
    return (
        {name: z[name] for name in ("image_tokens", "text_tokens")}
        | {"fused": fused["text"], "match": live.match(jnp.concatenate(matched)), "words": words[labels >= 0]}
        | {f"similarity/{a[0]}2{b[0]}": live.scale() * z[a] @ jnp.concatenate(columns[b]).T for a, b in (pairs, pairs[::-1])}
        | {name: terms[name][0] / terms[name][1] for name in task.weights}
        | {f"queue/{name}": after[name].reshape(-1, public.DIM) for name in pairs}
        | {f"gradient/{path}": jnp.linalg.norm(leaf) for path, leaf in tree.flatten(grads).items()}
    )


def _hardest(z, way):
    """The most similar of another example, student against teacher, in plain words."""
    own, other = ("image", "text") if way == "i2t" else ("text", "image")
    similar = z[own] @ z["taught"][other].T
    return jnp.argmax(jnp.where(jnp.eye(public.B, dtype=bool), -jnp.inf, similar), axis=1)


@pytest.mark.parametrize("name", [name for name in EXPECTED if not name.startswith("gradient/")])
def test_a_step_is_the_public_codes(found, name):
    expected, got = EXPECTED[name], np.asarray(found[name])
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_gradients_are_the_public_codes(found):
    """Norms of every leaf but the segments, which the public code does not add."""
    ours = {name for name in found if name.startswith("gradient/")}
    theirs = {name for name in EXPECTED if name.startswith("gradient/")}
    assert ours - theirs == {"gradient/text_encoder/segments"}
    assert theirs <= ours
    largest = max(EXPECTED[name] for name in theirs)
    for name in theirs:  # keys' biases have no true gradient
        assert abs(found[name] - EXPECTED[name]) <= TOLERANCE * max(EXPECTED[name], 1e-6 * largest), name
    assert sum(float(EXPECTED[name]) > 1e-3 for name in theirs) > 60
