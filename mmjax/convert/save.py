"""Writes what was read: an mmjax checkpoint, or another project's files; whole in a moment, or not at all."""

import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mmjax
from mmjax import models
from mmjax.checkpoint import store
from mmjax.convert import preprocess, readers, recognise, table
from mmjax.convert.families import FAMILIES
from mmjax.convert.family import Family, Spec, same
from mmjax.convert.table import Tensor
from mmjax.core.errors import UserError
from mmjax.models.naflex import PLACE

REGIONS = 36  # that published models are shown of a picture
FORMATS = ("mmjax", "hf", "open_clip", "npz")

# A run that has not been trained: configs/base.py's settings. A test holds the two together.
UNTRAINED: dict[str, Any] = {
    "seed": 0,
    "steps": 0,
    "batch_size": 256,
    "chunk": None,
    "cache": None,
    "fit": None,
    "accumulation": "gradcache",
    "mesh": {"data": -1, "fsdp": 1, "model": 1},
    "sharding": [[".*", "fsdp"]],
    "compute_dtype": "float32",
    "remat": "none",
    "data": {"sources": [], "transforms": [], "workers": 0, "max_broken": 0.01},
    "init": None,
    "freeze": [],
    "optim": {
        "name": "adamw",
        "args": {},
        "lr": 1e-3,
        "schedule": {"name": "cosine", "warmup": 0},
        "weight_decay": 0.0,
        "decay_rules": None,
        "lr_rules": [],
        "clip": 1.0,
        "ema": None,
    },
    "bad_steps": "stop",
    "log_every": 50,
    "save_every": 500,
    "keep": 2,
    "wandb": False,
}


@contextlib.contextmanager
def whole(to: str) -> Iterator[Path]:
    """A folder that becomes `to` when the block ends, and vanishes where it fails.

    Raises:
      UserError: `to` exists and is not empty.
    """
    target = Path(to).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--to={to}: is there already and not empty: give a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp's is the owner's alone
        draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def mmjax_folder(found: "recognise.Found", to: str, source: str) -> dict[str, Any]:
    """Writes a workdir with one checkpoint, of step 0, and returns the checkpoint's meta."""
    config = run_config(found.model, found.preprocessing)
    dtypes = sorted({str(leaf.dtype) for leaf in found.leaves.values()})
    meta = {
        "config": config,
        "seed": 0,
        "versions": {"mmjax": mmjax.__version__},
        "train_seconds": 0.0,
        "tokenizer": found.preprocessing.tokenizer,
        "sentencepiece": found.preprocessing.sentencepiece,
        "preprocessing": {"transforms": found.preprocessing.transforms, "pixels": found.preprocessing.pixels},
        "converted": {"family": found.family.name, "format": found.family.format, "from": source, "dtypes": dtypes},
    }
    meta["answers" if config["task"]["name"] == "answers" else "labels"] = found.labels
    with whole(to) as draft:
        store.write(str(draft), found.leaves, meta)
        store.write_config(str(draft), config)
    return meta


def run_config(model: Spec, found: preprocess.Preprocessing) -> dict[str, Any]:
    """The config of a run over a converted model: UNTRAINED with its model, task and preprocessing."""
    task, batch = _task(model)
    task |= {"pixels": found.pixels} if found.pixels is not None else {}
    told = "question" if task["name"] == "answers" else "text"
    transforms = [t | ({"field": told} if t["name"] == "tokenise" and told != "text" else {}) for t in found.transforms]
    for transform in transforms:
        if transform["name"] == "resize":
            side = transform.get("crop") or transform["size"]
            batch["image"] = [[side, side, 3], "uint8"]
        if transform["name"] == "patches":
            batch["image"] = [[transform["count"], transform["patch"] ** 2 * 3 + PLACE], "uint8"]
        if transform["name"] == "tokenise":
            batch[told] = [[transform["length"]], "int32"]
        if transform["name"] == "whisper_log_mel":
            batch["audio"] = [[transform["mels"], round(100 * transform["seconds"])], "float32"]
    if "image" in batch and (model.get("heads") or {}).get("verdicts"):
        batch["image_b"] = batch["image"]
    evaluation = {"every": 0, "params": "raw", "batch_size": 256, "transforms": transforms, "sets": []}
    return UNTRAINED | {"model": model, "task": task, "batch": batch, "eval": evaluation}


