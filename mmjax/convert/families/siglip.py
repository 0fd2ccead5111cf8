"""SigLIP (Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025): Hugging Face's names, and big_vision's npz.

SigLIP 2 at a fixed resolution is SigLIP (`model_type` "siglip") with Gemma's tokenizer. NaFlex, whose pictures keep their
aspect, is "siglip2": it has the same names, a linear map of patches where SigLIP has a convolution, and a grid of positions.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.convert.families.clip import IMAGE, TEXT, hf_blocks
from mmjax.convert.family import Config, Family, Spec, tower, tower_config
from mmjax.convert.table import Row, Tensor, linear, norm
from mmjax.core.errors import UserError

EPS = 1e-6
TEXT_DEFAULTS = {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
TEXT_DEFAULTS |= {"num_attention_heads": 12, "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh"}
TEXT_DEFAULTS |= {"layer_norm_eps": EPS}
VISION_DEFAULTS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
VISION_DEFAULTS |= {
    "image_size": 224,
    "patch_size": 16,
    "num_patches": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": EPS,
}
GEMMA = 256_000  # SigLIP 2's vocabulary


def spec(image: Spec, text: Spec, dim: int, text_projection: str = "bias") -> Spec:
    """SigLIP as our dual encoder; the picture's pooled vector is its embedding."""
    fixed = {"name": "naflex"} if "grid" in image else {"name": "vit", "pool": "map", "class_token": False}
    return {
        "name": "dual_encoder",
        "dim": dim,
        "image": {**fixed, **image},
        "text": {"name": "text_transformer", **text, "pool": "last"},
        "image_projection": "none",
        "text_projection": text_projection,
        "logit_scale": 10.0,
        "max_logit_scale": None,
        "logit_bias": -10.0,
    }


def hf_model(config: Config) -> Spec:
    """From config.json."""
    text, vision = (
        TEXT_DEFAULTS | dict(config.get("text_config") or {}),
        VISION_DEFAULTS | dict(config.get("vision_config") or {}),
    )
    dim = text.get("projection_size") or text["hidden_size"]
    if dim != vision["hidden_size"]:
        raise UserError(f"config.json: text projection_size {dim} is not vision hidden_size {vision['hidden_size']}")
    place = {"size": vision["image_size"]}
    if config.get("model_type") == "siglip2":
        side = math.isqrt(vision["num_patches"])
        if side**2 != vision["num_patches"]:
            raise UserError(f"config.json: vision num_patches {vision['num_patches']} is no square, as its positions need")
        place = {"grid": side}
    return spec(
        tower(vision, patch=vision["patch_size"], **place),
        tower(text, vocab=text["vocab_size"], length=text["max_position_embeddings"]),
        dim,
        config.get("text_projection", "bias"),
    )


def hf_config(model: Spec) -> dict[str, Any] | None:
    """To config.json."""
    if model["name"] != "dual_encoder":
        return None
    image, text = model["image"], model["text"]
    flexible = image["name"] == "naflex"
    if not flexible and (image["name"] != "vit" or image.get("pool") != "map"):
        return None
    kind, architecture = ("siglip2", "Siglip2") if flexible else ("siglip", "Siglip")
    place = {"num_patches": image["grid"] ** 2} if flexible else {"image_size": image["size"]}
    numbers = {"vocab_size": text["vocab"], "max_position_embeddings": text["length"], "projection_size": model["dim"]}
    return {
        "model_type": kind,
        "architectures": [f"{architecture}Model"],
        "text_config": tower_config(text, model_type=f"{kind}_text_model", **numbers),
        "vision_config": tower_config(image, model_type=f"{kind}_vision_model", patch_size=image["patch"], **place),
    }


