"""Folders of VisualBERT and ViLT without torch: told from BERT and ViT, their answers kept, what is not read."""

import json

import numpy as np
import pytest

from mmjax.convert import readers, save, table
from mmjax.convert.families import vilt, visualbert
from mmjax.convert.recognise import abstract, recognise
from mmjax.core.errors import UserError

SMALL = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_act": "gelu"}
SMALL |= {"layer_norm_eps": 1e-12, "vocab_size": 9, "max_position_embeddings": 6, "type_vocab_size": 2, "pad_token_id": 1}
BERT = {"model_type": "visual_bert", **SMALL, "visual_embedding_dim": 5}
VILT = {"model_type": "vilt", **SMALL, "pad_token_id": None, "image_size": 8, "patch_size": 4}
ANSWERS = {"0": "yes", "1": "no", "2": "two"}


def folder(place, config, family):
    """A Hugging Face folder whose weights count up."""
    model = family.model(config)
    own = abstract(model)
    leaves = {path: table.tensor(np.arange(x.size, dtype=np.float32).reshape(x.shape)) for path, x in own.items()}
    tensors = table.write(table.expand(family.table(model), own), leaves)
    prefix = family.prefix(model)
    place.mkdir()
    readers.write_safetensors(
        place / "model.safetensors", {n if n.startswith(family.bare) else prefix + n: x for n, x in tensors.items()}
    )
    (place / "config.json").write_text(json.dumps(config))
    return place


def test_answers_travel(tmp_path):
    config = VILT | {"architectures": ["ViltForQuestionAnswering"], "id2label": ANSWERS}
    place = folder(tmp_path / "hf", config, vilt.HF)
    found = recognise(str(place))
    assert found.labels == ["yes", "no", "two"]
    assert found.model["heads"] == {"answers": 3}
    meta = save.mmjax_folder(found, f"{tmp_path}/own", "x")
    assert meta["answers"] == ["yes", "no", "two"]
    assert meta["config"]["task"]["name"] == "answers"
    assert meta["config"]["batch"] == {
        "answer_scores": [[3], "float32"],
        "image": [[8, 8, 3], "uint8"],
        "question": [[6], "int32"],
    }
    resize = {"name": "resize", "size": 8, "mode": "squash"}
    tokenise = {"name": "tokenise", "tokenizer": "checkpoint", "length": 6, "bos": "[CLS]", "eos": "[SEP]", "pad_id": 0}
    tokenise |= {"lower": False, "field": "question"}
    assert meta["config"]["eval"]["transforms"] == [{"name": "decode"}, resize, tokenise]
    save.foreign_folder(f"{tmp_path}/own", f"{tmp_path}/back", "hf")
    back = json.loads((tmp_path / "back" / "config.json").read_text())
    assert back["id2label"] == ANSWERS
    assert {key: back[key] for key in ("architectures", "image_size")} == {
        key: config[key] for key in ("architectures", "image_size")
    }
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (place / "model.safetensors").read_bytes()


def test_pretraining_is_what_its_heads_say(tmp_path):
    found = recognise(str(folder(tmp_path / "hf", BERT | {"architectures": ["VisualBertForPreTraining"]}, visualbert.HF)))
    assert found.labels is None
    assert found.model["text"]["pad_id"] == 0  # whatever transformers' default of 1 says
    config = save.run_config(found.model, found.preprocessing)
    assert config["task"] == {"name": "pretraining", "weights": {"masked_tokens": 1.0, "matching": 1.0}}
    assert config["batch"] == {
        "regions": [[36, 5], "float32"],
        "boxes": [[36, 4], "float32"],
        "mlm_labels": [[6], "int32"],
        "group": [[], "int32"],
        "text": [[6], "int32"],
    }


def test_verdicts_are_answers_about_two_pictures(tmp_path):
    kind = {"architectures": ["ViltForImagesAndTextClassification"], "num_images": 2, "modality_type_vocab_size": 3}
    found = recognise(str(folder(tmp_path / "hf", VILT | kind, vilt.HF)))
    config = save.run_config(found.model, found.preprocessing)
    assert config["task"] == {"name": "answers", "loss": "softmax", "pixels": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    assert config["batch"]["image_b"] == config["batch"]["image"] == [[8, 8, 3], "uint8"]


@pytest.mark.parametrize(("family", "config"), [(visualbert.HF, BERT), (vilt.HF, VILT)], ids=["visualbert", "vilt"])
def test_without_a_config_names_tell_the_family(family, config, tmp_path):
    place = folder(tmp_path / "hf", config, family)
    (place / "config.json").unlink()
    with pytest.raises(UserError, match=f"a {family.name} without a config.*--like={next(iter(family.likes))}"):
        recognise(str(place))


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        (visualbert.HF, BERT | {"bypass_transformer": True}, "bypass_transformer"),
        (visualbert.HF, BERT | {"architectures": ["VisualBertForMultipleChoice"]}, "'VisualBertForMultipleChoice' is not read"),
        (vilt.HF, VILT | {"qkv_bias": False}, "qkv_bias false"),
        (vilt.HF, VILT | {"architectures": ["ViltForTokenClassification"]}, "'ViltForTokenClassification' is not read"),
        (
            vilt.HF,
            VILT | {"architectures": ["ViltForImagesAndTextClassification"], "num_images": 3},
            "num_images 3: a head of verdicts here sees two",
        ),
    ],
    ids=["bypass", "choice", "biases", "tokens", "images"],
)
def test_what_is_not_read(family, config, message):
    with pytest.raises(UserError, match=message):
        family.model(config)


@pytest.mark.parametrize(
    "change",
    [{"heads": {"match": True}}, {"visual": {"name": "patches", "size": 8, "patch": 4}}],
    ids=["heads", "patches"],
)
def test_what_transformers_has_no_model_of(change):
    model = visualbert.model(BERT)
    assert save.family_of(model, "hf")[1]["architectures"] == ["VisualBertModel"]
    assert save.family_of(model | {"heads": None}, "hf")[0] is visualbert.HF
    with pytest.raises(UserError, match="no family there has this model"):
        save.family_of({**model, **change}, "hf")
