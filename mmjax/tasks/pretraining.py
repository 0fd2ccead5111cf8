"""Pretraining of models that read picture and text together (VisualBERT, LXMERT, ViLT and cross encoders)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from mmjax.core import keys
from mmjax.core.errors import UserError, suggest
from mmjax.losses import answers, regions
from mmjax.losses.matching import matching
from mmjax.losses.negatives import fetch, hard_negatives
from mmjax.losses.tokens import masked_tokens
from mmjax.tasks.normalise import Pixels, constants, visual
from mmjax.tasks.task import Binder, Rows, Task, Terms, truncated

# Terms of masked regions: the head's output, what it should be, and what a region's cost is multiplied by.
REGIONS = {
    "region_feature": ("feature", "region_targets", None),
    "region_label": ("label", "region_objects", "region_object_scores"),
    "region_attribute": ("attribute", "region_attributes", "region_attribute_scores"),
}
# What a term takes of a batch.
FIELDS = {"masked_tokens": ("mlm_labels",), "matching": ("group",), "answers": ("answer_scores",)} | {
    term: ("region_masked", *filter(None, fields)) for term, (_, *fields) in REGIONS.items()
}
TERMS = tuple(FIELDS)
# What goes along with a text that another row is given.
TEXT = ("text", "text_segments")


class Pretraining(Task):
    """Any of: masked tokens, image-text matching, masked regions, answers. One forward pass an example serves them all.

    For matching, half of the rows are shown the text of another row of the global batch, never one of their own group
    (LXMERT, arXiv 1908.07490, section 3.1.3). Their words say nothing of their picture: the other terms leave them out, as
    UNITER does (1909.11740, section 3.2).

    Rows: image uint8 (B, height, width, 3), or regions (B, S, F) and boxes (B, S, 4); text int32 (B, T), and text_segments;
    mlm_labels int32 (B, T) for masked tokens; group int (B,) for matching; answer_scores (B, A) for answers; for regions
    region_masked (B, S) and what REGIONS names: features as they were, labels and attributes that a detector gave, each weighed
    by its confidence as in LXMERT's code. text_cut (B,) counts texts that were too long.

    Args:
      weights: of TERMS; what is left out or weighs 0 is not computed.
      foreign: the share of rows that are shown another's text.
      loss: form of losses.answers.
      pixels: constants of `normalise`, for pictures.

    Raises:
      UserError: an unknown term, no term at all, or a share that is none.
    """

    def __init__(self, weights: Mapping[str, float], foreign: float = 0.5, loss: str = "sigmoid", pixels: Pixels = "imagenet"):
        if unknown := [name for name in weights if name not in TERMS]:
            raise UserError(f"task.weights: {unknown[0]!r} is not one of: {', '.join(TERMS)}.{suggest(unknown[0], TERMS)}")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        if not self.weights:
            raise UserError(f"task.weights {dict(weights)} leaves nothing to learn: give one of {', '.join(TERMS)} a weight")
        if not 0 < foreign < 1:
            raise UserError(f"task.foreign {foreign} is not between 0 and 1")
        answers.check(loss)
        constants(pixels)
        self._foreign, self._loss, self._pixels = foreign, loss, pixels
        self._regions = [name for name in REGIONS if name in self.weights]

    @property
    def relates(self) -> bool:
        return "matching" in self.weights

    def match(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B 2"]:
        """Logits [no, yes] of whether text and picture belong together."""
        model = bind(params)
        return model.match(self._fuse(model, rows, rows, key)["joint"])

    def matched(self, bind: Binder, params: dict, rows: Rows) -> Float[Array, " P"]:
        """Log odds of yes of pairs: each text (P, T) with the picture at its place `at` (P,)."""
        pictures = {name: value[rows["at"]] for name, value in rows.items() if name in ("image", "regions", "boxes")}
        logits = self.match(bind, params, pictures | {"text": rows["text"]})
        return logits[:, 1] - logits[:, 0]

    def answers(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B A"]:
        """A logit for each answer to a question, which stands in for the text."""
        model = bind(params)
        return model.answer(self._fuse(model, rows, {"text": rows["question"]}, key)["joint"])

    def encode(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> dict[str, jax.Array]:
        for term in self.weights:
            if missing := [name for name in FIELDS[term] if name not in rows]:
                raise UserError(f"task.weights.{term} needs {missing[0]!r} in config.batch, and a transform that gives it")
        if key is None:
            return dict(rows)
        coin, draw = keys.split(key, 2)
        return dict(rows) | {"foreign": jax.vmap(lambda key: jax.random.bernoulli(key, self._foreign))(coin), "draw": draw}

    def relate(self, bind: Binder, params: dict, z: Any) -> tuple[Terms, Any]:
        if not self.relates or "draw" not in z:
            return {}, {}
        # At scale 0 all that are no positives are as likely.
        even = jnp.zeros((len(z["group"]), 1), jnp.float32)
        other = hard_negatives(even, even, jnp.float32(0), z["group"], z["draw"])["i2t"]
        alone = other < 0
        foreign = z["foreign"] & ~alone
        theirs = fetch({name: z[name] for name in TEXT if name in z}, other)
        aux = {name: jnp.where(foreign[:, None], text, z[name]) for name, text in theirs.items()}
        aux |= {"match": ~foreign, "weight": (~alone).astype(jnp.float32)}
        return {"unmatched": (alone.sum(dtype=jnp.float32), jnp.float32(len(alone)))}, aux

    def read(self, bind: Binder, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        model, own = bind(params), aux.get("match", jnp.ones(len(z["text"]), bool))
        states, terms = self._fuse(model, z, z | aux, key), {}
        if "masked_tokens" in self.weights:
            labels = jnp.where(own[:, None], z["mlm_labels"], -1)
            terms |= masked_tokens(model.words(states["text"]), labels)
        if "matching" in self.weights:
            terms |= matching(model.match(states["joint"]), own, aux.get("weight"))
        if "answers" in self.weights:
            logits, scores = model.answer(states["joint"]), jnp.where(own[:, None], z["answer_scores"], 0)
            answers.check_list(logits, scores)
            terms |= answers.answers(logits, scores, self._loss)
        if self._regions:
            terms |= self._objects(model.objects(states["visual"]), z, own)
        return terms | truncated(z, "text")

    def _objects(self, found: Rows, z: Any, own: Bool[Array, " B"]) -> Terms:
        """What masked regions looked like and were called, of rows with their own text."""
        masked, terms = z["region_masked"] * own[:, None], {}
        for term in self._regions:
            output, target, confidence = REGIONS[term]
            if output == "feature":
                terms |= regions.feature(found[output], z[target], masked)
            else:
                terms |= regions.label(found[output], z[target], masked * z[confidence], term=term)
        return terms

    def _fuse(self, model: Any, shown: Rows, told: Rows, key: Key[Array, " B"] | None) -> dict[str, jax.Array]:
        return model.fuse(visual(shown, self._pixels), told["text"], key=key, segments=told.get("text_segments"))[0]