def hf_table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names."""
    vision, text, head = "vision_model", "text_model", "vision_model.head"
    pool = f"{IMAGE}/map"
    flexible = model["image"]["name"] == "naflex"
    patches, how = (f"{IMAGE}/patches", "linear") if flexible else (f"{IMAGE}/patches/conv", "conv")
    qkv = {leaf: tuple(f"{pool}/attn/{part}/{leaf}" for part in ("query", "key", "value")) for leaf in ("kernel", "bias")}
    return [
        Row(f"{vision}.embeddings.patch_embedding.weight", f"{patches}/kernel", how),
        Row(f"{vision}.embeddings.patch_embedding.bias", f"{patches}/bias"),
        Row(f"{vision}.embeddings.position_embedding.weight", f"{IMAGE}/positions"),
        *hf_blocks(f"{vision}.encoder", f"{IMAGE}/stack/blocks"),
        *norm(f"{vision}.post_layernorm", f"{IMAGE}/ln_post"),
        Row(f"{head}.probe", f"{pool}/probe", "row"),
        Row(f"{head}.attention.in_proj_weight", qkv["kernel"], "qkv"),
        Row(f"{head}.attention.in_proj_bias", qkv["bias"], "qkv"),
        *linear(f"{head}.attention.out_proj", f"{pool}/attn/out"),
        *norm(f"{head}.layernorm", f"{pool}/ln"),
        *linear(f"{head}.mlp.fc1", f"{pool}/mlp/fc1"),
        *linear(f"{head}.mlp.fc2", f"{pool}/mlp/fc2"),
        Row(f"{text}.embeddings.token_embedding.weight", f"{TEXT}/embed/embedding"),
        Row(f"{text}.embeddings.position_embedding.weight", f"{TEXT}/positions"),
        *hf_blocks(f"{text}.encoder", f"{TEXT}/stack/blocks"),
        *norm(f"{text}.final_layer_norm", f"{TEXT}/ln_final"),
        *linear(f"{text}.head", "params/text_projection"),
        Row("logit_scale", "params/logit_scale", "row"),
        Row("logit_bias", "params/logit_bias", "row"),
    ]


def npz_table(model: Spec) -> Sequence[Row]:
    """big_vision's names without "params/", which are Flax's: kernels as ours, attention's with an axis for the heads."""
    image, text = model["image"], model["text"]
    pool, head = f"{IMAGE}/map", "img/MAPHead_0"
    flexible = image["name"] == "naflex"
    return [
        *_plain("img/embedding", f"{IMAGE}/patches" if flexible else f"{IMAGE}/patches/conv", ("kernel", "bias")),
        Row("img/pos_embedding", f"{IMAGE}/positions", "grid" if flexible else "row"),
        *_npz_blocks("img/Transformer", f"{IMAGE}/stack/blocks", image["heads"]),
        *_plain("img/Transformer/encoder_norm", f"{IMAGE}/ln_post", ("scale", "bias")),
        Row(f"{head}/probe", f"{pool}/probe", "row"),
        *_npz_attention(f"{head}/MultiHeadDotProductAttention_0", f"{pool}/attn", image["heads"]),
        *_plain(f"{head}/LayerNorm_0", f"{pool}/ln", ("scale", "bias")),
        *_npz_mlp(f"{head}/MlpBlock_0", f"{pool}/mlp"),
        Row("txt/Embed_0/embedding", f"{TEXT}/embed/embedding"),
        Row("txt/pos_embedding", f"{TEXT}/positions", "row"),
        *_npz_blocks("txt/Encoder_0", f"{TEXT}/stack/blocks", text["heads"]),
        *_plain("txt/Encoder_0/encoder_norm", f"{TEXT}/ln_final", ("scale", "bias")),
        *_plain("txt/head", "params/text_projection", ("kernel", "bias")),
        Row("t", "params/logit_scale", "row"),
        Row("b", "params/logit_bias", "row"),
    ]


