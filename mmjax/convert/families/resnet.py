"""ResNets: Hugging Face's ResNet (He et al. 2016), and CLIP's own with OpenCLIP's names."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.convert.families import clip
from mmjax.convert.families.vit import IMAGENET, head_config, labels
from mmjax.convert.family import Config, Family, Spec
from mmjax.convert.table import Row, Tensor, batch_norm, linear
from mmjax.core.errors import UserError

OWN = "params/encoder"
DEFAULTS = {"depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048], "embedding_size": 64, "layer_type": "bottleneck"}
COUNTER = {r".*\.num_batches_tracked": "a counter that nothing reads"}


def hf_model(config: Config) -> Spec:
    """From config.json."""
    config = {**DEFAULTS, **config}
    if (
        config.get("downsample_in_first_stage")
        or config.get("downsample_in_bottleneck")
        or config.get("hidden_act", "relu") != "relu"
    ):
        raise UserError("config.json: a stride in the first stage or the first convolution, or another activation than relu")
    encoder = {
        "name": "resnet",
        "stages": list(config["depths"]),
        "widths": list(config["hidden_sizes"]),
        "block": config["layer_type"],
        "stem_width": config["embedding_size"],
    }
    return {"name": "classifier", "encoder": encoder, "classes": labels(config)}


def hf_config(model: Spec) -> dict[str, Any] | None:
    """To config.json."""
    if model["name"] != "classifier" or model["encoder"]["name"] != "resnet":
        return None
    part = model["encoder"]
    numbers = {
        "depths": list(part.get("stages", (3, 4, 6, 3))),
        "hidden_sizes": list(part.get("widths", (256, 512, 1024, 2048))),
    }
    numbers |= {
        "embedding_size": part.get("stem_width", 64),
        "layer_type": part.get("block", "bottleneck"),
        "hidden_act": "relu",
    }
    return {"model_type": "resnet", **numbers, **head_config(model, "ResNetModel", "ResNetForImageClassification")}


def hf_table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names, without "resnet."."""

    def conv(theirs: str, ours: str) -> list[Row]:
        return [
            Row(f"{theirs}.convolution.weight", f"{ours}/conv/kernel", "conv"),
            *batch_norm(f"{theirs}.normalization", f"{ours}/norm"),
        ]

    layer, own = "encoder.stages.{i}.layers.{j}", f"{OWN}/stages/{{i}}/{{j}}"
    return [
        *conv("embedder.embedder", f"{OWN}/stem"),
        *conv(layer + ".layer.{k}", own + "/convs/{k}"),
        *conv(f"{layer}.shortcut", f"{own}/shortcut"),
        *linear("classifier.1", "params/head"),
    ]


def clip_model(config: Config) -> Spec:
    """From open_clip_config.json's model_cfg. Raises UserError: see clip.own_towers."""
    clip.own_towers(config)
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    # OpenAI's ResNets have QuickGELU in the text tower, as their ViTs do.
    common = {"act": clip.QUICK if config.get("quick_gelu") else "gelu", "norm_eps": clip.EPS}
    width = vision.get("width", 64)
    image = {"name": "clip_resnet", "size": vision.get("image_size", 224), "stages": list(vision["layers"]), "width": width}
    return {
        "name": "dual_encoder",
        "dim": config["embed_dim"],
        "image": {**image, "heads": width * 32 // vision.get("head_width", 64)},
        "text": clip.open_clip_text_spec(text, common),
        "image_projection": "bias",
    }


def clip_config(model: Spec) -> dict[str, Any] | None:
    """To model_cfg."""
    if model["name"] != "dual_encoder" or model["image"]["name"] != "clip_resnet":
        return None
    part = model["image"]
    vision = {"image_size": part["size"], "layers": list(part["stages"]), "width": part["width"], "patch_size": None}
    vision["head_width"] = part["width"] * 32 // part["heads"]
    config = {"embed_dim": model["dim"], "vision_cfg": vision, "text_cfg": clip.open_clip_text_config(model["text"])}
    return config | ({"quick_gelu": True} if model["text"].get("act") == clip.QUICK else {})


def clip_table(model: Spec) -> Sequence[Row]:
    """OpenCLIP's names; its layers count from 1."""

    def conv(weight: str, bn: str, ours: str) -> list[Row]:
        return [Row(f"{weight}.weight", f"{ours}/conv/kernel", "conv"), *batch_norm(bn, f"{ours}/norm")]

    at, pool = "visual", "visual.attnpool"
    rows = [row for i in (1, 2, 3) for row in conv(f"{at}.conv{i}", f"{at}.bn{i}", f"{clip.IMAGE}/stem/{i - 1}")]
    for stage in range(len(model["image"]["stages"])):
        layer, own = f"{at}.layer{stage + 1}.{{j}}", f"{clip.IMAGE}/stages/{stage}/{{j}}"
        for i in (1, 2, 3):
            rows += conv(f"{layer}.conv{i}", f"{layer}.bn{i}", f"{own}/convs/{i - 1}")
        rows += conv(f"{layer}.downsample.0", f"{layer}.downsample.1", f"{own}/shortcut")
    attention = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}
    rows += [row for theirs, ours in attention.items() for row in linear(f"{pool}.{theirs}", f"{clip.IMAGE}/{ours}")]
    rows += [
        Row(f"{pool}.positional_embedding", f"{clip.IMAGE}/positions"),
        *linear(f"{pool}.c_proj", "params/image_projection"),
    ]
    return [*rows, *clip.open_clip_text()]


def clip_infer(found: Mapping[str, Tensor], like: Config) -> dict[str, Any] | None:
    """Heads and activation are `like`'s; a tensor of another shape is refused later."""
    return dict(like) if like else None


def _published(dim: int, layers: Sequence[int], width: int, text: tuple[int, int], size: int, quick: bool) -> Config:
    vision = {"image_size": size, "layers": list(layers), "width": width, "patch_size": None}
    words = {"context_length": 77, "vocab_size": 49408, "width": text[0], "heads": text[1], "layers": 12}
    return {"embed_dim": dim, "vision_cfg": vision, "text_cfg": words} | ({"quick_gelu": True} if quick else {})


PUBLISHED = {
    f"{name}{'-quickgelu' if quick else ''}": _published(*args, quick=quick)
    for quick in (False, True)
    for name, args in {
        "RN50": (1024, (3, 4, 6, 3), 64, (512, 8), 224),
        "RN101": (512, (3, 4, 23, 3), 64, (512, 8), 224),
        "RN50x4": (640, (4, 6, 10, 6), 80, (640, 10), 288),
    }.items()
}

HF = Family(
    name="ResNet",
    format="hf",
    kinds=("resnet",),
    marks=("embedder.embedder.convolution.weight",),
    model=hf_model,
    table=hf_table,
    config=hf_config,
    prefixes=("resnet.", ""),
    prefix=lambda model: "" if model.get("classes") is None else "resnet.",
    any_size=True,
    drop=COUNTER,
    resize={"mode": "shortest", "size": 256, "crop": 224, "centre": "floor", "filter": "bilinear"},
    **IMAGENET,
)
CLIP = Family(
    name="CLIP ResNet",
    format="open_clip",
    marks=("visual.attnpool.q_proj.weight", "token_embedding.weight"),
    model=clip_model,
    table=clip_table,
    config=clip_config,
    infer=clip_infer,
    likes=PUBLISHED,
    prefixes=("", "module."),
    drop=COUNTER | clip.OPEN_CLIP_DROP,
    text=clip.text,
    mean=clip.MEAN,
    std=clip.STD,
    resize={"mode": "shortest"},
)
