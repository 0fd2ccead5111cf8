"""open_clip's configs: which towers are read, and one line on those that are not."""

import json

import numpy as np
import pytest

from mmjax.convert import readers, save, table
from mmjax.convert.families import clip, coca, resnet
from mmjax.convert.recognise import abstract, recognise
from mmjax.core.errors import UserError

VISION = {"image_size": 8, "patch_size": 4, "width": 8, "layers": 1, "head_width": 4}
TEXT = {"context_length": 6, "vocab_size": 9, "width": 8, "heads": 2, "layers": 1, "embed_cls": True}
POOLER = {"attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 2}


def config(vision=None, text=None):
    vision, text = VISION | (vision or {}), TEXT | (text or {})
    return {"embed_dim": 6, "vision_cfg": vision, "text_cfg": text, "multimodal_cfg": {"width": 8, "n_queries": 256}}


def folder(place, config, tensors, preprocess=None):
    place.mkdir()
    readers.write_safetensors(place / "open_clip_model.safetensors", tensors)
    (place / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess or {}}))
    return place


@pytest.mark.parametrize("pooler", [POOLER, {}], ids=["pooler", "class_token"])
def test_coca_there_and_back(pooler, tmp_path):
    spec = coca.model(config(pooler))
    assert spec["image"]["pool"] == ("query" if pooler else "cls")
    own, rng = abstract(spec), np.random.default_rng(0)
    leaves = {path: table.tensor(rng.normal(size=x.shape).astype(np.float16)) for path, x in own.items()}
    tensors = table.write(table.expand(coca.table(spec), own), leaves)
    assert ("visual.attn_pool.query" in tensors) == bool(pooler)
    decoder = {"text_decoder.ln_final.weight": table.tensor(np.ones(8, np.float16))}
    found = recognise(str(folder(tmp_path / "in", config(pooler), tensors | decoder)))
    assert (found.model, found.dropped) == (spec, {"text_decoder.ln_final.weight": "the decoder of captions"})
    save.mmjax_folder(found, f"{tmp_path}/mmjax", "x")
    assert save.foreign_folder(f"{tmp_path}/mmjax", f"{tmp_path}/out", "open_clip")[0] is coca.OPEN_CLIP
    back = readers.read(tmp_path / "out")
    assert {name: x.read().tobytes() for name, x in back.items()} == {name: x.read().tobytes() for name, x in tensors.items()}
    said = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["model_cfg"]
    assert coca.model(said) == spec


@pytest.mark.parametrize("model", [clip.open_clip_model, coca.model, resnet.clip_model], ids=["clip", "coca", "resnet"])
@pytest.mark.parametrize(
    ("vision", "text", "message"),
    [
        ({"timm_model_name": "vit_base"}, {}, "timm_model_name 'vit_base' is a tower of another library"),
        ({}, {"hf_model_name": "roberta-base"}, "hf_model_name 'roberta-base' is a tower of another library"),
        ({"pool_type": "avg"}, {}, "vision_cfg has pool_type 'avg', which no tower here computes"),
        ({"no_ln_pre": True}, {}, "vision_cfg has no_ln_pre True"),
        ({"ls_init_value": 1e-4}, {}, "vision_cfg has ls_init_value 0.0001"),
        ({}, {"no_causal_mask": True}, "text_cfg has no_causal_mask True"),
        ({}, {"norm_kwargs": {"eps": 1e-6}}, "text_cfg has norm_kwargs {'eps': 1e-06}"),
    ],
    ids=["timm", "hf", "average", "no_norm", "layer_scale", "both_ways", "eps"],
)
def test_what_is_not_read(vision, text, message, model):
    with pytest.raises(UserError, match=message):
        model(config(vision, text))


def test_a_second_pooler_is_not_read():
    with pytest.raises(UserError, match="attentional_pool 'cascade' has a second pooler"):
        coca.model(config({"attentional_pool": "cascade"}))


def test_names_of_another_library_s_tower_are_no_riddle(tmp_path):
    tensors = {"visual.class_embedding": table.tensor(np.ones(8, np.float32))}
    tensors |= {"text.transformer.embeddings.word_embeddings.weight": table.tensor(np.ones((9, 8), np.float32))}
    place = folder(tmp_path / "in", config(text={"hf_model_name": "roberta-base"}), tensors)
    with pytest.raises(UserError, match="hf_model_name 'roberta-base' is a tower of another library, which is not read here"):
        recognise(str(place))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"size": 16}, "preprocess_cfg's size 16 is not the model's image_size 8"),
        ({"size": [16, 16]}, "preprocess_cfg's size .* is not the model's image_size 8"),
        ({"interpolation": "nearest"}, "interpolation 'nearest' is neither bilinear nor bicubic"),
        ({"resize_mode": "widest"}, "resize_mode 'widest' is none of shortest, longest, squash"),
    ],
    ids=["size", "sides", "filter", "mode"],
)
def test_preprocessing_that_contradicts_the_model(said, message, tmp_path):
    spec = coca.model(config())
    own = abstract(spec)
    leaves = {path: table.tensor(np.zeros(x.shape, np.float32)) for path, x in own.items()}
    place = folder(tmp_path / "in", config(), table.write(table.expand(coca.table(spec), own), leaves), said)
    with pytest.raises(UserError, match=message):
        recognise(str(place))
