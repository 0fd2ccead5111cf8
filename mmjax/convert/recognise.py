"""What a folder or file holds: its family from config.json, else from the names of its tensors."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax import models
from mmjax.convert import preprocess, readers, table
from mmjax.convert.families import FAMILIES, clip
from mmjax.convert.family import Family, Spec
from mmjax.convert.table import Tensor
from mmjax.core import tree
from mmjax.core.errors import UserError, suggest


@dataclasses.dataclass(frozen=True)
class Found:
    """Foreign weights as ours, none of them read yet.

    Attributes:
      family: what they are.
      model: spec for models.build.
      leaves: params/... and stats/... by path.
      entries: foreign name -> where it goes.
      dropped: foreign name -> why nothing reads it.
      preprocessing: of pictures and texts, see preprocess.Preprocessing.
      labels: names of a head's classes or answers in order, or None where the source has none.
    """

    family: Family
    model: Spec
    leaves: dict[str, Tensor]
    entries: dict[str, table.Entry]
    dropped: dict[str, str]
    preprocessing: preprocess.Preprocessing
    labels: list[str] | None = None


def recognise(path: str, like: str | None = None) -> Found:
    """Recognises what lies at `path` and maps it; reads headers alone.

    Args:
      path: a folder or a file of another project.
      like: a published name, for what neither a config nor shapes tell.

    Raises:
      UserError: it is unknown, incomplete, or contradicts itself.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"{path}: there is no such file or folder")
    folder = place if place.is_dir() else place.parent
    config = _config(folder) if place.is_dir() else {}
    pooling = folder / "1_Pooling" / "config.json"
    if place.is_dir() and pooling.is_file():  # sentence-transformers keep it beside
        config["pooling"] = json.loads(pooling.read_text(encoding="utf-8"))
    found = readers.read(place)
    family, prefix = _family(path, config, found)
    found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    settings = family.settle(found, _settings(path, family, config, found, like))
    model, own = _model(path, family, settings)
    entries = table.expand(family.table(model), own)
    left = table.rest(entries, found, tuple(family.drop), path)
    leaves = table.read(entries, found, own, path)
    dropped = {name: next(why for rule, why in family.drop.items() if re.fullmatch(rule, name)) for name in left}
    pixels = preprocess.read(folder if place.is_dir() else None, family, model, config)
    return Found(family, model, leaves, entries, dropped, pixels, _labels(path, config, model))


def _model(path: str, family: Family, settings: Mapping[str, Any]) -> tuple[Spec, dict[str, Any]]:
    """The model's spec and the shapes of its leaves."""
    try:
        model = family.model(settings)
        return model, abstract(model)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"{path}: its config is no {family.name}'s ({type(error).__name__}: {why})") from error


def abstract(model: Spec) -> dict[str, Any]:
    """Shapes of a model's leaves by path, params/... and stats/..."""
    return tree.flatten(models.build(model).abstract)


def _labels(path: str, config: Mapping[str, Any], model: Spec) -> list[str] | None:
    """Names of config.json's id2label; LABEL_0, LABEL_1, ..., which stand there where nobody gave names, are none."""
    found, count = config.get("id2label"), model.get("classes") or (model.get("heads") or {}).get("answers")
    if not found or count is None:
        return None
    names = [found.get(str(i)) for i in range(count)]
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: config.json's id2label does not name the classes 0 to {count - 1}, each once")
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def _config(folder: Path) -> dict[str, Any]:
    for name in ("open_clip_config.json", "config.json"):
        if (folder / name).is_file():
            try:
                config = json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                raise UserError(f"{folder / name}: no json: {error}") from None
            if isinstance(config, dict):
                return config
            raise UserError(f"{folder / name}: holds no object")
    return {}


def _family(path: str, config: Mapping[str, Any], found: Mapping[str, Tensor]) -> tuple[Family, str]:
    kind = config.get("model_type")
    if kind is not None:
        families = [family for family in FAMILIES if kind in family.kinds]
        if not families:
            kinds = [name for family in FAMILIES for name in family.kinds]
            near = suggest(kind, kinds)
            raise UserError(f"{path}: model_type {kind!r} is not read here; there are: {', '.join(kinds)}.{near}")
    else:
        families = list(FAMILIES)
    for family in families:
        for prefix in family.prefixes:
            if all(prefix + mark in found for mark in family.marks):
                return family, prefix
    if kind is not None:
        raise UserError(f"{path}: config.json says {kind}, whose {families[0].marks[0]!r} is not among its tensors")
    if "model_cfg" in config:
        _model(path, clip.OPEN_CLIP, config["model_cfg"])  # says of another library's tower that it is one
    some = ", ".join(list(found)[:3])
    names = ", ".join(dict.fromkeys(family.name for family in FAMILIES))
    raise UserError(f"{path}: tensors such as {some} are of no known family; read are: {names}")


def _settings(
    path: str, family: Family, config: Mapping[str, Any], found: Mapping[str, Tensor], like: str | None
) -> Mapping[str, Any]:
    if like is not None and ("model_cfg" in config or "model_type" in config):
        raise UserError(f"--like={like}: {path} has a config, which says what it is: leave --like out")
    if family.format == "open_clip" and "model_cfg" in config:
        return config["model_cfg"]
    if "model_type" in config:
        return config
    if like is not None and like not in family.likes:
        names = ", ".join(family.likes) or "none is needed"
        raise UserError(
            f"--like={like}: no published {family.name}; {family.format} has: {names}.{suggest(like, family.likes)}"
        )
    settings = family.infer(found, family.likes[like] if like else {})
    if settings is None:
        names = ", ".join(family.likes)
        raise UserError(
            f"{path}: a {family.name} without a config: heads and activation are not in its shapes: say --like={names}"
        )
    return settings
