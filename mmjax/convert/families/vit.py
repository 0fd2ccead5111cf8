"""Single picture encoders with Hugging Face's names: ViT (Dosovitskiy et al. 2021) and DINOv2 (Oquab et al. 2023)."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.convert.family import Config, Family, Spec, tower, tower_config
from mmjax.convert.table import Row, Tensor, linear, norm
from mmjax.core.errors import UserError

OWN = "params/encoder"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
DEFAULTS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
DEFAULTS |= {"hidden_act": "gelu", "image_size": 224, "patch_size": 16}


def labels(config: Config) -> int | None:
    """Classes of config.json; None for a file without a head, whose architecture says so."""
    if not any("ForImageClassification" in name for name in config.get("architectures") or ()):
        return None
    return len(config["id2label"]) if config.get("id2label") else config.get("num_labels", 2)


def head_config(model: Spec, bare: str, head: str) -> dict[str, Any]:
    """Architecture and number of labels for config.json."""
    if model.get("classes") is None:
        return {"architectures": [bare]}
    names = {str(i): f"LABEL_{i}" for i in range(model["classes"])}
    return {"architectures": [head], "id2label": names, "label2id": {name: int(i) for i, name in names.items()}}


def vit_model(config: Config) -> Spec:
    """From config.json."""
    config = {**DEFAULTS, "layer_norm_eps": 1e-12, **config}
    if not config.get("qkv_bias", True):
        raise UserError("config.json: qkv_bias false: our attention has biases")
    encoder = {"name": "vit", "size": config["image_size"], "patch": config["patch_size"], **tower(config), "pool": "cls"}
    return {"name": "classifier", "encoder": encoder, "classes": labels(config)}


def vit_config(model: Spec) -> dict[str, Any] | None:
    """To config.json."""
    if model["name"] != "classifier" or model["encoder"]["name"] != "vit" or model["encoder"].get("layer_scale"):
        return None
    part = model["encoder"]
    pixels = {"image_size": part["size"], "patch_size": part["patch"], "num_channels": 3, "qkv_bias": True}
    return {"model_type": "vit", **tower_config(part, **pixels), **head_config(model, "ViTModel", "ViTForImageClassification")}


def blocks(mlp: Mapping[str, str], norms: tuple[str, str], scales: bool, encoder: str = OWN) -> list[Row]:
    """A layer of Hugging Face's ViT and of what was made after it."""
    at, own = "encoder.layer.{layer}", f"{encoder}/stack/blocks"
    attention = {f"attention.attention.{part}": part for part in ("query", "key", "value")}
    attention["attention.output.dense"] = "out"
    rows = [row for i, name in enumerate(norms) for row in norm(f"{at}.{name}", f"{own}/ln{i + 1}")]
    rows += [row for theirs, ours in attention.items() for row in linear(f"{at}.{theirs}", f"{own}/attn/{ours}")]
    rows += [row for theirs, ours in mlp.items() for row in linear(f"{at}.{theirs}", f"{own}/mlp/{ours}")]
    return rows + [Row(f"{at}.layer_scale{i}.lambda1", f"{own}/scale{i}") for i in (1, 2) if scales]


def embeddings(encoder: str = OWN) -> list[Row]:
    """Patches, class token, positions and the last LayerNorm."""
    return [
        Row("embeddings.cls_token", f"{encoder}/class_token", "rows"),
        Row("embeddings.position_embeddings", f"{encoder}/positions", "row"),
        Row("embeddings.patch_embeddings.projection.weight", f"{encoder}/patches/conv/kernel", "conv"),
        Row("embeddings.patch_embeddings.projection.bias", f"{encoder}/patches/conv/bias"),
        *norm("layernorm", f"{encoder}/ln_post"),
    ]


def vit_table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names, without the prefix of a model that has a head."""
    return vit_rows() + linear("classifier", "params/head")


def vit_rows(encoder: str = OWN) -> list[Row]:
    """An encoder with its embeddings."""
    mlp = {"intermediate.dense": "fc1", "output.dense": "fc2"}
    return [*embeddings(encoder), *blocks(mlp, ("layernorm_before", "layernorm_after"), False, encoder)]


def dino_model(config: Config) -> Spec:
    """From config.json.

    Raises:
      UserError: a gated MLP (giant), or a head, which reads two vectors.
    """
    config = {**DEFAULTS, "layer_norm_eps": 1e-6, "patch_size": 14, "mlp_ratio": 4, **config}
    if config.get("use_swiglu_ffn"):
        raise UserError("config.json: use_swiglu_ffn, the gated MLP of DINOv2 giant, is not read here")
    if labels(config) is not None:
        raise UserError("config.json: DINOv2 with a classification head is not read here: take the model without")
    config["intermediate_size"] = int(config["hidden_size"] * config["mlp_ratio"])
    encoder = {"name": "vit", "size": config["image_size"], "patch": config["patch_size"], **tower(config), "pool": "cls"}
    return {"name": "classifier", "encoder": {**encoder, "layer_scale": True, "resize": "torch"}, "classes": None}


def dino_config(model: Spec) -> dict[str, Any] | None:
    """To config.json."""
    if model["name"] != "classifier" or model["encoder"]["name"] != "vit" or not model["encoder"].get("layer_scale"):
        return None
    part = model["encoder"]
    if part["mlp"] % part["width"]:
        return None
    pixels = {"image_size": part["size"], "patch_size": part["patch"], "mlp_ratio": part["mlp"] // part["width"]}
    config = tower_config(part, **pixels)
    del config["intermediate_size"]
    return {"model_type": "dinov2", "architectures": ["Dinov2Model"], "use_swiglu_ffn": False, **config}


def dino_table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names."""
    return [*embeddings(), *blocks({"mlp.fc1": "fc1", "mlp.fc2": "fc2"}, ("norm1", "norm2"), scales=True)]


def vit_infer(found: Mapping[str, Tensor], like: Config) -> dict[str, Any] | None:
    """Heads and activation are not in the shapes."""
    return dict(like) if like else None


VIT = Family(
    name="ViT",
    format="hf",
    kinds=("vit",),
    marks=("encoder.layer.0.layernorm_before.weight", "embeddings.cls_token"),
    model=vit_model,
    table=vit_table,
    config=vit_config,
    infer=vit_infer,
    prefixes=("vit.", ""),
    prefix=lambda model: "" if model.get("classes") is None else "vit.",
    drop={r"pooler\.dense\.(weight|bias)": "ViTModel's pooler: classification reads the class token itself"},
    resize={"mode": "squash", "filter": "bilinear"},
)
DINO = Family(
    name="DINOv2",
    format="hf",
    kinds=("dinov2",),
    marks=("encoder.layer.0.layer_scale1.lambda1",),
    model=dino_model,
    table=dino_table,
    config=dino_config,
    any_size=True,
    drop={r"embeddings\.mask_token": "what masked training puts in place of patches"},
    resize={"mode": "shortest", "crop": 224, "size": 256, "centre": "floor"},
    **IMAGENET,
)