def npz_infer(found: Mapping[str, Tensor], like: Config) -> dict[str, Any] | None:
    """All is in the shapes, heads too. Some multilingual ones have no head on the text tower."""
    shape = {name: tensor.shape for name, tensor in found.items()}

    def part(prefix: str) -> dict[str, Any]:
        inside = f"{prefix}/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel"
        hidden, heads, _ = shape[inside]
        depth = sum(name.startswith(f"{prefix}/encoderblock_") and name.endswith("LayerNorm_0/scale") for name in shape)
        mlp = shape[f"{prefix}/encoderblock_0/MlpBlock_0/Dense_0/kernel"][1]
        return {"hidden_size": hidden, "num_hidden_layers": depth, "num_attention_heads": heads, "intermediate_size": mlp}

    kernel, positions = shape["img/embedding/kernel"], shape["img/pos_embedding"]
    if len(kernel) == 2:
        place = {"patch_size": math.isqrt(kernel[0] // 3), "num_patches": positions[0] * positions[1]}
    else:
        place = {"patch_size": kernel[0], "image_size": math.isqrt(positions[1]) * kernel[0]}
    words = {"vocab_size": shape["txt/Embed_0/embedding"][0], "max_position_embeddings": shape["txt/pos_embedding"][1]}
    if (head := shape.get("txt/head/kernel")) is not None:
        words["projection_size"] = head[1]
    return {
        "model_type": "siglip2" if len(kernel) == 2 else "siglip",
        "text_projection": "none" if head is None else "bias",
        "text_config": {**part("txt/Encoder_0"), **words},
        "vision_config": {**part("img/Transformer"), **place},
    }


def npz_config(model: Spec) -> dict[str, Any] | None:
    """Config of what is written, as `npz_infer` would give it."""
    config = hf_config(model)
    return config and {**config, "text_projection": model.get("text_projection", "linear")}


def _plain(foreign: str, own: str, leaves: Sequence[str]) -> list[Row]:
    return [Row(f"{foreign}/{leaf}", f"{own}/{leaf}") for leaf in leaves]


def _npz_attention(foreign: str, own: str, heads: int) -> list[Row]:
    rows = []
    for part in ("query", "key", "value"):
        rows.append(Row(f"{foreign}/{part}/kernel", f"{own}/{part}/kernel", "heads_in", heads))
        rows.append(Row(f"{foreign}/{part}/bias", f"{own}/{part}/bias", "heads_in", heads))
    return [
        *rows,
        Row(f"{foreign}/out/kernel", f"{own}/out/kernel", "heads_out", heads),
        Row(f"{foreign}/out/bias", f"{own}/out/bias"),
    ]


def _npz_mlp(foreign: str, own: str) -> list[Row]:
    return [
        row
        for i, part in enumerate(("fc1", "fc2"))
        for row in _plain(f"{foreign}/Dense_{i}", f"{own}/{part}", ("kernel", "bias"))
    ]


def _npz_blocks(foreign: str, own: str, heads: int) -> list[Row]:
    at = foreign + "/encoderblock_{layer}"
    return [
        *_plain(f"{at}/LayerNorm_0", f"{own}/ln1", ("scale", "bias")),
        *_npz_attention(f"{at}/MultiHeadDotProductAttention_0", f"{own}/attn", heads),
        *_plain(f"{at}/LayerNorm_1", f"{own}/ln2", ("scale", "bias")),
        *_npz_mlp(f"{at}/MlpBlock_0", f"{own}/mlp"),
    ]


def text(model: Spec) -> Spec:
    """SigLIP: punctuation goes, </s> closes and fills. SigLIP 2: Gemma's tokens, <eos> closes, <pad> (0) fills."""
    if model["text"]["vocab"] >= GEMMA or model["image"]["name"] == "naflex":
        return {"length": model["text"]["length"], "bos": None, "eos": "<eos>", "pad_id": 0, "lower": True}
    return {"length": model["text"]["length"], "bos": None, "eos": "</s>", "pad_id": 1, "lower": True, "punctuation": False}


HF = Family(
    name="SigLIP",
    format="hf",
    kinds=("siglip", "siglip2"),
    marks=("vision_model.head.probe", "text_model.head.weight", "logit_bias"),
    model=hf_model,
    table=hf_table,
    config=hf_config,
    drop={r".*\.position_ids": "the numbers 0, 1, 2, ..."},
    text=text,
    resize={"mode": "squash"},
)
NPZ = Family(
    name="SigLIP",
    format="npz",
    # Published files hold parameters alone, with "params/" in front or without; checkpoints of runs the optimizer's state too.
    marks=("img/embedding/kernel", "txt/Embed_0/embedding"),
    prefixes=("params/", "opt/target/", ""),
    prefix=lambda model: "params/",
    model=hf_model,
    table=npz_table,
    config=npz_config,
    infer=npz_infer,
    drop={r"opt/.*|extra/.*": "the state of an optimizer, and of a run"},
    text=text,
    resize={"mode": "squash"},
)
