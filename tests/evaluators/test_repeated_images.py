"""Retrieval over a set whose pictures have several captions, small enough to rank by hand."""

import json

import jax
import jax.numpy as jnp
from flax import nnx
from PIL import Image

from mmjax.core.module import define
from mmjax.data.make import make
from mmjax.evaluators.retrieval import Retrieval
from mmjax.sharding import mesh as meshes
from mmjax.tasks.task import Task

COLOURS = {"red": ["red", "green?"], "green": ["green"], "blue": ["blue", "blue again"]}
FIRST = [ord(letter) + 3 for letter in "rgb"]  # the tokens of "bytes" come after three special ones


class Colours(Task):
    """Both towers see a colour: the picture's, and the one that a caption's first letter names."""

    def image(self, bind, params, rows):
        return jnp.float32(rows["image"][:, 0, 0] > 99)

    def text(self, bind, params, rows):
        return jnp.float32(rows["text"][:, :1] == jnp.array(FIRST))


COMMON = {
    "batch_size": 2,
    "batch": {"image": [[4, 4, 3], "uint8"], "text": [[12], "int32"], "group": [[], "int32"]},
    "transforms": [
        {"name": "decode"},
        {"name": "resize", "size": 4},
        {"name": "tokenise", "tokenizer": "bytes", "length": 12, "bos": None},
    ],
}


def found(source):
    mesh = meshes.make({"data": 1, "fsdp": 1, "model": 1}, jax.devices()[:1])
    retrieval = Retrieval(define(lambda key: nnx.Module()), Colours(), mesh, COMMON, set="colours", source=source)
    return retrieval({}, {}, 0)["colours"], retrieval


def write(folder):
    for name, colour in zip(COLOURS, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
        Image.new("RGB", (4, 4), colour).save(folder / f"{name}.png")
    rows = [{"image": f"{name}.png", "caption": captions} for name, captions in COLOURS.items()]
    (folder / "pairs.json").write_text(json.dumps(rows))
    return {"name": "json", "path": str(folder / "pairs.json"), "captions": "all"}


def test_a_picture_counts_once_and_its_captions_each(tmp_path):
    scores, retrieval = found(write(tmp_path))
    assert (scores["candidates"], scores["captions"]) == (3, 5)
    # "green?" finds green first, and its own red ties with blue, which counts against it: rank 2 of 3.
    assert retrieval.found["t2i"].rank.tolist() == [0, 2, 0, 0, 0]
    # Green finds "green?", which is red's, and "green" at one score.
    assert retrieval.found["i2t"].rank.tolist() == [0, 1, 0]
    assert (scores["t2i/R@1"], scores["i2t/R@1"]) == (4 / 5, 2 / 3)
    gallery = retrieval.gallery()
    assert gallery["distinct"].tolist() == [0, 2, 3]
    assert gallery["t2i_top"][1].tolist() == [2, 3, 0]  # pairs, whose pictures are green, blue and red
    assert [gallery["texts"][i] for i in gallery["i2t_top"][2][:2]] == ["blue", "blue again"]


def test_what_was_made_of_such_a_set_counts_the_same(tmp_path):
    spec = write(tmp_path)
    made = make(spec, tmp_path / "made", workers=1)
    assert (made["counts"], made["splits"]["train"]["broken"]) == ({"train": 5}, 0)
    assert found({"name": "tfds", "path": str(tmp_path / "made")})[0] == found(spec)[0]
    # Green has one caption, the others lists.
    sampled = make({**spec, "captions": "sample"}, tmp_path / "sampled", workers=1)
    assert (sampled["counts"], sampled["splits"]["train"]["broken"]) == ({"train": 3}, 0)
    assert found({"name": "tfds", "path": str(tmp_path / "sampled")})[0]["candidates"] == 3
