"""ViLT (Kim et al. 2021) with Hugging Face's names: the model alone, and with the heads of its tasks."""

from collections.abc import Sequence
from typing import Any

from mmjax.convert.families import bert, vit
from mmjax.convert.families.visualbert import architecture, labels, text, words
from mmjax.convert.family import Config, Family, Spec, tower, tower_config
from mmjax.convert.table import Row, linear, norm
from mmjax.core.errors import UserError

IMAGE, TEXT = "params/image_encoder", "params/text_encoder"
DEFAULTS = {**bert.DEFAULTS, "max_position_embeddings": 40, "image_size": 384, "patch_size": 32, "modality_type_vocab_size": 2}
# The architecture that holds just these heads.
ARCHITECTURES = {
    "ViltModel": (),
    "ViltForMaskedLM": ("words",),
    "ViltForImageAndTextRetrieval": ("rank",),
    "ViltForQuestionAnswering": ("answers",),
    "ViltForImagesAndTextClassification": ("verdicts",),
}


def model(config: Config) -> Spec:
    """From config.json.

    Raises:
      UserError: attention without biases, another number of pictures than two, or an architecture that is not here.
    """
    kind = (config.get("architectures") or ["ViltModel"])[0]
    if kind not in ARCHITECTURES:
        raise UserError(f"config.json: architecture {kind!r} is not read here; there are: {', '.join(ARCHITECTURES)}")
    names, count = ARCHITECTURES[kind], labels(config)
    config = {**DEFAULTS, **config}
    if not config.get("qkv_bias", True):
        raise UserError("config.json: qkv_bias false: our attention has biases")
    if "verdicts" in names and config.get("num_images") != 2:
        raise UserError(f"config.json: num_images {config.get('num_images')}: a head of verdicts here sees two pictures")
    return {
        "name": "vilt",
        "image": {"name": "vit", "size": config["image_size"], "patch": config["patch_size"], **tower(config)},
        "text": {
            "name": "bert",
            "vocab": config["vocab_size"],
            "length": config["max_position_embeddings"],
            **tower(config, depth=0),
            "segments": config["type_vocab_size"],
            "pad_id": config["pad_token_id"] or 0,
            "pool": "pooler",
        },
        "types": config["modality_type_vocab_size"],
        "heads": {name: count if name in ("answers", "verdicts") else True for name in names},
    }


def config(model: Spec) -> dict[str, Any] | None:
    """To config.json."""
    found = architecture(model, ARCHITECTURES) if model["name"] == "vilt" else None
    if found is None:
        return None
    image, told = model["image"], model["text"]
    numbers = {"vocab_size": told["vocab"], "max_position_embeddings": told["length"], "pad_token_id": told.get("pad_id", 0)}
    numbers |= {"type_vocab_size": told.get("segments", 2), "modality_type_vocab_size": model.get("types", 2)}
    numbers |= {"image_size": image["size"], "patch_size": image["patch"], "qkv_bias": True, "max_image_length": -1}
    numbers |= {"num_images": 2} if (model.get("heads") or {}).get("verdicts") else {}
    return {"model_type": "vilt", **tower_config(image, **numbers), **found}


def table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names, without the prefix of a model that has a head."""
    head = "params/answer_head" if (model.get("heads") or {}).get("answers") else "params/verdict_head"
    return [
        *vit.vit_rows(IMAGE),
        *bert.embeddings("embeddings.text_embeddings", TEXT),
        Row("embeddings.token_type_embeddings.weight", "params/types"),
        *linear("pooler.dense", f"{TEXT}/pooler"),
        *words("mlm_score"),
        Row("mlm_score.decoder.bias", "params/words_head/bias"),
        *linear("rank_output", "params/rank_head"),
        *linear("classifier.0", f"{head}/dense"),
        *norm("classifier.1", f"{head}/ln"),
        *linear("classifier.3", f"{head}/out"),
    ]


LIKES = {
    "vilt-b32-mlm": {"architectures": ["ViltForMaskedLM"]},
    "vilt-b32-finetuned-vqa": {"architectures": ["ViltForQuestionAnswering"], "num_labels": 3129},
    "vilt-b32-finetuned-coco": {"architectures": ["ViltForImageAndTextRetrieval"]},
    "vilt-b32-finetuned-nlvr2": {
        "architectures": ["ViltForImagesAndTextClassification"],
        "modality_type_vocab_size": 3,
        "num_images": 2,
    },
}
HF = Family(
    name="ViLT",
    format="hf",
    kinds=("vilt",),
    marks=("embeddings.text_embeddings.word_embeddings.weight", "embeddings.cls_token"),
    model=model,
    table=table,
    config=config,
    infer=vit.vit_infer,
    likes=LIKES,
    prefixes=("vilt.", ""),
    prefix=lambda model: "" if not any((model.get("heads") or {}).values()) else "vilt.",
    bare=("mlm_score.", "rank_output.", "classifier."),
    drop={
        r"(.*\.)?(position_ids|token_type_ids)": "numbers 0, 1, 2, ... and zeros",
        r"mlm_score\.(decoder\.weight|bias)": "the word vectors, and the bias that stands beside them",
    },
    text=text,
    # ViLT itself keeps a picture's shape, its shorter side of 384 pixels; pictures are squares here.
    resize={"mode": "squash"},
)