def _task(model: Spec) -> tuple[Spec, dict[str, Any]]:
    """What a converted model is trained for, and what its rows hold beside pictures, texts and sounds."""
    if model["name"] == "dual_encoder":
        loss = "sigmoid" if model.get("logit_bias") else "softmax"
        return {"name": "contrastive", "loss": {"name": loss}}, {"group": [[], "int32"]}
    heads = model.get("heads")
    if heads is None:
        return {"name": "classification"}, {"label": [[], "int32"]}
    batch: dict[str, Any] = {}
    seen = model.get("visual") or model["image"]
    if seen["name"] == "regions":
        batch = {"regions": [[REGIONS, seen["features"]], "float32"], "boxes": [[REGIONS, 4], "float32"]}
    if count := heads.get("answers") or heads.get("verdicts"):
        # VisualBERT's code compares distributions; verdicts exclude each other.
        loss = "softmax" if heads.get("verdicts") or model["name"] == "visualbert" else "sigmoid"
        return {"name": "answers", "loss": loss}, batch | {"answer_scores": [[count], "float32"]}
    weights = {"masked_tokens": 1.0} | ({"matching": 1.0} if heads.get("match") else {})
    batch |= {"mlm_labels": [[model["text"]["length"]], "int32"], "group": [[], "int32"]}
    return {"name": "pretraining", "weights": weights}, batch


def load(checkpoint: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(meta, leaves by path) of a checkpoint in the dtypes stored, each read when it is asked for; the averaged ones where
    eval says so."""
    folder = store.find(checkpoint)
    meta, stored = store.meta(folder), store.stored(folder)
    wanted = "ema" if meta["config"]["eval"]["params"] == "ema" else "params"
    found = {}
    for name, leaf in stored.items():
        part, _, rest = name.partition("/")
        if part in (wanted, "stats"):
            read = functools.partial(_restored, folder, name, leaf, tuple(stored))
            found[f"params/{rest}" if part == wanted else name] = Tensor(tuple(leaf.shape), np.dtype(leaf.dtype), read)
    return meta, found


def _restored(*args: Any) -> np.ndarray:
    return np.asarray(store.restore_leaf(*args))


def family_of(model: Spec, format: str) -> tuple[Family, dict[str, Any]]:
    """The family that a model can be written as, and its config there.

    Raises:
      UserError: none says the same of it.
    """
    tried = []
    for family in FAMILIES:
        if family.format != format:
            continue
        config = family.config(model)
        if config is None:
            continue
        tried.append(family.name)
        if same(models.MODELS, family.model(config), model):
            return family, config
    why = f"; it is near to {', '.join(tried)}, but no config of theirs says the same" if tried else ""
    raise UserError(f"--format={format}: no family there has this model{why}")


def foreign_folder(checkpoint: str, to: str, format: str) -> tuple[Family, int]:
    """Writes a checkpoint as another project's folder; returns the family and the number of tensors."""
    meta, leaves = load(checkpoint)
    model = meta["config"]["model"]
    family, config = family_of(model, format)
    tensors = table.write(table.expand(family.table(model), leaves), leaves)
    prefix = family.prefix(model)
    tensors = {name if name.startswith(family.bare) else prefix + name: tensor for name, tensor in tensors.items()}
    travels = meta["preprocessing"]
    with whole(to) as draft:
        if format == "npz":
            readers.write_npz(draft / "model.npz", tensors)
        else:
            name = "model.safetensors" if format == "hf" else "open_clip_model.safetensors"
            readers.write_safetensors(draft / name, tensors)
        if format == "hf":
            if pooling := config.pop("pooling", None):
                _sentences(draft, pooling)
            config.pop("pooler", None)
            if labels := meta.get("labels") or meta.get("answers"):
                config |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
            dtypes = {str(x.dtype) for x in tensors.values()}
            config |= {"dtype": dtypes.pop()} if len(dtypes) == 1 else {}
            (draft / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if format == "open_clip":
            full = {"model_cfg": config, "preprocess_cfg": preprocess.open_clip_of(travels["transforms"], travels["pixels"])}
            (draft / "open_clip_config.json").write_text(json.dumps(full, indent=2) + "\n", encoding="utf-8")
        preprocess.write(draft, format, config, meta)
    return family, len(tensors)


def _sentences(folder: Path, pooling: Mapping[str, Any]) -> None:
    """What makes a folder one of sentence-transformers."""
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2) + "\n")
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "2_Normalize").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules, indent=2) + "\n")


def is_checkpoint(path: str) -> bool:
    """Whether a folder is a checkpoint of mmjax, or a workdir that has one."""
    try:
        store.find(path)
    except UserError:
        return False
    return True


def summary(found: "recognise.Found") -> Mapping[str, int]:
    """Tensors read, leaves made, parameters."""
    return {
        "tensors": len(found.entries),
        "leaves": len(found.leaves),
        "parameters": sum(int(np.prod(leaf.shape)) for path, leaf in found.leaves.items() if path.startswith("params/")),
    }
