"""From a config's `model`, `task` and `batch` to what the loop runs, with every check that needs no data."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import models
from mmjax.core import registry
from mmjax.core.errors import UserError
from mmjax.core.module import Model
from mmjax.tasks import TASKS
from mmjax.tasks.task import Task

DTYPES = ("float32", "bfloat16", "float16", "float64")
REMAT = ("none", "dots", "full")


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError for a task, dtype or remat policy that the tables do not know; of the model, `build` does."""
    registry.check(TASKS, config["task"], "task")
    for key, choices in (("compute_dtype", DTYPES), ("remat", REMAT), ("bad_steps", ("stop", "skip"))):
        if config[key] not in choices:
            raise UserError(f"{key} {config[key]!r} is not one of: {', '.join(choices)}")


def build(config: Mapping[str, Any]) -> tuple[Model, Task]:
    """The model (shapes only) and the task of a resolved config; a task that carries a batch (a queue) is told its size."""
    model = models.build(config["model"], dtype=config["compute_dtype"], remat=config["remat"])
    registry.check(TASKS, config["task"], "task")
    carries = "batch_size" in registry.parameters(TASKS[config["task"]["name"]])
    known = {"batch_size": config["batch_size"]} if carries else {}
    return model, registry.build(TASKS, config["task"], where="task", **known)


def abstract_batch(config: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the global batch, as `config.batch` states them: {field: [[shape of a row], dtype]}."""
    return {
        name: jax.ShapeDtypeStruct((config["batch_size"], *shape), jnp.dtype(dtype))
        for name, (shape, dtype) in config["batch"].items()
    }


# Fields of token ids.
TEXTS = ("text", "question", "candidates")


def check_batch(config: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> None:
    """Raises UserError unless the data's first batch is what `config.batch` and the vocabulary say."""
    for name, (shape, dtype) in config["batch"].items():
        if name not in rows:
            raise UserError(f"the data gives no field {name!r}, which config.batch asks for; it gives: {', '.join(rows)}")
        if list(rows[name].shape[1:]) != list(shape) or rows[name].dtype != np.dtype(dtype):
            raise UserError(
                f"the data gives {name} of {list(rows[name].shape[1:])} {rows[name].dtype}, config.batch.{name} says "
                f"{list(shape)} {dtype}: change data.transforms or config.batch"
            )
    vocab = (config["model"].get("text") or config["model"].get("encoder", {})).get("vocab")
    for name in TEXTS:
        if vocab is not None and name in rows and (top := int(rows[name].max(initial=0))) >= vocab:
            raise UserError(
                f"the tokenizer gives {name} the id {top} and model.text.vocab is {vocab}: set it to the tokenizer's vocabulary"
            )
