"""convert, predict and export from the command line, over one tiny CLIP with a tokenizer."""

import json
import os
import pickle
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from test_save import SPEC, words

from mmjax import models
from mmjax.cli import main
from mmjax.convert import readers, table
from mmjax.convert.families import clip, vit
from mmjax.convert.recognise import recognise
from mmjax.core import tree
from mmjax.core.errors import UserError

VOCABULARY = ["red", "blue", "a", "<|startoftext|>", "<|endoftext|>"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A Hugging Face folder, three pictures and a file that is none."""
    place = tmp_path_factory.mktemp("cli")
    (place / "hf").mkdir()
    own = tree.flatten(models.build(SPEC).abstract)
    rng = np.random.default_rng(0)
    leaves = {path: table.tensor(rng.normal(size=x.shape).astype(np.float32)) for path, x in own.items()}
    tensors = table.write(table.expand(clip.hf_table(SPEC), own), leaves)
    readers.write_safetensors(place / "hf" / "model.safetensors", tensors)
    (place / "hf" / "config.json").write_text(json.dumps(clip.hf_config(SPEC)))
    words(VOCABULARY).save(str(place / "hf" / "tokenizer.json"))
    (place / "pictures").mkdir()
    for name, colour in {"b": (0, 0, 255), "a": (255, 0, 0), "c": (9, 9, 9)}.items():
        Image.new("RGB", (9, 13), colour).save(place / "pictures" / f"{name}.png")
    (place / "pictures" / "broken.png").write_bytes(b"no picture")
    main(["convert", f"--from={place}/hf", f"--to={place}/mmjax", "--format=mmjax"])
    return place


def test_convert_says_what_it_mapped(place, capsys):
    main(["convert", f"--from={place}/hf", f"--to={place}/open_clip", "--format=open_clip"])
    said = capsys.readouterr().out
    assert "hf: CLIP with the names of hf" in said
    assert "text_projection.weight -> params/text_projection/kernel  (linear)" in said
    assert "encoder.layers.1.layer_norm1.weight -> params/image_encoder/stack/blocks/ln1/scale [1]" in said
    kept = json.loads((place / "open_clip" / "open_clip_config.json").read_text())
    assert kept["model_cfg"]["vision_cfg"]["head_width"] == 4
    assert sorted(path.name for path in place.iterdir()) == ["hf", "mmjax", "open_clip", "pictures"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["convert", "--from={0}/hf", "--to={0}/hf", "--format=hf"], "is there already and not empty"),
        (["convert", "--from={0}/hf", "--to={0}/x", "--format=onnx"], "choose one of: mmjax, hf, open_clip, npz"),
        (["convert", "--from={0}/hf", "--to={0}/x", "--format=mmjax", "--like=ViT-B-32"], "leave --like out"),
        (["convert", "--from={0}/mmjax", "--to={0}/x", "--format=mmjax"], "a checkpoint of mmjax already"),
        (["export", "--checkpoint={0}/mmjax", "--to={0}/x", "--format=tflite"], "choose one of: stablehlo, onnx"),
        (["export", "--checkpoint={0}/mmjax", "--to={0}/x", "--format=stablehlo", "--tower=audio"], "has: image, text"),
        (["predict", "embed", "--checkpoint={0}/mmjax", "--out={0}/e.npz"], "give --images, --texts or both"),
        (["predict", "embed", "--checkpoint={0}/hf", "--texts=a", "--out={0}/e.npz"], "no checkpoint in"),
        (["predict", "embed", "--checkpoint={0}/mmjax", "--images={0}/nowhere", "--out={0}/e.npz"], "no picture there"),
        (["predict", "classify", "--checkpoint={0}/mmjax", "--images={0}/pictures"], "give --labels"),
    ],
)
def test_bad_input_is_one_line(arguments, message, place, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([argument.format(place) for argument in arguments])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in said
    assert not (place / "x").exists()


class Evil:
    """Would make a folder were it unpickled as pickle does."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def without_shard(folder):
    names = readers.read(folder)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: f"model-0000{1 + i % 2}.safetensors" for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def cut_off(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])


def of_terabytes(folder):
    (folder / "model.safetensors").write_bytes((2**43).to_bytes(8, "little") + b"{}")


def tensor_of_terabytes(folder):
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**41], "data_offsets": [0, 2**43]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def with_tensors(change):
    def spoil(folder):
        found = {name: table.tensor(np.array(x.read())) for name, x in readers.read(folder).items()}
        readers.write_safetensors(folder / "model.safetensors", change(found))

    return spoil


def lost(tensors):
    return {name: x for name, x in tensors.items() if name != "text_projection.weight"}


def strange(tensors):
    return {**tensors, "text_model.adapter.weight": tensors["logit_scale"]}


def wider(tensors):
    return {**tensors, "text_projection.weight": table.tensor(np.zeros((6, 9), np.float32))}


def with_code(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil(str(folder / "made"))}))


