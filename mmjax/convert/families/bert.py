"""BERT (Devlin et al. 2019), RoBERTa and XLM-R (Liu et al. 2019, Conneau et al. 2020), and sentence encoders such as MiniLM."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.convert.family import Config, Family, Spec, tower, tower_config
from mmjax.convert.table import Row, Tensor, linear, norm
from mmjax.core.errors import UserError

OWN = "params/encoder"
DEFAULTS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
DEFAULTS |= {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "vocab_size": 30522, "max_position_embeddings": 512}
DEFAULTS |= {"type_vocab_size": 2, "pad_token_id": 0}
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def model(config: Config) -> Spec:
    """From config.json, with 1_Pooling/config.json of sentence-transformers under "pooling" where there is one.

    Raises:
      UserError: relative positions, a decoder, or a pooling that is not here.
    """
    config = {**DEFAULTS, **config}
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise UserError("config.json: relative positions or a decoder: our bert has neither")
    offset = 0 if config["model_type"] == "bert" else config["pad_token_id"] + 1
    encoder = {
        "name": "bert",
        "vocab": config["vocab_size"],
        "length": config["max_position_embeddings"] - offset,
        **tower(config),
        "segments": config["type_vocab_size"],
        "pad_id": config["pad_token_id"],
        "offset": offset,
        "pool": _pool(config.get("pooling")),
        "pooler": config.get("pooler", True),
    }
    return {"name": "classifier", "encoder": encoder, "classes": None}


def _pool(pooling: Config | None) -> str:
    if pooling is None:
        return "cls"
    on = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    if len(on) != 1 or on[0] not in POOLINGS:
        raise UserError(f"1_Pooling/config.json: {' and '.join(on) or 'no pooling'}: here are: {', '.join(POOLINGS)}")
    return POOLINGS[on[0]]


def config_of(kind: str, architecture: str):
    """The writer of config.json for a `model_type`."""

    def config(model: Spec) -> dict[str, Any] | None:
        part = model.get("encoder", {})
        if model["name"] != "classifier" or part["name"] != "bert" or model.get("classes") is not None:
            return None
        offset, pad = part.get("offset", 0), part.get("pad_id", 0)
        if offset != (0 if kind == "bert" else pad + 1):
            return None
        numbers = {"vocab_size": part["vocab"], "max_position_embeddings": part["length"] + offset}
        numbers |= {"type_vocab_size": part.get("segments", 2), "pad_token_id": pad, "pooler": part.get("pooler", True)}
        pool = next((mode for mode, name in POOLINGS.items() if name == part.get("pool", "cls")), None)
        pooling = {"word_embedding_dimension": part["width"], pool: True} if pool else None
        extra = {"pooling": pooling} if pool == "pooling_mode_mean_tokens" else {}
        return {"model_type": kind, "architectures": [architecture], **tower_config(part, **numbers), **extra}

    return config


def table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names."""
    return rows(OWN)


def rows(own: str) -> list[Row]:
    """An encoder with its embeddings and pooler."""
    blocks = layers("encoder.layer.{layer}", f"{own}/stack/blocks")
    return [*embeddings("embeddings", own), *blocks, *linear("pooler.dense", f"{own}/pooler")]


def layers(at: str, own: str) -> list[Row]:
    """Post-norm blocks."""
    dense = {f"attention.self.{part}": f"attn/{part}" for part in ("query", "key", "value")}
    dense |= {"attention.output.dense": "attn/out", "intermediate.dense": "mlp/fc1", "output.dense": "mlp/fc2"}
    return [
        *[row for theirs, ours in dense.items() for row in linear(f"{at}.{theirs}", f"{own}/{ours}")],
        *norm(f"{at}.attention.output.LayerNorm", f"{own}/ln1"),
        *norm(f"{at}.output.LayerNorm", f"{own}/ln2"),
    ]


def embeddings(foreign: str, own: str) -> list[Row]:
    """Tokens, positions and segments."""
    tables = {"word": "embed/embedding", "position": "positions", "token_type": "segments"}
    return [
        *[Row(f"{foreign}.{theirs}_embeddings.weight", f"{own}/{ours}") for theirs, ours in tables.items()],
        *norm(f"{foreign}.LayerNorm", f"{own}/ln_embed"),
    ]


def settle(found: Mapping[str, Tensor], config: Config) -> Config:
    """Whether there is a pooler is in the tensors, not in the config."""
    return {**config, "pooler": "pooler.dense.weight" in found}


def text(model: Spec) -> Spec:
    """[CLS] text [SEP], filled with [PAD]; RoBERTa's <s> text </s>."""
    part = model["encoder"]
    names = ("<s>", "</s>") if part.get("offset") else ("[CLS]", "[SEP]")
    return {"length": part["length"], "bos": names[0], "eos": names[1], "pad_id": part.get("pad_id", 0), "lower": False}


DROP = {
    r"(.*\.)?position_ids|(.*\.)?token_type_ids": "numbers 0, 1, 2, ... and zeros",
    r"(cls|lm_head)\..*": "the head that guesses masked words",
    r"classifier\..*|qa_outputs\..*|dropout\..*": "the head of a fine-tuned task",
}
SHARED = {
    "format": "hf",
    "marks": ("embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"),
    "model": model,
    "table": table,
    "settle": settle,
    "drop": DROP,
    "text": text,
}
HF = Family(name="BERT", kinds=("bert",), prefixes=("", "bert."), config=config_of("bert", "BertModel"), **SHARED)
ROBERTA = Family(
    name="RoBERTa", kinds=("roberta",), prefixes=("", "roberta."), config=config_of("roberta", "RobertaModel"), **SHARED
)
XLMR = Family(
    name="XLM-R",
    kinds=("xlm-roberta",),
    prefixes=("", "roberta."),
    config=config_of("xlm-roberta", "XLMRobertaModel"),
    **SHARED,
)
