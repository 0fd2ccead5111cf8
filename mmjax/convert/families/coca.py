"""CoCa's towers (Yu et al. 2022) with OpenCLIP's names; the decoder, which writes captions, is left out.

With attentional_pool queries look at a picture; without (coca_base) its class token is read, as CLIP's.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.convert.families import clip
from mmjax.convert.families.clip import IMAGE, TEXT
from mmjax.convert.family import Config, Family, Spec
from mmjax.convert.table import Row, Tensor, linear, norm
from mmjax.core.errors import UserError

QUERIES, HEADS = 256, 8  # where vision_cfg says nothing


def model(config: Config) -> Spec:
    """From open_clip_config.json's model_cfg.

    Raises:
      UserError: towers, or a pool of pictures, that are not read here.
    """
    found = clip.open_clip_model(config)
    vision, text = config["vision_cfg"], config["text_cfg"]
    pool = vision.get("attentional_pool", False)
    if isinstance(pool, str):
        raise UserError(f"open_clip's attentional_pool {pool!r} has a second pooler for the contrast, which is not read here")
    if pool:
        several = {"queries": vision.get("attn_pooler_queries", QUERIES), "query_heads": vision.get("attn_pooler_heads", HEADS)}
        found["image"] |= {"pool": "query", "query_width": config["embed_dim"], **several}
    found["text"] |= {"pool": "cls", "pad_id": text.get("pad_id", 0), "eos_id": None}
    return found


def config(model: Spec) -> dict[str, Any] | None:
    """To model_cfg: of two towers alone, which OpenCLIP reads as CustomTextCLIP."""
    found = clip.open_clip_config(model)
    if found is None or model["text"].get("pool") != "cls":
        return None
    image = model["image"]
    if image.get("pool") == "query":
        several = {"attn_pooler_queries": image.get("queries", QUERIES), "attn_pooler_heads": image.get("query_heads", HEADS)}
        found["vision_cfg"] |= {"attentional_pool": True, **several}
    found["text_cfg"] |= {"embed_cls": True, "pad_id": model["text"]["pad_id"]}
    return found | {"custom_text": True}


def table(model: Spec) -> Sequence[Row]:
    """CLIP's rows, those of texts behind "text.", and the pooler's where there is one."""
    rows = [
        row if row.foreign.startswith(("visual.", "logit_scale")) else dataclasses.replace(row, foreign=f"text.{row.foreign}")
        for row in clip.open_clip_table(model)
    ]
    rows.append(Row("text.cls_emb", f"{TEXT}/class_token"))
    if model["image"].get("pool") != "query":
        return rows
    theirs, ours = "visual.attn_pool", f"{IMAGE}/query"
    parts = [f"{ours}/attn/{part}" for part in ("query", "key", "value")]
    rows += [
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


def _published(like: Config, pool: bool = True, **text: int) -> Config:
    vision = like["vision_cfg"] | ({"attentional_pool": True} if pool else {})
    return {**like, "vision_cfg": vision, "text_cfg": like["text_cfg"] | {"context_length": 76, **text}}


BASE = {"image_size": 288, "layers": 12, "width": 768, "patch_size": 18}
PUBLISHED = {f"coca_{name}": _published(clip.PUBLISHED[name]) for name in ("ViT-B-32", "ViT-L-14")}
PUBLISHED["coca_base"] = _published(
    {"embed_dim": 512, "vision_cfg": BASE, "text_cfg": {"layers": 12, "heads": 12, "width": 768}}, pool=False, vocab_size=64000
)


OPEN_CLIP = Family(
    name="CoCa's towers",
    format="open_clip",
    marks=("visual.class_embedding", "text.cls_emb"),
    model=model,
    table=table,
    config=config,
    infer=infer,
    likes=PUBLISHED,
    prefixes=("", "module."),
    drop={r"text_decoder\..*": "the decoder of captions", r"text\.attn_mask": "the causal mask"},
    text=clip.text,
    mean=clip.MEAN,
    std=clip.STD,
    resize={"mode": "shortest"},
)
