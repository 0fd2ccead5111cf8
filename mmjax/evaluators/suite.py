"""All evaluators of a config as one callable, which is what the loop is handed."""

from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from mmjax.core import registry
from mmjax.core.errors import UserError
from mmjax.core.module import Model
from mmjax.evaluators import EVALUATORS
from mmjax.sharding import mesh as meshes
from mmjax.tasks.task import Task


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError for an evaluator that the table does not know or a choice that does not exist."""
    for i, spec in enumerate(config["eval"]["sets"]):
        registry.check(EVALUATORS, spec, f"eval.sets.{i}", filled=4)
    if config["eval"]["params"] not in ("raw", "ema"):
        raise UserError(f"eval.params {config['eval']['params']!r} is not one of: raw, ema")
    if config["eval"]["params"] == "ema" and not config["optim"]["ema"]:
        raise UserError("eval.params is 'ema' and optim.ema is off: set --config.optim.ema=0.999 or --config.eval.params=raw")


class Suite:
    """Evaluators in the order of `config.eval.sets`; those of one set file their results together."""

    def __init__(self, config: Mapping[str, Any], model: Model, task: Task, mesh: Mesh):
        check(config)
        common = {key: config["eval"][key] for key in ("transforms", "batch_size")} | {"batch": config["batch"]}
        meshes.check_batch(common["batch_size"], mesh.shape, where="eval.batch_size")
        self._evaluators = [
            registry.build(EVALUATORS, spec, model, task, mesh, common, where=f"eval.sets.{i}")
            for i, spec in enumerate(config["eval"]["sets"])
        ]

    def __call__(self, params: dict, stats: dict, step: int) -> dict[str, dict[str, float]]:
        """{set: {metric: value}} with these parameters."""
        results: dict[str, dict[str, float]] = {}
        for evaluator in self._evaluators:
            for name, scores in evaluator(params, stats, step).items():
                results.setdefault(name, {}).update(scores)
        return results

    def galleries(self) -> list[dict[str, Any]]:
        """What there is to look at of the last call."""
        return [e.gallery() for e in self._evaluators if getattr(e, "found", None)]
