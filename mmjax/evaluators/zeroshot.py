"""Zero-shot classification: class names in prompt templates, averaged and normalised (CLIP, 2103.00020, section 3.1.4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from mmjax.core.errors import UserError
from mmjax.core.module import Model
from mmjax.data.stream import epoch
from mmjax.evaluators.embed import Embedder
from mmjax.metrics import classification
from mmjax.sharding.mesh import share
from mmjax.tasks.task import Task


class ZeroShot:
    """Top-1 and top-5 accuracy of the class whose text embedding is nearest to the image.

    Args:
      set: the name under which results are filed.
      source: records with image and label; label -1 is left out.
      classes: class names in label order.
      templates: sentences with "{}" for the class name; a class's embeddings are averaged over them and normalised again.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        mesh: Mesh,
        common: Mapping[str, Any],
        *,
        set: str,
        source: dict,
        classes: Sequence[str],
        templates: Sequence[str],
    ):
        if bad := [t for t in templates if "{}" not in t]:
            raise UserError(f"eval set {set!r}: template {bad[0]!r} has no {{}} for the class name")
        self._epoch = epoch(source, common["transforms"], common["batch_size"], **share(mesh))
        prompts = [
            {"text": t.format(name), "id": f"{name}/{i}", "group": 0} for name in classes for i, t in enumerate(templates)
        ]
        text_only = [t for t in common["transforms"] if t["name"] == "tokenise"]
        memory = {"name": "memory", "records": prompts}
        self._prompts = epoch(memory, text_only, common["batch_size"], ("text",), **share(mesh))
        self._image, self._text = (Embedder(model, {"z": tower}, mesh) for tower in (task.image, task.text))
        self._classes, self.set = len(classes), set

    def __call__(self, params: dict, stats: dict, step: int) -> dict[str, dict[str, float]]:
        """{set: {"zeroshot/top1": ..., "zeroshot/top5": ..., "zeroshot/mean_class": ..., "zeroshot/classes": n}}."""
        prompts = self._text(params, stats, self._prompts)["z"]
        classes = prompts.reshape(self._classes, -1, prompts.shape[-1]).mean(1)
        classes /= np.linalg.norm(classes, axis=-1, keepdims=True)
        found = self._image(params, stats, self._epoch, keep=("label",))
        images, labels = found["z"], found["label"]
        scores = classification.accuracy(images @ classes.T, labels)
        return {self.set: {f"zeroshot/{name}": value for name, value in scores.items()} | {"zeroshot/classes": self._classes}}
