"""VisualBERT (Li et al. 2019) with Hugging Face's names: the model alone, and with the heads of its tasks."""

from collections.abc import Sequence
from typing import Any

from mmjax.convert.families import bert, vit
from mmjax.convert.family import Config, Family, Spec, tower, tower_config
from mmjax.convert.table import Row, linear, norm
from mmjax.core.errors import UserError

TEXT = "params/text_encoder"
DEFAULTS = {**bert.DEFAULTS, "visual_embedding_dim": 512, "pad_token_id": 1}
# The architecture that holds just these heads.
PRETRAINING, QUESTIONS, TWO, PHRASES = (
    f"VisualBertFor{task}" for task in ("PreTraining", "QuestionAnswering", "VisualReasoning", "RegionToPhraseAlignment")
)
ARCHITECTURES = {
    "VisualBertModel": (),
    PRETRAINING: ("words", "match"),
    QUESTIONS: ("answers",),
    TWO: ("verdicts",),
    PHRASES: ("words", "match", "grounding"),
}


def model(config: Config) -> Spec:
    """From config.json.

    Raises:
      UserError: visual tokens that pass the blocks by, or an architecture that is not here.
    """
    kind = (config.get("architectures") or ["VisualBertModel"])[0]
    if kind not in ARCHITECTURES:
        raise UserError(f"config.json: architecture {kind!r} is not read here; there are: {', '.join(ARCHITECTURES)}")
    names, count = ARCHITECTURES[kind], labels(config)
    config = {**DEFAULTS, **config}
    if config.get("bypass_transformer"):
        raise UserError("config.json: bypass_transformer, visual tokens that only the last block sees, is not read here")
    sizes = {"answers": count, "verdicts": count, "grounding": config["hidden_size"] // config["num_attention_heads"]}
    # Published files say 1, transformers' own default, which nothing reads; their tokenizer is BERT's, which pads with 0.
    pad = 0 if config["pad_token_id"] in (None, 1) else config["pad_token_id"]
    return {
        "name": "visualbert",
        "text": {
            "name": "bert",
            "vocab": config["vocab_size"],
            "length": config["max_position_embeddings"],
            **tower(config),
            "segments": config["type_vocab_size"],
            "pad_id": pad,
            "pool": "before_end" if kind == QUESTIONS else "pooler",
        },
        "visual": {
            "name": "regions",
            "features": config["visual_embedding_dim"],
            "positions": config["max_position_embeddings"],
        },
        "heads": {name: sizes.get(name, True) for name in names},
    }


def labels(config: Config) -> int:
    """Classes of config.json."""
    return len(config["id2label"]) if config.get("id2label") else config.get("num_labels", 2)


def architecture(model: Spec, table: dict[str, tuple[str, ...]]) -> dict[str, Any] | None:
    """Architecture and number of labels for config.json; None where none of `table` has just these heads."""
    heads = {name: size for name, size in (model.get("heads") or {}).items() if size}
    kind = next((kind for kind, names in table.items() if set(names) == heads.keys()), None)
    count = heads.get("answers") or heads.get("verdicts")
    if kind is None or count is None:
        return kind and {"architectures": [kind]}
    names = {str(i): f"LABEL_{i}" for i in range(count)}
    return {"architectures": [kind], "id2label": names, "label2id": {name: int(i) for i, name in names.items()}}


def config(model: Spec) -> dict[str, Any] | None:
    """To config.json."""
    found = architecture(model, ARCHITECTURES) if model["name"] == "visualbert" else None
    if found is None or model["visual"]["name"] != "regions":
        return None
    told = model["text"]
    numbers = {"vocab_size": told["vocab"], "max_position_embeddings": told["length"], "pad_token_id": told.get("pad_id", 0)}
    numbers |= {"type_vocab_size": told.get("segments", 2), "visual_embedding_dim": model["visual"]["features"]}
    return {"model_type": "visual_bert", **tower_config(told, **numbers), **found}


def table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names, without the prefix of a model that has a head."""
    heads = model.get("heads") or {}
    return [
        *bert.rows(TEXT),
        *linear("embeddings.visual_projection", "params/visual_embedding"),
        Row("embeddings.visual_position_embeddings.weight", "params/visual_positions"),
        Row("embeddings.visual_token_type_embeddings.weight", "params/visual_segments"),
        *words("cls.predictions"),
        Row("cls.predictions.bias", "params/words_head/bias"),
        # The code that published weights come from counts a pair that belongs together as class 1 (its is_random_next holds
        # is_correct), as we do; transformers' own description of sentence_image_labels says the reverse.
        *linear("cls.seq_relationship", "params/match_head"),
        *linear("cls", "params/answer_head" if heads.get("answers") else "params/verdict_head"),
        *[row for part in ("query", "key") for row in linear(f"attention.{part}", f"params/grounding_head/{part}")],
    ]


def words(foreign: str) -> list[Row]:
    """The transform of BERT's head of masked words."""
    own = "params/words_head/transform"
    return [*linear(f"{foreign}.transform.dense", f"{own}/dense"), *norm(f"{foreign}.transform.LayerNorm", f"{own}/ln")]


def text(model: Spec) -> Spec:
    """[CLS] text [SEP], filled with [PAD]."""
    return {
        "length": model["text"]["length"],
        "bos": "[CLS]",
        "eos": "[SEP]",
        "pad_id": model["text"].get("pad_id", 0),
        "lower": False,
    }


LIKES = {
    "visualbert-vqa": {"architectures": [QUESTIONS], "visual_embedding_dim": 2048, "num_labels": 3129},
    "visualbert-vqa-coco-pre": {"architectures": [PRETRAINING], "visual_embedding_dim": 2048},
    "visualbert-nlvr2": {"architectures": [TWO], "visual_embedding_dim": 1024},
    "visualbert-nlvr2-coco-pre": {"architectures": [PRETRAINING], "visual_embedding_dim": 1024},
}
HF = Family(
    name="VisualBERT",
    format="hf",
    kinds=("visual_bert",),
    marks=("embeddings.visual_projection.weight",),
    model=model,
    table=table,
    config=config,
    infer=vit.vit_infer,
    likes=LIKES,
    prefixes=("visual_bert.", ""),
    prefix=lambda model: "" if not any((model.get("heads") or {}).values()) else "visual_bert.",
    bare=("cls.", "attention."),
    drop={
        r"(.*\.)?position_ids": "the numbers 0, 1, 2, ...",
        r"cls\.predictions\.decoder\.(weight|bias)": "the word vectors, and the bias that stands beside them",
        r"attention\.value\.(weight|bias)": "what the alignment of regions and phrases has and never uses",
    },
    text=text,
)