def with_config(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def with_tokenizer(folder):
    words([*VOCABULARY, "c"]).save(str(folder / "tokenizer.json"))


def with_preprocessor(folder):
    (folder / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 16}, "crop_size": 16}')


@pytest.mark.parametrize(
    "spoil, message",
    [
        (without_shard, "2 of 2 shards are missing, first model-00001.safetensors"),
        (cut_off, "it is cut off"),
        (of_terabytes, "its header claims 8,796,093,022,208 bytes of a file of 10"),
        (tensor_of_terabytes, "x ends at byte 8,796,093,022"),
        (with_config(projection_dim=7), "another shape than its config says: "),
        (with_tensors(wider), "text_projection.weight (6, 9) gives (9, 6), and params/text_projection/kernel is (8, 6)"),
        (with_tensors(lost), "'text_projection.weight' is missing."),
        (with_tensors(strange), "'text_model.adapter.weight' is of no known meaning"),
        (with_config(model_type="clpi"), "model_type 'clpi' is not read here; there are: "),
        (with_config(projection_dim="six"), "its config is no CLIP's"),
        (with_config(text_config="small"), "its config is no CLIP's (ValueError: "),
        (with_code, "mkdir, which is no tensor: refused, nothing was run"),
        (with_tokenizer, "the tokenizer gives ids up to 5, and the model's embedding has 5 rows: mend one"),
        (with_preprocessor, "pictures of 16 pixels a side, and config.json's model takes image_size 8: mend one"),
    ],
    ids=lambda x: getattr(x, "__name__", None) if callable(x) else None,
)
def test_spoilt_folders_are_one_line_and_nothing_is_written(spoil, message, place, tmp_path, capsys):
    shutil.copytree(place / "hf", tmp_path / "hf")
    spoil(tmp_path / "hf")
    before = sorted(tmp_path.rglob("*"))
    for format in ("mmjax", "open_clip"):
        with pytest.raises(SystemExit) as stopped:
            main(["convert", f"--from={tmp_path}/hf", f"--to={tmp_path}/out", f"--format={format}"])
        said = capsys.readouterr().err
        assert (stopped.value.code, said.count("\n")) == (2, 1), said
        assert message in said
        assert "clpi" not in message or "Did you mean 'clip'?" in said
        assert sorted(tmp_path.rglob("*")) == before


def test_without_a_tokenizer_only_texts_are_forbidden(place, tmp_path, capsys):
    shutil.copytree(place / "hf", tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").unlink()
    main(["convert", f"--from={tmp_path}/hf", f"--to={tmp_path}/mmjax", "--format=mmjax"])
    assert "tokenizer: none, texts need one" in capsys.readouterr().out
    embed = ["predict", "embed", f"--checkpoint={tmp_path}/mmjax", f"--out={tmp_path}/e.npz"]
    with pytest.raises(SystemExit):
        main([*embed, "--texts=red"])
    assert "carries no tokenizer, which texts need; pictures work without" in capsys.readouterr().err
    assert not (tmp_path / "e.npz").exists()
    main([*embed, f"--images={place}/pictures/a.png"])
    with np.load(tmp_path / "e.npz") as found:
        assert found["image"].shape == (1, 6)


def test_a_classifier_names_its_own_classes(place, tmp_path, capsys):
    encoder = {"name": "vit", "size": 8, "patch": 4, "width": 8, "depth": 1, "heads": 2, "mlp": 12, "pool": "cls"}
    spec = {"name": "classifier", "encoder": {**encoder, "act": "gelu", "norm_eps": 1e-12}, "classes": 3}
    own = tree.flatten(models.build(spec).abstract)
    leaves = {path: table.tensor(np.zeros(x.shape, np.float32)) for path, x in own.items()}
    leaves["params/head/bias"] = table.tensor(np.array([0, np.log(2), 0], np.float32))
    (tmp_path / "hf").mkdir()
    tensors = table.write(table.expand(vit.vit_table(spec), own), leaves)
    readers.write_safetensors(tmp_path / "hf" / "model.safetensors", tensors)
    config = vit.vit_config(spec) | {"id2label": {"0": "tench", "1": "goldfish", "2": "daisy"}}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    main(["convert", f"--from={tmp_path}/hf", f"--to={tmp_path}/mmjax", "--format=mmjax"])
    classify = ["predict", "classify", f"--checkpoint={tmp_path}/mmjax", f"--images={place}/pictures/a.png"]
    main([*classify, f"--out={tmp_path}/sheet.png"])
    said = capsys.readouterr().out
    assert "goldfish 0.500, " in said
    assert "tench 0.250" in said
    main(["convert", f"--from={tmp_path}/mmjax", f"--to={tmp_path}/back", "--format=hf"])
    back = json.loads((tmp_path / "back" / "config.json").read_text())
    assert back["id2label"] == config["id2label"]
    assert back["label2id"] == {"tench": 0, "goldfish": 1, "daisy": 2}
    wrong = config | {"id2label": {"0": "tench", "2": "goldfish", "3": "daisy"}}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(wrong))
    with pytest.raises(UserError, match="id2label does not name the classes 0 to 2, each once"):
        recognise(str(tmp_path / "hf"))
    (tmp_path / "hf" / "config.json").write_text(json.dumps(vit.vit_config(spec)))
    assert recognise(str(tmp_path / "hf")).labels is None  # LABEL_0 is no name


