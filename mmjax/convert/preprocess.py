"""How a source treats pictures and texts, read from its files and written back; it travels in the checkpoint's meta."""

import base64
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax.convert import sentencepiece as sentencepieces
from mmjax.convert.family import Family, Spec
from mmjax.core.errors import UserError
from mmjax.models.classifier import modality

FILTERS = {2: "bilinear", 3: "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}
NUMBERS = {"bilinear": 2, "bicubic": 3}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What an encoder's input has to go through.

    Attributes:
      transforms: as in a config: decode, resize, tokenise, whatever the model takes.
      pixels: mean and standard deviation of pixels in [0, 1], or None for a model without pictures.
      tokenizer: the text of tokenizer.json, or None.
      sentencepiece: the bytes of the source's SentencePiece file in base64, for a meta is json; None where it has none.
    """

    transforms: list[Spec]
    pixels: dict[str, list[float]] | None
    tokenizer: str | None
    sentencepiece: str | None = None


def read(folder: Path | None, family: Family, model: Spec, config: Mapping[str, Any]) -> Preprocessing:
    """From a folder's files, else as the family is published.

    Raises:
      UserError: files that contradict each other or the model.
    """
    from mmjax.convert import tokenizer as tokenizers

    image = model["encoder"] if model["name"] == "classifier" else model.get("image")
    if image is not None and image["name"] == "regions":  # a detector's features, which are no pictures
        image = None
    transforms: list[Spec] = []
    pixels = None
    if image is not None and (model["name"] != "classifier" or modality(image) == "image"):
        resize, pixels = _pictures(folder, family, image, config)
        transforms += [{"name": "decode"}, resize]
    transforms += family.audio(model) or []
    words = family.text(model)
    tokenizer = sentencepiece = None
    if words is not None:
        found = tokenizers.read(folder, model.get("text") or model["encoder"], words) if folder is not None else None
        if found is not None:
            tokenizer, words = found
            file = sentencepieces.find(folder)
            sentencepiece = base64.b64encode(file.read_bytes()).decode() if file else None
        transforms.append({"name": "tokenise", "tokenizer": "checkpoint", **words})
    return Preprocessing(transforms, pixels, tokenizer, sentencepiece)


def _pictures(
    folder: Path | None, family: Family, image: Spec, config: Mapping[str, Any]
) -> tuple[Spec, dict[str, list[float]]]:
    if image["name"] == "naflex":
        return _patches(folder, family, image)
    size = None if family.any_size else image["size"]
    resize = {"name": "resize", **({"size": size} if size else {}), **family.resize}
    pixels = {"mean": list(family.mean), "std": list(family.std)}
    if "preprocess_cfg" in config:
        return _open_clip(config["preprocess_cfg"], resize, pixels)
    file, found = _said(folder)
    return (resize, pixels) if found is None else _hugging_face(found, file, size, resize, pixels)


def _said(folder: Path | None) -> tuple[Path, dict[str, Any] | None]:
    """preprocessor_config.json and what it says, None where there is none."""
    file = (folder or Path()) / "preprocessor_config.json"
    if folder is None or not file.is_file():
        return file, None
    try:
        return file, json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: no json: {error}") from None


def _patches(folder: Path | None, family: Family, image: Spec) -> tuple[Spec, dict[str, list[float]]]:
    """NaFlex: pictures of any aspect, cut into patches."""
    file, found = _said(folder)
    found = found or {}
    filter, pixels = _colours(found, file, {"mean": list(family.mean), "std": list(family.std)}, "bilinear")
    if (patch := found.get("patch_size", image["patch"])) != image["patch"]:
        raise UserError(f"{file}: patch_size {patch}, and config.json's model has patch_size {image['patch']}: mend one")
    return {
        "name": "patches",
        "patch": patch,
        "count": found.get("max_num_patches", image["grid"] ** 2),
        "filter": filter,
    }, pixels


def _colours(found: Mapping[str, Any], file: Path, pixels: dict, filter: str) -> tuple[str, dict[str, list[float]]]:
    """The resizing filter, mean and standard deviation, `filter` and `pixels` where a preprocessor's config says nothing."""
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if not found.get(key, True):
            raise UserError(f"{file}: {key} is false, which no encoder here was trained with")
    if abs(found.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
        raise UserError(f"{file}: rescale_factor {found['rescale_factor']} is not 1/255")
    filter = found.get("resample", NUMBERS[filter])
    if filter not in FILTERS:
        raise UserError(f"{file}: resample {filter} is neither bilinear (2) nor bicubic (3)")
    mean, std = (list(found.get(f"image_{key}", pixels[key])) for key in ("mean", "std"))
    return FILTERS[filter], {"mean": mean, "std": std}


def _hugging_face(found: Mapping[str, Any], file: Path, size: int | None, resize: Spec, pixels: dict) -> tuple[Spec, dict]:
    filter, pixels = _colours(found, file, pixels, resize.get("filter", "bicubic"))
    result = _geometry(found, file, size)
    seen = result.get("crop", result["size"])
    if size is not None and seen != size:
        raise UserError(f"{file}: pictures of {seen} pixels a side, and config.json's model takes image_size {size}: mend one")
    return result | ({} if filter == "bicubic" else {"filter": filter}), pixels


def _geometry(found: Mapping[str, Any], file: Path, size: int | None) -> Spec:
    given = found.get("size", {"height": size or 224, "width": size or 224})
    crop = _side(found["crop_size"], file) if "crop_size" in found and found.get("do_center_crop", True) else None
    if isinstance(given, int):  # from before sizes were dicts: the shorter side where a crop follows, both sides otherwise
        given = {"height": given, "width": given} if crop is None else {"shortest_edge": given}
    if "shortest_edge" not in given:
        side = _side(given, file)
        if crop not in (None, side):
            raise UserError(f"{file}: a crop of {crop} out of a square of {side} pixels: not understood")
        return {"name": "resize", "size": side, "mode": "squash"}
    side = given["shortest_edge"]
    if "crop_pct" in found:  # ResNet's: `size` is what is kept of a picture resized to more
        side, crop = int(side / found["crop_pct"]), side
    result = {"name": "resize", "size": side, "mode": "shortest", "centre": "floor"}
    return result | ({"crop": crop} if crop not in (None, side) else {})


def _open_clip(found: Mapping[str, Any], resize: Spec, pixels: dict) -> tuple[Spec, dict]:
    pixels = {key: list(found.get(key, pixels[key])) for key in ("mean", "std")}
    size = found.get("size", resize["size"])
    side = size[0] if isinstance(size, list) else size
    if side != resize["size"]:
        raise UserError(f"open_clip_config.json: preprocess_cfg's size {size} is not the model's image_size {resize['size']}")
    filter = found.get("interpolation", "bicubic")
    if filter not in FILTERS:
        raise UserError(f"open_clip_config.json: interpolation {filter!r} is neither bilinear nor bicubic")
    mode = found.get("resize_mode", "shortest")
    if mode not in ("shortest", "longest", "squash"):
        raise UserError(f"open_clip_config.json: resize_mode {mode!r} is none of shortest, longest, squash")
    result = {"name": "resize", "size": side, "mode": mode}
    return result | ({} if FILTERS[filter] == "bicubic" else {"filter": FILTERS[filter]}), pixels


def _side(size: Any, file: Path) -> int:
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        if size["height"] != size["width"]:
            raise UserError(f"{file}: pictures of {size['height']} x {size['width']}: encoders here take squares")
        return size["height"]
    if isinstance(size, int):
        return size
    raise UserError(f"{file}: size {size} is not understood")


def write(folder: Path, format: str, config: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Writes preprocessor_config.json (hf), the tokenizer's files, and spiece.model where the source had such a file.

    Args:
      meta: a checkpoint's.
    """
    from mmjax.convert import tokenizer as tokenizers

    transforms, pixels = meta["preprocessing"]["transforms"], meta["preprocessing"]["pixels"]
    resize = next((t for t in transforms if t["name"] in ("resize", "patches")), None)
    if resize is not None and format == "hf":
        (folder / "preprocessor_config.json").write_text(json.dumps(_hugging_face_of(resize, pixels, config), indent=2) + "\n")
    words = next((t for t in transforms if t["name"] == "tokenise"), None)
    if meta["tokenizer"] is not None and words is not None:
        tokenizers.write(folder, config.get("model_type"), meta["tokenizer"], words)
        if meta.get("sentencepiece"):  # a trained checkpoint has none: its tokenizer may be another
            (folder / sentencepieces.FILES[0]).write_bytes(base64.b64decode(meta["sentencepiece"]))


def open_clip_of(transforms: list[Spec], pixels: Mapping[str, Any]) -> dict[str, Any]:
    """preprocess_cfg of open_clip_config.json."""
    resize = next(t for t in transforms if t["name"] == "resize")
    found = {"mean": list(pixels["mean"]), "std": list(pixels["std"]), "interpolation": resize.get("filter", "bicubic")}
    return found | {"resize_mode": resize.get("mode", "squash")}


PROCESSORS = {
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
    "vit": "ViTImageProcessor",
    "dinov2": "BitImageProcessor",
    "vilt": "ViltImageProcessor",
}


def _hugging_face_of(resize: Spec, pixels: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    mode, size = resize.get("mode", "squash"), resize.get("size")
    found = {"image_processor_type": PROCESSORS.get(config.get("model_type"), "CLIPImageProcessor")}
    if resize["name"] == "patches":
        found |= {"patch_size": resize["patch"], "max_num_patches": resize["count"]}
    elif mode == "shortest":
        crop = resize.get("crop") or size
        found |= {"size": {"shortest_edge": size}, "crop_size": {"height": crop, "width": crop}, "do_center_crop": True}
    elif mode == "squash":
        found |= {"size": {"height": size, "width": size}, "do_center_crop": False}
    else:
        raise UserError(f"resize mode {mode!r} cannot be said in preprocessor_config.json: use 'shortest' or 'squash'")
    numbers = {"resample": NUMBERS[resize.get("filter", "bicubic")], "rescale_factor": 1 / 255}
    flags = dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), True)
    return {**found, **flags, **numbers, "image_mean": list(pixels["mean"]), "image_std": list(pixels["std"])}
