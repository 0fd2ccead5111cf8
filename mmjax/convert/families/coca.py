"""CoCa's towers (Yu et al. 2022) with OpenCLIP's names; the decoder, which writes captions, is left out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.convert.families import clip
from mmjax.convert.families.clip import IMAGE, TEXT
from mmjax.convert.family import Config, Family, Spec
from mmjax.convert.table import Row, Tensor, linear, norm

QUERIES, HEADS = 256, 8  # where vision_cfg says nothing


def model(config: Config) -> Spec:
    """From open_clip_config.json's model_cfg."""
    found = clip.open_clip_model(config)
    vision, text = config["vision_cfg"], config["text_cfg"]
    several = {"queries": vision.get("attn_pooler_queries", QUERIES), "query_heads": vision.get("attn_pooler_heads", HEADS)}
    found["image"] |= {"pool": "query", "query_width": config["embed_dim"], **several}
    found["text"] |= {"pool": "cls", "pad_id": text.get("pad_id", 0), "eos_id": None}
    return found


def config(model: Spec) -> dict[str, Any] | None:
    """To model_cfg: of two towers alone, which OpenCLIP reads as CustomTextCLIP."""
    found = clip.open_clip_config(model)
    if found is None or model["image"].get("pool") != "query" or model["text"].get("pool") != "cls":
        return None
    image = model["image"]
    several = {"attn_pooler_queries": image.get("queries", QUERIES), "attn_pooler_heads": image.get("query_heads", HEADS)}
    found["vision_cfg"] |= {"attentional_pool": True, **several}
    found["text_cfg"] |= {"embed_cls": True, "pad_id": model["text"]["pad_id"]}
    return found | {"custom_text": True}


def table(model: Spec) -> Sequence[Row]:
    """CLIP's rows, those of texts behind "text.", and the pooler's."""
    rows = [
        row if row.foreign.startswith(("visual.", "logit_scale")) else dataclasses.replace(row, foreign=f"text.{row.foreign}")
        for row in clip.open_clip_table(model)
    ]
    theirs, ours = "visual.attn_pool", f"{IMAGE}/query"
    parts = [f"{ours}/attn/{part}" for part in ("query", "key", "value")]
    rows += [
        Row("text.cls_emb", f"{TEXT}/class_token"),
        Row(f"{theirs}.query", f"{ours}/queries"),
        *norm(f"{theirs}.ln_q", f"{ours}/ln_query"),
        *norm(f"{theirs}.ln_k", f"{ours}/ln_key"),
        Row(f"{theirs}.attn.in_proj_bias", tuple(f"{part}/bias" for part in parts), "qkv"),
        *linear(f"{theirs}.attn.out_proj", f"{ours}/attn/out"),
    ]
    # PyTorch keeps the three matrices apart where keys are wider than queries.
    if model["image"]["query_width"] == model["image"]["width"]:
        return [*rows, Row(f"{theirs}.attn.in_proj_weight", tuple(f"{part}/kernel" for part in parts), "qkv")]
    return rows + [
        Row(f"{theirs}.attn.{x}_proj_weight", f"{part}/kernel", "linear") for x, part in zip("qkv", parts, strict=True)
    ]


def infer(found: Mapping[str, Tensor], like: Config) -> dict[str, Any] | None:
    """Heads are not in the shapes."""
    return dict(like) if like else None


def _published(name: str) -> Config:
    found = {part: dict(value) if isinstance(value, dict) else value for part, value in clip.PUBLISHED[name].items()}
    found["text_cfg"]["context_length"] = 76
    return found


OPEN_CLIP = Family(
    name="CoCa's towers",
    format="open_clip",
    marks=("visual.attn_pool.query", "text.cls_emb"),
    model=model,
    table=table,
    config=config,
    infer=infer,
    likes={f"coca_{name}": _published(name) for name in ("ViT-B-32", "ViT-L-14")},
    prefixes=("", "module."),
    drop={r"text_decoder\..*": "the decoder of captions", r"text\.attn_mask": "the causal mask"},
    text=clip.text,
    mean=clip.MEAN,
    std=clip.STD,
    resize={"mode": "shortest"},
)
