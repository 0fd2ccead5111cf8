"""CLIP (Radford et al. 2021): Hugging Face's names and OpenCLIP's."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.convert.family import Config, Family, Spec, tower, tower_config
from mmjax.convert.table import Row, Tensor, linear, norm
from mmjax.core.errors import UserError

IMAGE, TEXT = "params/image_encoder", "params/text_encoder"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
QUICK, EPS = "quick_gelu", 1e-5

# What the format's own code takes where config.json says nothing.
TEXT_DEFAULTS = {"vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12}
TEXT_DEFAULTS |= {"num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": QUICK, "layer_norm_eps": EPS}
VISION_DEFAULTS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
VISION_DEFAULTS |= {"image_size": 224, "patch_size": 32, "hidden_act": QUICK, "layer_norm_eps": EPS}


def image_spec(common: Spec, size: int, patch: int) -> Spec:
    """CLIP's picture tower as our vit."""
    fixed = {"pool": "cls", "pre_norm": True, "patch_bias": False, "init": "clip"}
    return {"name": "vit", "size": size, "patch": patch, **common, **fixed}


def text_spec(common: Spec, vocab: int, length: int, eos: int) -> Spec:
    """CLIP's text tower as our text_transformer."""
    fixed = {"causal": True, "pool": "eos", "eos_id": eos, "init": "clip"}
    return {"name": "text_transformer", "vocab": vocab, "length": length, **common, **fixed}


def hf_model(config: Config) -> Spec:
    """From config.json."""
    text, vision = (
        TEXT_DEFAULTS | dict(config.get("text_config") or {}),
        VISION_DEFAULTS | dict(config.get("vision_config") or {}),
    )
    # Files from before transformers 4.31 say 2, and mean the vocabulary's last token: the text is read at the largest id.
    eos = text.get("eos_token_id", 49407)
    eos = text["vocab_size"] - 1 if eos in (None, 2) else eos
    return {
        "name": "dual_encoder",
        "dim": config.get("projection_dim", 512),
        "image": image_spec(tower(vision), vision["image_size"], vision["patch_size"]),
        "text": text_spec(tower(text), text["vocab_size"], text["max_position_embeddings"], eos),
    }


def hf_config(model: Spec) -> dict[str, Any] | None:
    """To config.json."""
    if model["name"] != "dual_encoder" or model["image"]["name"] != "vit" or model["text"]["name"] != "text_transformer":
        return None
    image, text, dim = model["image"], model["text"], model["dim"]
    numbers = {"vocab_size": text["vocab"], "max_position_embeddings": text["length"], "eos_token_id": text.get("eos_id")}
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": dim,
        "text_config": tower_config(
            text, model_type="clip_text_model", projection_dim=dim, bos_token_id=text["vocab"] - 2, **numbers
        ),
        "vision_config": tower_config(
            image, model_type="clip_vision_model", projection_dim=dim, image_size=image["size"], patch_size=image["patch"]
        ),
    }


def hf_blocks(foreign: str, own: str) -> list[Row]:
    """A layer of Hugging Face's CLIP and SigLIP towers."""
    at = foreign + ".layers.{layer}"
    attention = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    return [
        *norm(f"{at}.layer_norm1", f"{own}/ln1"),
        *norm(f"{at}.layer_norm2", f"{own}/ln2"),
        *[row for theirs, ours in attention.items() for row in linear(f"{at}.self_attn.{theirs}", f"{own}/attn/{ours}")],
        *[row for part in ("fc1", "fc2") for row in linear(f"{at}.mlp.{part}", f"{own}/mlp/{part}")],
    ]


def hf_table(model: Spec) -> Sequence[Row]:
    """Hugging Face's names."""
    vision, text = "vision_model", "text_model"
    return [
        Row(f"{vision}.embeddings.patch_embedding.weight", f"{IMAGE}/patches/conv/kernel", "conv"),
        Row(f"{vision}.embeddings.class_embedding", f"{IMAGE}/class_token"),
        Row(f"{vision}.embeddings.position_embedding.weight", f"{IMAGE}/positions"),
        *norm(f"{vision}.pre_layrnorm", f"{IMAGE}/ln_pre"),
        *hf_blocks(f"{vision}.encoder", f"{IMAGE}/stack/blocks"),
        *norm(f"{vision}.post_layernorm", f"{IMAGE}/ln_post"),
        Row(f"{text}.embeddings.token_embedding.weight", f"{TEXT}/embed/embedding"),
        Row(f"{text}.embeddings.position_embedding.weight", f"{TEXT}/positions"),
        *hf_blocks(f"{text}.encoder", f"{TEXT}/stack/blocks"),
        *norm(f"{text}.final_layer_norm", f"{TEXT}/ln_final"),
        *linear("visual_projection", "params/image_projection", bias=False),
        *linear("text_projection", "params/text_projection", bias=False),
        Row("logit_scale", "params/logit_scale"),
    ]