def test_embed_classify_retrieve(place, capsys):
    common = [f"--checkpoint={place}/mmjax"]
    (place / "texts.txt").write_text("red\na blue\n")
    main(["predict", "embed", *common, f"--images={place}/pictures", f"--texts={place}/texts.txt", f"--out={place}/e.npz"])
    heard = capsys.readouterr()
    assert "left out, cannot be decoded: " in heard.err
    assert "broken.png" in heard.err
    with np.load(place / "e.npz") as found:
        assert [name.rpartition("/")[2] for name in found["image_id"]] == ["a.png", "b.png", "c.png"]
        assert found["text_id"].tolist() == ["red", "a blue"]
        image, text = found["image"], found["text"]
    assert (image.shape, text.shape, image.dtype) == ((3, 6), (2, 6), np.float32)
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, rtol=1e-6)  # float32

    sheet = f"--out={place}/sheet.png"
    main(["predict", "classify", *common, f"--images={place}/pictures", "--labels=red,a blue", "--template={}", sheet])
    said = capsys.readouterr().out.splitlines()
    scale = np.exp(min(float(readers.read(place / "hf")["logit_scale"].read()), np.log(100)))
    logits = scale * image @ text.T
    best = int(logits[0].argmax())
    assert f"{['red', 'a blue'][best]} {1 / (1 + np.exp(logits[0].min() - logits[0].max())):.3f}" in said[1]
    assert Image.open(place / "sheet.png").size[0] > 100

    pytest.importorskip("usearch")
    for fresh in ("3 indexed", "3 in the index"):
        main(["predict", "retrieve", *common, f"--images={place}/pictures", "--query=a blue", f"--index={place}/index", sheet])
        heard = capsys.readouterr()
        assert fresh in heard.err
    order = np.argsort(-(image @ text[1]))
    names = [line.rpartition("/")[2] for line in heard.out.splitlines()[:3]]
    assert names == [["a.png", "b.png", "c.png"][i] for i in order]
    main(["predict", "retrieve", *common, f"--texts={place}/texts.txt", f"--query={place}/pictures/b.png"])
    assert capsys.readouterr().out.splitlines()[0].endswith(["red", "a blue"][int((text @ image[1]).argmax())])


def test_exported_stablehlo_is_the_tower(place, capsys):
    main(["export", f"--checkpoint={place}/mmjax", f"--to={place}/programs", "--format=stablehlo"])
    assert (
        capsys.readouterr()
        .out.strip()
        .endswith("about.json, image.npz, image.stablehlo, text.npz, text.stablehlo, tokenizer.json")
    )
    from mmjax.predict.encoder import Encoder

    encoder = Encoder(f"{place}/mmjax")
    row = encoder.tokeniser().rows(("a blue",))["text"]
    for count in (1, 3):
        found = run(place / "programs", "text", np.stack([row] * count))
        np.testing.assert_allclose(found, np.repeat(encoder.texts(["a blue"]), count, axis=0), atol=1e-5)
    with np.load(place / "programs" / "image.npz") as weights:
        assert not [name for name in weights if "text" in name]


def run(folder, tower, rows):
    """The reader of docs/export.md, word for word."""
    text = (readers.Path(__file__).parents[2] / "docs" / "export.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    scope = {}
    exec(code, scope)
    return np.asarray(scope["load"](folder, tower)(rows))


def test_exported_onnx_is_the_tower(place):
    for needed in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(needed)
    import onnxruntime

    main(["export", f"--checkpoint={place}/mmjax", f"--to={place}/onnx", "--format=onnx"])
    from mmjax.predict.encoder import Encoder

    encoder = Encoder(f"{place}/mmjax")
    row = encoder.tokeniser().rows(("a blue",))["text"]
    for name, rows in {
        "text": np.stack([row] * 3),
        "image": np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8),
    }.items():
        session = onnxruntime.InferenceSession(str(place / "onnx" / f"{name}.onnx"))
        wanted = encoder._run(name, ({name: one} for one in rows))
        for count in (1, 3):
            (found,) = session.run(None, {session.get_inputs()[0].name: rows[:count]})
            np.testing.assert_allclose(found, wanted[:count], atol=1e-5)


def test_platforms_of_the_artifact(place):
    main(["export", f"--checkpoint={place}/mmjax", f"--to={place}/one", "--format=stablehlo", "--tower=image"])
    from jax import export

    program = export.deserialize((place / "one" / "image.stablehlo").read_bytes())
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert jax.tree.leaves(program.in_avals)[-1].shape[1:] == (8, 8, 3)
