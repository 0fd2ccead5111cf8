"""Writes what was read: an mmjax checkpoint, or another project's files; whole in a moment, or not at all."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mmjax
from mmjax import models
from mmjax.checkpoint import store
from mmjax.convert import preprocess, readers, recognise, table
from mmjax.convert.families import FAMILIES
from mmjax.convert.family import Family, Spec, same
from mmjax.core import tree
from mmjax.core.errors import UserError
from mmjax.models.classifier import ENCODERS

FORMATS = ("mmjax", "hf", "open_clip", "npz")

# A run that has not been trained: configs/base.py's settings. A test holds the two together.
UNTRAINED: dict[str, Any] = {
    "seed": 0,
    "steps": 0,
    "batch_size": 256,
    "chunk": None,
    "cache": None,
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
        "preprocessing": {"transforms": found.preprocessing.transforms, "pixels": found.preprocessing.pixels},
        "converted": {"family": found.family.name, "format": found.family.format, "from": source, "dtypes": dtypes},
    }
    state = tree.unflatten({path: np.ascontiguousarray(leaf.read()).reshape(leaf.shape) for path, leaf in found.leaves.items()})
    with whole(to) as draft:
        saver = store.Store(str(draft))
        saver.save(0, {"params": {}, "stats": {}} | state, meta)
        saver.close()
        store.write_config(str(draft), config)
    return meta


def run_config(model: Spec, found: preprocess.Preprocessing) -> dict[str, Any]:
    """The config of a run over a converted model: UNTRAINED with its model, task and preprocessing."""
    dual = model["name"] == "dual_encoder"
    task: Spec = {"name": "contrastive", "loss": {"name": "sigmoid" if model.get("logit_bias") else "softmax"}}
    if not dual:
        task = {"name": "classification"}
    task |= {"pixels": found.pixels} if found.pixels is not None else {}
    batch: dict[str, Any] = {}
    for transform in found.transforms:
        if transform["name"] == "resize":
            side = transform.get("crop") or transform["size"]
            batch["image"] = [[side, side, 3], "uint8"]
        if transform["name"] == "tokenise":
            batch["text"] = [[transform["length"]], "int32"]
        if transform["name"] == "whisper_log_mel":
            batch["audio"] = [[transform["mels"], round(100 * transform["seconds"])], "float32"]
    batch["group" if dual else "label"] = [[], "int32"]
    evaluation = {"every": 0, "params": "raw", "batch_size": 256, "transforms": found.transforms, "sets": []}
    return UNTRAINED | {"model": model, "task": task, "batch": batch, "eval": evaluation}


def load(checkpoint: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(meta, leaves by path) of a checkpoint, on this host in the dtypes stored; the averaged ones where eval says so."""
    folder = store.find(checkpoint)
    meta = store.meta(folder)
    wanted = "ema" if meta["config"]["eval"]["params"] == "ema" else "params"
    stored = {path: leaf for path, leaf in store.stored(folder).items() if path.split("/")[0] in (wanted, "stats")}
    like = {wanted: {}, "stats": {}} | tree.unflatten(stored)
    one = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    state = store.restore(folder, like, jax.tree.map(lambda _: one, like), parts=(wanted, "stats"))
    flat = tree.flatten({"params": state[wanted], "stats": state["stats"]})
    return meta, {path: np.asarray(leaf) for path, leaf in flat.items()}


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
        if same(models.MODELS, {"image": ENCODERS, "text": ENCODERS, "encoder": ENCODERS}, family.model(config), model):
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
    tensors = {name if name.startswith("classifier.") else prefix + name: tensor for name, tensor in tensors.items()}
    travels = meta["preprocessing"]
    with whole(to) as draft:
        if format == "npz":
            np.savez(draft / "model.npz", **tensors)
        else:
            name = "model.safetensors" if format == "hf" else "open_clip_model.safetensors"
            readers.write_safetensors(draft / name, tensors)
        if format == "hf":
            if pooling := config.pop("pooling", None):
                _sentences(draft, pooling)
            config.pop("pooler", None)
            dtypes = {str(x.dtype) for x in tensors.values()}
            config |= {"dtype": dtypes.pop()} if len(dtypes) == 1 else {}
            (draft / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if format == "open_clip":
            full = {"model_cfg": config, "preprocess_cfg": preprocess.open_clip_of(travels["transforms"], travels["pixels"])}
            (draft / "open_clip_config.json").write_text(json.dumps(full, indent=2) + "\n", encoding="utf-8")
        preprocess.write(draft, format, config, travels["transforms"], travels["pixels"], meta["tokenizer"])
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