def open_clip_blocks(foreign: str, own: str) -> list[Row]:
    """A layer of OpenCLIP's Transformers."""
    at = foreign + ".resblocks.{layer}"
    qkv = {leaf: tuple(f"{own}/attn/{part}/{leaf}" for part in ("query", "key", "value")) for leaf in ("kernel", "bias")}
    return [
        *norm(f"{at}.ln_1", f"{own}/ln1"),
        Row(f"{at}.attn.in_proj_weight", qkv["kernel"], "qkv"),
        Row(f"{at}.attn.in_proj_bias", qkv["bias"], "qkv"),
        *linear(f"{at}.attn.out_proj", f"{own}/attn/out"),
        *norm(f"{at}.ln_2", f"{own}/ln2"),
        *linear(f"{at}.mlp.c_fc", f"{own}/mlp/fc1"),
        *linear(f"{at}.mlp.c_proj", f"{own}/mlp/fc2"),
    ]


def open_clip_text(own: str = TEXT) -> list[Row]:
    """OpenCLIP's text tower. Its projections are no Linear, and so not transposed."""
    return [
        Row("token_embedding.weight", f"{own}/embed/embedding"),
        Row("positional_embedding", f"{own}/positions"),
        *open_clip_blocks("transformer", f"{own}/stack/blocks"),
        *norm("ln_final", f"{own}/ln_final"),
        Row("text_projection", "params/text_projection/kernel"),
        Row("logit_scale", "params/logit_scale"),
    ]


def open_clip_table(model: Spec) -> Sequence[Row]:
    """OpenCLIP's names, which are OpenAI's too."""
    return [
        Row("visual.conv1.weight", f"{IMAGE}/patches/conv/kernel", "conv"),
        Row("visual.class_embedding", f"{IMAGE}/class_token"),
        Row("visual.positional_embedding", f"{IMAGE}/positions"),
        *norm("visual.ln_pre", f"{IMAGE}/ln_pre"),
        *open_clip_blocks("visual.transformer", f"{IMAGE}/stack/blocks"),
        *norm("visual.ln_post", f"{IMAGE}/ln_post"),
        Row("visual.proj", "params/image_projection/kernel"),
        *open_clip_text(),
    ]


def open_clip_model(config: Config) -> Spec:
    """From open_clip_config.json's model_cfg.

    Raises:
      UserError: see own_towers.
    """
    own_towers(config)
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    act = QUICK if config.get("quick_gelu") else "gelu"
    common = {"act": act, "norm_eps": EPS}
    return {
        "name": "dual_encoder",
        "dim": config["embed_dim"],
        "image": image_spec({**_vision_tower(vision), **common}, vision.get("image_size", 224), vision.get("patch_size", 16)),
        "text": open_clip_text_spec(text, common),
    }


