"""Folders written whole or not at all, what a converted checkpoint carries, and what contradicts itself."""

import json
import tracemalloc

import jax
import ml_dtypes
import numpy as np
import pytest

from mmjax import models
from mmjax.convert import preprocess, readers, save, table
from mmjax.convert.families import clip
from mmjax.convert.init import Init
from mmjax.convert.recognise import recognise
from mmjax.core import tree
from mmjax.core.config import load, plain
from mmjax.core.errors import UserError

SPEC = {
    "name": "dual_encoder",
    "dim": 6,
    "image": clip.image_spec({"width": 8, "depth": 2, "heads": 2, "mlp": 12, "act": "gelu", "norm_eps": 1e-5}, 8, 4),
    "text": clip.text_spec({"width": 8, "depth": 1, "heads": 2, "mlp": 12, "act": "gelu", "norm_eps": 1e-5}, 5, 6, 4),
}
WORDS = ["a", "b", "<|startoftext|>", "<|endoftext|>"]


def words(vocabulary):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="a"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokens


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder of a CLIP whose weights count up."""
    own = tree.flatten(models.build(SPEC).abstract)
    leaves = {p: table.tensor(np.arange(x.size, dtype=np.float16).reshape(x.shape) / 64) for p, x in own.items()}
    place = tmp_path / "hf"
    place.mkdir()
    readers.write_safetensors(place / "model.safetensors", table.write(table.expand(clip.hf_table(SPEC), own), leaves))
    config = clip.hf_config(SPEC)
    (place / "config.json").write_text(json.dumps(config))
    words(WORDS).save(str(place / "tokenizer.json"))
    return place


def test_a_converted_folder_is_a_checkpoint(folder, tmp_path):
    found = recognise(str(folder))
    assert save.same(models.MODELS, found.model, SPEC)
    save.mmjax_folder(found, f"{tmp_path}/out", str(folder))
    meta, leaves = save.load(f"{tmp_path}/out")
    assert meta["converted"] == {"family": "CLIP", "format": "hf", "from": str(folder), "dtypes": ["float16"]}
    assert leaves["params/image_encoder/stack/blocks/ln1/scale"].dtype == np.float16
    assert leaves["params/image_encoder/stack/blocks/ln1/scale"].read()[1, 0] == 8 / 64
    assert "<|endoftext|>" in meta["tokenizer"]
    assert meta["preprocessing"]["transforms"][1] == {"name": "resize", "size": 8, "mode": "shortest", "centre": "floor"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "out"]
    save.foreign_folder(f"{tmp_path}/out", f"{tmp_path}/back", "hf")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    kept = json.loads((tmp_path / "back" / "preprocessor_config.json").read_text())
    assert (kept["size"], kept["crop_size"], kept["resample"]) == ({"shortest_edge": 8}, {"height": 8, "width": 8}, 3)


def test_one_leaf_at_a_time_is_in_memory_in_the_dtype_of_the_file(tmp_path):
    part = {"width": 256, "depth": 8, "heads": 4, "mlp": 1024, "act": "gelu", "norm_eps": 1e-5}
    spec = {"name": "dual_encoder", "dim": 6, "image": clip.image_spec(part, 8, 4), "text": clip.text_spec(part, 5, 6, 4)}
    own = tree.flatten(models.build(spec).abstract)
    zeros = {path: table.tensor(np.broadcast_to(np.zeros((), ml_dtypes.bfloat16), x.shape)) for path, x in own.items()}
    (tmp_path / "hf").mkdir()
    readers.write_safetensors(tmp_path / "hf" / "model.safetensors", table.write(table.expand(clip.hf_table(spec), own), zeros))
    (tmp_path / "hf" / "config.json").write_text(json.dumps(clip.hf_config(spec)))

    def peak(function, *args):
        tracemalloc.start()
        function(*args)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    size = (tmp_path / "hf" / "model.safetensors").stat().st_size
    assert size > 25e6
    # The largest leaf, all layers of an MLP's kernel, is 4.2 MB; it and a copy may be there, and what else Python needs.
    assert peak(save.mmjax_folder, recognise(f"{tmp_path}/hf"), f"{tmp_path}/out", "x") < 14e6
    assert {leaf.dtype for leaf in save.load(f"{tmp_path}/out")[1].values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert peak(save.foreign_folder, f"{tmp_path}/out", f"{tmp_path}/back", "hf") < 14e6
    assert (tmp_path / "back" / "model.safetensors").stat().st_size == size


def test_untrained_has_the_keys_of_the_base_config(folder):
    found = recognise(str(folder))
    ours, base = save.run_config(found.model, found.preprocessing), plain(load("configs/base.py"))
    assert ours.keys() == base.keys()
    same = set(base) - {"model", "task", "batch", "eval", "steps"}
    assert {key: ours[key] for key in same} == {key: base[key] for key in same}


def test_nothing_half_written(folder, tmp_path, monkeypatch):
    def breaks(*args):
        raise UserError("the disk is full")

    monkeypatch.setattr(save.store, "write_config", breaks)
    with pytest.raises(UserError, match="full"):
        save.mmjax_folder(recognise(str(folder)), f"{tmp_path}/out", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    with pytest.raises(UserError, match="is there already and not empty"), save.whole(str(folder)):
        pass


def test_nothing_half_written_where_a_tensor_breaks_when_it_is_read(folder, tmp_path):
    def breaks():
        raise UserError("x.pth: its 7 cannot be read")

    found, path = recognise(str(folder)), "params/text_projection/kernel"
    good = found.leaves[path]
    found.leaves[path] = table.Tensor(good.shape, good.dtype, breaks)
    with pytest.raises(UserError, match="its 7 cannot be read"):
        save.mmjax_folder(found, f"{tmp_path}/out", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("tokenizer.json", words([*WORDS, "c", "d"]).to_str(), "ids up to 5, and the model's embedding has 5 rows"),
        ("tokenizer.json", words(["a"]).to_str(), "has no '<|startoftext|>'"),
        ("tokenizer.json", "{", "is no tokenizer.json"),
        ("preprocessor_config.json", '{"size": {"shortest_edge": 16}, "crop_size": 16}', "16 pixels a side.* image_size 8"),
        ("preprocessor_config.json", '{"size": {"shortest_edge": 8}, "crop_size": 8, "resample": 0}', "resample 0"),
        ("preprocessor_config.json", '{"do_normalize": false}', "do_normalize is false"),
        ("preprocessor_config.json", '{"size": {"height": 8, "width": 9}}', "8 x 9"),
    ],
)
def test_contradictions_are_one_line(file, content, message, folder):
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        recognise(str(folder))


def test_preprocessing_is_read_and_written_as_the_source_says(folder):
    said = {"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}, "resample": 2, "image_mean": [0.1, 0.2, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    found = recognise(str(folder)).preprocessing
    resize = {"name": "resize", "size": 10, "mode": "shortest", "centre": "floor", "crop": 8, "filter": "bilinear"}
    assert found.transforms[1] == resize
    assert found.pixels["mean"] == [0.1, 0.2, 0.3]
    back = preprocess._hugging_face_of(resize, found.pixels, {"model_type": "clip"})
    assert {key: back[key] for key in said} == said


def test_no_family_says_this(folder, tmp_path):
    save.mmjax_folder(recognise(str(folder)), f"{tmp_path}/out", "x")
    with pytest.raises(UserError, match="--format=npz: no family there has this model"):
        save.foreign_folder(f"{tmp_path}/out", f"{tmp_path}/back", "npz")
    assert not (tmp_path / "back").exists()


def fresh(spec):
    model = models.build(spec)
    params, stats = model.init(jax.random.key(0))
    return model, {"params": params, "stats": stats}


def test_init_of_one_tower_in_place(folder):
    small = {**SPEC, "dim": 3}
    model, arrays = fresh(small)
    rules = [
        ["image_encoder/(.*)", r"image_encoder/\1"],
        [".*", None],
        [None, "text_encoder/.*|.*_projection/kernel|logit_scale"],
    ]
    init = Init({"from": str(folder), "map": rules}, model.abstract)
    filled = init(arrays)
    scale = filled["params"]["image_encoder"]["stack"]["blocks"]["ln1"]["scale"]
    assert scale[1, 0] == 8 / 64
    assert scale.dtype == np.float32
    assert scale.sharding == arrays["params"]["image_encoder"]["stack"]["blocks"]["ln1"]["scale"].sharding
    assert np.array_equal(filled["params"]["text_projection"]["kernel"], arrays["params"]["text_projection"]["kernel"])


def test_init_takes_layers_of_a_stack(folder):
    small = {**SPEC, "image": {**SPEC["image"], "depth": 1}}
    model, arrays = fresh(small)
    taken = "image_encoder/stack/(blocks/.*)"
    rules = [[taken, r"image_encoder/stack/\1", [1, 2]], ["(.*)", r"\1"]]
    filled = Init({"from": str(folder), "map": rules}, model.abstract)(arrays)
    scale = filled["params"]["image_encoder"]["stack"]["blocks"]["ln1"]["scale"]
    assert scale.shape[0] == 1
    assert scale[0, 0] == 8 / 64  # the second layer's
    rules[0][2] = [0, 2]
    with pytest.raises(UserError, match=r"of another shape: params/image_encoder/stack/blocks/.* \(1, .* \(2, "):
        Init({"from": str(folder), "map": rules}, model.abstract)


def test_init_from_a_checkpoint_reads_what_it_holds(folder, tmp_path):
    save.mmjax_folder(recognise(str(folder)), f"{tmp_path}/out", "x")
    model, arrays = fresh(SPEC)
    filled = Init({"from": f"{tmp_path}/out"}, model.abstract)(arrays)
    assert filled["params"]["text_projection"]["kernel"][0, 1] == 1 / 64


@pytest.mark.parametrize(
    "rules, message",
    [
        ([["image_encoder/(.*)", r"image_encoder/\1"]], "filled by nothing|not used"),
        ([["image_encoder/(.*)", r"image_encoder/\1"], [".*", None]], "not used: take it, or allow it"),
        ([["(.*)", r"encoder/\1"]], "takes .* from 'encoder/.*', which is not in the source"),
        ([["(.*)", r"\1"], ["nothing", None]], r"the rule \['nothing', None\] covers nothing"),
        ([["(", "x"]], "not a regular expression"),
        ([[None, None]], "is not"),
        ([["(.*)", r"\1", [1]]], "is not .*first, end"),
    ],
)
def test_init_rules_that_do_not_fit(rules, message, folder):
    with pytest.raises(UserError, match=message):
        Init({"from": str(folder), "map": rules}, models.build(SPEC).abstract)


def test_init_of_another_shape(folder):
    with pytest.raises(UserError, match="of another shape: params/image_projection/kernel"):
        Init({"from": str(folder)}, models.build({**SPEC, "dim": 3}).abstract)
    with pytest.raises(UserError, match="init has no key 'form'"):
        Init({"from": str(folder), "form": "x"}, models.build(SPEC).abstract)
