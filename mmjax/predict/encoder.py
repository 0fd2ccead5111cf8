"""A checkpoint as a function: files and strings in, vectors and logits out, by the preprocessing that it carries."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mmjax.checkpoint import store
from mmjax.core import keys, registry
from mmjax.core.errors import UserError
from mmjax.data.transforms import TRANSFORMS
from mmjax.data.transforms.text import Tokenise
from mmjax.tasks import build as tasks
from mmjax.tasks.task import Binder

BATCH = 64


class Encoder:
    """The towers of a checkpoint on this process's first device.

    Args:
      checkpoint: a workdir (its newest), checkpoints/<step> or a converted folder.
      batch_size: rows that are embedded at once; the last batch is filled up, so that each tower compiles once.

    Attributes:
      meta: what travels in the checkpoint.
      cut: of the last `pairs` how many texts were longer than the model reads, and cut.

    Raises:
      UserError: there is no checkpoint there.
    """

    def __init__(self, checkpoint: str, batch_size: int = BATCH):
        folder = store.find(checkpoint)
        self.meta, self.folder = store.meta(folder), str(folder)
        config = self.meta["config"]
        self._model, self.task = tasks.build(config)
        part = "ema" if config["eval"]["params"] == "ema" else "params"
        like = {part: self._model.abstract["params"], "stats": self._model.abstract["stats"]}
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        state = store.restore(folder, like, jax.tree.map(lambda _: place, like), parts=(part, "stats"))
        self._params, self._stats, self._batch, self.cut = state[part], state["stats"], batch_size, 0
        self._transforms = config["eval"]["transforms"]
        self._programs: dict[str, Callable] = {}

    def images(self, pictures: Sequence[bytes], what: str = "image") -> Float[np.ndarray, "n D"]:
        """What the task's method `what` ("image" or "logits") makes of encoded pictures, in float32.

        Raises:
          UserError: this checkpoint reads no pictures.
          ValueError, OSError: a picture cannot be decoded; see `decodes`.
        """
        look = self._look()
        return self._run(what, ({"image": look(picture)} for picture in pictures))

    def pairs(self, what: str, pictures: Sequence[bytes], texts: Sequence[str]) -> Float[np.ndarray, "pairs D"]:
        """What the task's method `what` ("answers" or "match") makes of every picture with every text, pictures outermost.

        Raises:
          UserError: this checkpoint reads no pictures or no texts.
          ValueError, OSError: a picture cannot be decoded.
        """
        look, told = self._look(), [self._told(what, text) for text in texts]
        self.cut = sum(bool(row.pop("cut")) for row in told)
        return self._run(what, (row for picture in pictures for row in self._with(look(picture), told)))

    @staticmethod
    def _with(image: np.ndarray, told: Sequence[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        return ({"image": image, **text} for text in told)

    def _look(self) -> Callable[[bytes], np.ndarray]:
        """An encoded picture as the model is shown it."""
        transforms = [registry.build(TRANSFORMS, t) for t in self._transforms if t["name"] in ("decode", "resize", "patches")]
        if not transforms:
            raise UserError(f"{self.folder} reads no pictures: its preprocessing has none")

        def look(picture: bytes) -> np.ndarray:
            record: dict[str, Any] = {"image": picture}
            for transform in transforms:
                record = transform(record, keys.rng(0, "predict", 0))
            return np.asarray(record["image"])

        return look

    def _told(self, what: str, text: str) -> dict[str, np.ndarray]:
        """A text as the model is told it: tokens, under the field that the task's method reads, and whether it is "cut"."""
        if any(t["name"] == "candidates" for t in self._transforms):
            transform = self._tokens("candidates", field="question")
            record = transform({"question": text}, keys.rng(0, "predict", 0))
            return {"candidates": record["candidates"], "cut": record["question_cut"] > 0}
        # A task that does both may have been evaluated on texts alone, or on questions alone.
        rows = self.tokeniser().rows((text,))
        name = next(name for name in rows if name in ("text", "question"))
        return {"question" if what == "answers" else "text": rows[name], "cut": rows[f"{name}_cut"] > 0}

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n D"]:
        """Embeddings of texts, in float32.

        Raises:
          UserError: this checkpoint reads no texts, or carries no tokenizer.
        """
        tokenise = self.tokeniser()
        return self._run("text", ({"text": tokenise.rows((text,))["text"]} for text in texts))

    def tokeniser(self) -> Tokenise:
        """Text to token ids, as in training.

        Raises:
          UserError: this checkpoint reads no texts, or carries no tokenizer.
        """
        return self._tokens("tokenise", empty=True)

    def _tokens(self, name: str, **more: Any) -> Any:
        """The transform of that name with the checkpoint's own tokenizer."""
        specs = [dict(t) for t in self._transforms if t["name"] == name]
        if not specs:
            raise UserError(f"{self.folder} reads no texts: its preprocessing has none")
        spec = specs[0]
        with tempfile.TemporaryDirectory() as folder:
            if self.meta["tokenizer"] is not None:
                path = Path(folder) / "tokenizer.json"
                path.write_text(self.meta["tokenizer"], encoding="utf-8")
                spec["tokenizer"] = str(path)
            elif spec["tokenizer"] != "bytes":
                raise UserError(f"{self.folder} carries no tokenizer, which texts need; pictures work without")
            if name == "candidates" and self.meta.get("answers") is not None:
                spec["answers"] = self.meta["answers"]
            return registry.build(TRANSFORMS, {**spec, **more})

    def scale(self) -> tuple[float, float]:
        """What cosines are multiplied by, and what is added then."""
        bound = self._model.bind(self._params, self._stats)
        return float(bound.scale()), float(bound.bias())

    def _run(self, what: str, rows: Iterator[dict[str, np.ndarray]]) -> Float[np.ndarray, "n D"]:
        if not hasattr(self.task, what):
            raise UserError(f"{self.folder}: its task gives no {what}")
        if what not in self._programs:
            method = getattr(self.task, what)
            self._programs[what] = jax.jit(lambda params, stats, batch: method(Binder(self._model, stats), params, batch))
        done, batch = [], []
        for row in rows:
            batch.append(row)
            if len(batch) == self._batch:
                done.append(self._embed(what, batch))
                batch = []
        if batch:
            done.append(self._embed(what, batch))
        return np.concatenate(done) if done else np.zeros((0, 0), np.float32)

    def _embed(self, what: str, batch: list[dict[str, np.ndarray]]) -> np.ndarray:
        filled = batch + [batch[-1]] * (self._batch - len(batch))
        stacked = {name: np.stack([row[name] for row in filled]) for name in batch[0]}
        return np.asarray(self._programs[what](self._params, self._stats, stacked), np.float32)[: len(batch)]