# What these towers have in one way only, and open_clip in others too.
ONLY: dict[str, dict[str, Any]] = {
    "vision_cfg": {"no_ln_pre": False, "pool_type": "tok"},
    "text_cfg": {"no_causal_mask": False, "pool_type": "argmax", "proj_bias": False, "proj_type": "linear"},
}
PLAIN = ("ls_init_value", "act_kwargs", "norm_kwargs", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner")
PLAIN += ("scale_attn", "scale_fc")


def own_towers(config: Config) -> None:
    """Raises UserError where open_clip's model_cfg asks for towers, or settings of them, that are not read here."""
    for part, key in (("vision_cfg", "timm_model_name"), ("text_cfg", "hf_model_name")):
        if name := config[part].get(key):
            raise UserError(f"open_clip's {key} {name!r} is a tower of another library, which is not read here")
    for part, only in ONLY.items():
        for key, value in config[part].items():
            if value != only.get(key, value) or (key in PLAIN and value):
                raise UserError(f"open_clip's {part} has {key} {value!r}, which no tower here computes")


def open_clip_text_spec(text: Config, common: Spec) -> Spec:
    """The text tower of text_cfg."""
    width, vocab = text.get("width", 512), text.get("vocab_size", 49408)
    numbers = {"width": width, "depth": text.get("layers", 12), "heads": text.get("heads", 8)}
    numbers["mlp"] = int(width * text.get("mlp_ratio", 4.0))
    return text_spec({**numbers, **common}, vocab, text.get("context_length", 77), vocab - 1)


def _vision_tower(vision: Config) -> Spec:
    width = vision.get("width", 768)
    heads = width // vision.get("head_width", 64)
    return {"width": width, "depth": vision.get("layers", 12), "heads": heads, "mlp": int(width * vision.get("mlp_ratio", 4.0))}


def open_clip_config(model: Spec) -> dict[str, Any] | None:
    """To model_cfg."""
    if model["name"] != "dual_encoder" or model["image"]["name"] != "vit" or model["text"]["name"] != "text_transformer":
        return None
    image = model["image"]
    vision = {"image_size": image["size"], "patch_size": image["patch"], "width": image["width"], "layers": image["depth"]}
    vision |= {"head_width": image["width"] // image["heads"], "mlp_ratio": _ratio(image)}
    config = {"embed_dim": model["dim"], "vision_cfg": vision, "text_cfg": open_clip_text_config(model["text"])}
    return config | ({"quick_gelu": True} if image.get("act") == QUICK else {})


def open_clip_text_config(text: Spec) -> dict[str, Any]:
    """To text_cfg."""
    numbers = {"context_length": text["length"], "vocab_size": text["vocab"], "width": text["width"], "heads": text["heads"]}
    return numbers | {"layers": text["depth"], "mlp_ratio": _ratio(text)}


def _ratio(part: Spec) -> float:
    """open_clip's mlp_ratio, whose product with the width is cut to a whole number."""
    ratio = part["mlp"] / part["width"]
    return ratio if int(part["width"] * ratio) == part["mlp"] else (part["mlp"] + 0.5) / part["width"]


def open_clip_infer(found: Mapping[str, Tensor], like: Config) -> dict[str, Any] | None:
    """The config of a bare state dict: shapes say all but heads and activation, which `like` has to say."""
    if not like:
        return None
    shape = {name: tensor.shape for name, tensor in found.items()}
    width, _, patch, _ = shape["visual.conv1.weight"]
    layers = {at: sum(name.startswith(f"{at}.resblocks.") and name.endswith(".ln_1.weight") for name in shape)
              for at in ("visual.transformer", "transformer")}  # fmt: skip
    mlp = {at: shape[f"{at}.resblocks.0.mlp.c_fc.weight"] for at in layers}
    vision, text = dict(like["vision_cfg"]), dict(like["text_cfg"])
    grid = int((shape["visual.positional_embedding"][0] - 1) ** 0.5)
    vision |= {"width": width, "patch_size": patch, "layers": layers["visual.transformer"], "image_size": grid * patch}
    vision["mlp_ratio"] = _ratio({"mlp": mlp["visual.transformer"][0], "width": width})
    text |= {"width": shape["ln_final.weight"][0], "layers": layers["transformer"]}
    text |= {"context_length": shape["positional_embedding"][0], "vocab_size": shape["token_embedding.weight"][0]}
    text["mlp_ratio"] = _ratio({"mlp": mlp["transformer"][0], "width": text["width"]})
    return {**like, "embed_dim": shape["text_projection"][1], "vision_cfg": vision, "text_cfg": text}


def _published(dim: int, vision: tuple, text: tuple = (512, 8, 12), quick: bool = False, size: int = 224) -> Config:
    width, layers, patch, head, ratio = vision
    image = {"image_size": size, "layers": layers, "width": width, "patch_size": patch, "head_width": head, "mlp_ratio": ratio}
    words = {"context_length": 77, "vocab_size": 49408, "width": text[0], "heads": text[1], "layers": text[2]}
    return {"embed_dim": dim, "vision_cfg": image, "text_cfg": words} | ({"quick_gelu": True} if quick else {})


# Names as open_clip has them. OpenAI's own weights are those with -quickgelu.
B, L = (768, 12), (1024, 24)
PUBLISHED = {
    f"{name}{'-quickgelu' if quick else ''}": _published(*args, quick=quick, size=size)
    for quick in (False, True)
    for name, args, size in (
        ("ViT-B-32", (512, (*B, 32, 64, 4.0)), 224),
        ("ViT-B-16", (512, (*B, 16, 64, 4.0)), 224),
        ("ViT-L-14", (768, (*L, 14, 64, 4.0), (768, 12, 12)), 224),
        ("ViT-L-14-336", (768, (*L, 14, 64, 4.0), (768, 12, 12)), 336),
        ("ViT-H-14", (1024, (1280, 32, 14, 80, 4.0), (1024, 16, 24)), 224),
        ("ViT-g-14", (1024, (1408, 40, 14, 88, 4.3637), (1024, 16, 24)), 224),
        ("ViT-bigG-14", (1280, (1664, 48, 14, 104, 4.9231), (1280, 20, 32)), 224),
    )
}

POLICY = {"bos": "<|startoftext|>", "eos": "<|endoftext|>", "lower": False}


def text(model: Spec) -> Spec:
    """Texts open and close with CLIP's own tokens, the tokenizer lowers the case, and zeros fill up."""
    return {"length": model["text"]["length"], **POLICY}


OPEN_CLIP_DROP = {
    "input_resolution|context_length|vocab_size": "numbers that OpenAI's archives carry beside the weights",
    "attn_mask": "the causal mask",
}
HF = Family(
    name="CLIP",
    format="hf",
    kinds=("clip",),
    marks=("vision_model.pre_layrnorm.weight", "text_model.final_layer_norm.weight"),
    model=hf_model,
    table=hf_table,
    config=hf_config,
    drop={r".*\.position_ids": "the numbers 0, 1, 2, ..."},
    text=text,
    mean=MEAN,
    std=STD,
    resize={"mode": "shortest", "centre": "floor"},
)
OPEN_CLIP = Family(
    name="CLIP",
    format="open_clip",
    marks=("visual.transformer.resblocks.0.ln_1.weight", "token_embedding.weight"),
    model=open_clip_model,
    table=open_clip_table,
    config=open_clip_config,
    infer=open_clip_infer,
    likes=PUBLISHED,
    prefixes=("", "module."),
    drop=OPEN_CLIP_DROP,
    text=text,
    mean=MEAN,
    std=STD,
    resize={"mode": "shortest"},
)
