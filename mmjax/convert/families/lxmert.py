"""LXMERT (Tan and Bansal 2019) with Hugging Face's names: the model alone, pretraining's heads, or question answering's."""

from collections.abc import Sequence
from typing import Any

from mmjax.convert.families import bert
from mmjax.convert.families.visualbert import text, words
from mmjax.convert.family import BACK, Config, Family, Spec, activation
from mmjax.convert.table import Row, linear, norm
from mmjax.core.errors import UserError

TEXT, IMAGE, CROSS = "params/text_encoder", "params/image_encoder", "params/cross/blocks"
DEFAULTS = {"vocab_size": 30522, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu"}
DEFAULTS |= {"max_position_embeddings": 512, "type_vocab_size": 2, "l_layers": 9, "x_layers": 5, "r_layers": 5}
DEFAULTS |= {"visual_feat_dim": 2048, "visual_pos_dim": 4, "pad_token_id": 0}
DEFAULTS |= {"num_qa_labels": 9500, "num_object_labels": 1600, "num_attr_labels": 400}
DEFAULTS |= dict.fromkeys(("task_obj_predict", "task_qa", "visual_obj_loss", "visual_attr_loss", "visual_feat_loss"), True)
# Ours, and Hugging Face's switch, size and name, of what a masked region's head gives.
OBJECTS = {
    "label": ("visual_obj_loss", "num_object_labels", "obj"),
    "attribute": ("visual_attr_loss", "num_attr_labels", "attr"),
    "feature": ("visual_feat_loss", "visual_feat_dim", "feat"),
}
ALONE, PRETRAINING, QUESTIONS = "LxmertModel", "LxmertForPreTraining", "LxmertForQuestionAnswering"


def model(config: Config) -> Spec:
    """From config.json.

    Raises:
      UserError: boxes of another number of sides than four, or an architecture that is not here.
    """
    kind = (config.get("architectures") or [ALONE])[0]
    if kind not in (ALONE, PRETRAINING, QUESTIONS):
        raise UserError(f"config.json: architecture {kind!r} is not read here; there are: {ALONE}, {PRETRAINING}, {QUESTIONS}")
    config = {**DEFAULTS, **config}
    if config["visual_pos_dim"] != 4:
        raise UserError(f"config.json: visual_pos_dim {config['visual_pos_dim']}: boxes here have four numbers")
    sizes = {"width": config["hidden_size"], "heads": config["num_attention_heads"], "mlp": config["intermediate_size"]}
    sizes["act"] = activation(config["hidden_act"])
    text = {"vocab": config["vocab_size"], "length": config["max_position_embeddings"], "segments": config["type_vocab_size"]}
    text |= {"pad_id": config["pad_token_id"] or 0, "pooler": False}
    return {
        "name": "lxmert",
        "image": {"name": "regions", "features": config["visual_feat_dim"], "depth": config["r_layers"], **sizes},
        "text": {"name": "bert", "depth": config["l_layers"], **sizes, **text},
        "cross": {"name": "co_attention", "depth": config["x_layers"], **sizes},
        "heads": _heads(kind, config),
    }


def _heads(kind: str, config: Config) -> Spec:
    heads: Spec = {"words": True, "match": True} if kind == PRETRAINING else {}
    if kind == QUESTIONS or (kind == PRETRAINING and config["task_qa"]):
        heads["answers"] = config["num_qa_labels"]
    if kind == PRETRAINING and config["task_obj_predict"]:
        heads["objects"] = {ours: config[size] for ours, (switch, size, _) in OBJECTS.items() if config[switch]}
    return heads


def config(model: Spec) -> dict[str, Any] | None:
    """To config.json."""
    heads = {name: size for name, size in (model.get("heads") or {}).items() if size}
    kinds = {(): ALONE, ("answers",): QUESTIONS}
    kind = PRETRAINING if {"words", "match"} <= heads.keys() else kinds.get(tuple(heads))
    if model["name"] != "lxmert" or model["image"]["name"] != "regions" or kind is None:
        return None
    text, image, objects = model["text"], model["image"], heads.get("objects") or {}
    numbers = {"vocab_size": text["vocab"], "max_position_embeddings": text["length"], "pad_token_id": text.get("pad_id", 0)}
    numbers |= {"type_vocab_size": text.get("segments", 2), "visual_feat_dim": image["features"], "visual_pos_dim": 4}
    numbers |= {"hidden_size": text["width"], "num_attention_heads": text["heads"], "intermediate_size": text["mlp"]}
    numbers |= {"l_layers": text["depth"], "r_layers": image["depth"], "x_layers": model["cross"]["depth"]}
    numbers |= {"hidden_act": BACK[text.get("act", "gelu")], "num_qa_labels": heads.get("answers", DEFAULTS["num_qa_labels"])}
    for ours, (switch, size, _) in OBJECTS.items():
        numbers |= {switch: ours in objects or not objects} | ({size: objects[ours]} if ours in objects else {})
    switches = {"task_mask_lm": True, "task_matched": True, "task_obj_predict": bool(objects), "task_qa": "answers" in heads}
    return {"model_type": "lxmert", "architectures": [kind], **numbers, **switches}


def table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names, without the prefix of a model that has a head."""
    seen, cross = "encoder.visn_fc", "encoder.x_layers.{layer}"
    objects, answers, regions = "obj_predict_head", "answer_head.logit_fc", "params/objects_head"
    decoders = f"{objects}.decoder_dict"
    return [
        *bert.embeddings("embeddings", TEXT),
        *bert.layers("encoder.layer.{layer}", f"{TEXT}/stack/blocks"),
        *linear(f"{seen}.visn_fc", f"{IMAGE}/fc"),
        *norm(f"{seen}.visn_layer_norm", f"{IMAGE}/ln"),
        *linear(f"{seen}.box_fc", f"{IMAGE}/box"),
        *norm(f"{seen}.box_layer_norm", f"{IMAGE}/ln_box"),
        *bert.layers("encoder.r_layers.{layer}", f"{IMAGE}/stack/blocks"),
        *_attention(f"{cross}.visual_attention", "att", f"{CROSS}/cross", f"{CROSS}/ln_cross"),
        *[row for theirs, ours in (("lang", "text"), ("visn", "visual")) for row in _stream(f"{cross}.{theirs}", ours)],
        *linear("pooler.dense", "params/pooler"),
        *words("cls.predictions"),
        Row("cls.predictions.bias", "params/words_head/bias"),
        *linear("cls.seq_relationship", "params/match_head"),
        *linear(f"{objects}.transform.dense", f"{regions}/transform/dense"),
        *norm(f"{objects}.transform.LayerNorm", f"{regions}/transform/ln"),
        *[row for ours, (*_, theirs) in OBJECTS.items() for row in linear(f"{decoders}.{theirs}", f"{regions}/outputs/{ours}")],
        *linear(f"{answers}.0", "params/answer_head/transform/dense"),
        *norm(f"{answers}.2", "params/answer_head/transform/ln"),
        *linear(f"{answers}.3", "params/answer_head/out"),
    ]


def _attention(at: str, inside: str, own: str, ln: str) -> list[Row]:
    inner = [row for part in ("query", "key", "value") for row in linear(f"{at}.{inside}.{part}", f"{own}/{part}")]
    return [*inner, *linear(f"{at}.output.dense", f"{own}/out"), *norm(f"{at}.output.LayerNorm", ln)]


def _stream(at: str, ours: str) -> list[Row]:
    """Self-attention and MLP of one modality in a cross-modality layer."""
    own = f"{CROSS}/{ours}"
    return [
        *_attention(f"{at}_self_att", "self", f"{own}/attn", f"{own}/ln1"),
        *linear(f"{at}_inter.dense", f"{own}/mlp/fc1"),
        *linear(f"{at}_output.dense", f"{own}/mlp/fc2"),
        *norm(f"{at}_output.LayerNorm", f"{own}/ln2"),
    ]


def prefix(model: Spec) -> str:
    """What stands before all names but the heads'."""
    return "lxmert." if any((model.get("heads") or {}).values()) else ""


HF = Family(
    name="LXMERT",
    format="hf",
    kinds=("lxmert",),
    marks=("encoder.visn_fc.visn_fc.weight", "embeddings.word_embeddings.weight"),
    model=model,
    table=table,
    config=config,
    prefixes=("lxmert.", ""),
    prefix=prefix,
    bare=("cls.", "obj_predict_head.", "answer_head."),
    drop={r"(.*\.)?position_ids": "numbers 0, 1, 2, ...", r"cls\.predictions\.decoder\.weight": "the word vectors"},
    text=text,
)
