"""Pretraining of ALBEF (Li et al. 2021, arXiv 2107.07651): contrast, matching with hard negatives, masked tokens, a teacher."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mmjax.core import keys
from mmjax.core.errors import UserError, suggest
from mmjax.core.pin import pin
from mmjax.losses import contrastive
from mmjax.losses.distilled import distilled
from mmjax.losses.matching import matching
from mmjax.losses.negatives import fetch, hard_negatives
from mmjax.losses.tokens import masked_tokens
from mmjax.tasks.normalise import Pixels, constants, normalise
from mmjax.tasks.task import Binder, Rows, Task, Terms, truncated

TERMS = ("contrastive", "matching", "masked_tokens")
TAUGHT = ("contrastive", "masked_tokens")


class ALBEF(Task):
    """Three objectives over one picture and one caption, two of which a momentum copy of the model teaches.

    - contrastive: of the two encoders' first tokens, against the teacher's of this batch and of a queue (losses.distilled).
    - matching: each pair, each caption with a hard negative picture and each picture with a hard negative caption, drawn from
      the global batch in proportion to exp(similarity), never of their own group. One without any (a batch of one, or of one
      group) counts nothing; "negatives" logs the share that has one.
    - masked_tokens: the caption with hidden tokens, beside its picture; the teacher's answer is part of the target.

    After each step the teacher moves, m <- momentum m + (1 - momentum) params, and the batch's features take the queue's
    oldest slot. The teacher sees no dropout. Examples of one group are positives of each other, in the queue too.

    Each switch of the paper's Table 1 is one key: weights.contrastive=0, weights.matching=0, weights.masked_tokens=0,
    hard_negatives=False, distil.contrastive=0, distil.masked_tokens=0, momentum=None; model.fusion is the depth.

    Rows: image uint8 (B, height, width, 3), text int32 (B, T), group int (B,), and mlm_labels int32 (B, T) of the transform
    mask_tokens: with them text has hidden tokens, and where they are not -1 they say what stood there. text_cut (B,) counts
    captions that were too long.

    Args:
      batch_size: of the config, which gives it.
      weights: {term: weight}, of TERMS; one that weighs 0 is not computed.
      momentum: the share of the teacher that stays, or None for no teacher: the contrast is then within the batch.
      queue: features of each modality that are kept, a multiple of the batch; 0 for none. (So long a queue serves a small
        batch; pairs that come again while they are in it are positives.)
      distil: {"contrastive", "masked_tokens"}: the teacher's share of the targets, alpha in the paper.
      ramp: steps over which alpha grows from 0 to that (the paper: the first epoch).
      hard_negatives: False draws negatives evenly. Without the contrastive term nothing learns a similarity, and they are too.
      pixels: constants of `normalise`.

    Raises:
      UserError: an unknown term, none at all, a number that is out of its range, or a queue that the batch does not divide.
    """

    # The queue (slots, B, D) lies where a batch's rows do: what enters it travels nowhere.
    places = (("queue/group", [["data", "fsdp"]]), ("queue/.*", [["data", "fsdp"], None]))

    def __init__(
        self,
        batch_size: int,
        weights: Mapping[str, float],
        momentum: float | None = 0.995,
        queue: int = 65536,
        distil: Mapping[str, float] | None = None,
        ramp: int = 0,
        hard_negatives: bool = True,
        pixels: Pixels = "imagenet",
    ):
        distil = dict.fromkeys(TAUGHT, 0.4) if distil is None else distil
        _check(batch_size, weights, momentum, queue if momentum is not None else 0, distil)
        constants(pixels)
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self._alpha = {
            name: float(distil.get(name, 0)) if momentum is not None and name in self.weights else 0.0 for name in TAUGHT
        }
        # What a teacher is for: the other side of the contrast, and targets.
        self._contrasts = "contrastive" in self.weights
        self._momentum = momentum if self._contrasts or self._alpha["masked_tokens"] else None
        self._batch, self._slots = batch_size, queue // batch_size if self._contrasts and momentum is not None else 0
        self._ramp, self._hard, self._pixels = ramp, hard_negatives and self._contrasts, pixels

    def image(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised image embeddings."""
        return bind(params).image(normalise(rows["image"], self._pixels), key)[0]

    def text(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B D"]:
        """L2-normalised text embeddings."""
        return bind(params).text(caption(rows), key)[0]

    def match(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None = None) -> Float[Array, "B 2"]:
        """Logits [no, yes] of whether text and picture belong together."""
        model = bind(params)
        shown = {"image": normalise(rows["image"], self._pixels)}
        return model.match(model.fuse(shown, caption(rows), key)[0]["joint"])

    def matched(self, bind: Binder, params: dict, rows: Rows) -> Float[Array, " P"]:
        """Log odds of yes of pairs: each text (P, T) with the picture at its place `at` (P,), which is encoded once."""
        model, told = bind(params), caption(rows)
        image = model.image_tokens(normalise(rows["image"], self._pixels))[0][rows["at"]]
        logits = model.match(model.fuse_tokens(image, model.text_tokens(told)[0], model.valid(told))[0]["joint"])
        return logits[:, 1] - logits[:, 0]

    def extra(self, params: dict) -> dict:
        """{"teacher", "queue", "step"}: a copy of the parameters; features (slots, B, D) and groups (slots, B); steps done."""
        if self._momentum is None:
            return {}
        extra = {"step": jnp.zeros((), jnp.int32), "teacher": jax.tree.map(jnp.copy, params)}
        if self._slots:
            shape = (self._slots, self._batch)
            width = params["image_projection"]["kernel"].shape[1]
            features = {name: jnp.zeros((*shape, width), jnp.float32) for name in ("image", "text")}
            extra["queue"] = features | {"group": jnp.zeros(shape, jnp.int32)}
        return extra

    def advance(self, params: dict, z: Any, extra: dict) -> dict:
        if not extra:
            return extra
        keep = self._momentum
        teacher = jax.tree.map(lambda m, p: keep * m + (1 - keep) * p, extra["teacher"], params)
        new = {"step": extra["step"] + 1, "teacher": teacher}
        if "queue" in extra:
            slot = extra["step"] % self._slots
            batch = {**z["taught"], "group": z["group"]}
            new["queue"] = {
                name: kept.at[slot].set(pin(batch[name]).astype(kept.dtype)) for name, kept in extra["queue"].items()
            }
        return new

    def encode(self, bind: Binder, params: dict, rows: Rows, key: Key[Array, " B"] | None) -> dict[str, Any]:
        image_key, text_key, draw = (None, None, None) if key is None else keys.split(key, 3)
        model, shown, told = bind(params), normalise(rows["image"], self._pixels), caption(rows)
        image, text = model.image_tokens(shown, image_key)[0], model.text_tokens(told, text_key)[0]
        z = {"image_tokens": image, "text_tokens": text, "valid": model.valid(told), "group": rows["group"]}
        z |= {} if draw is None else {"draw": draw}
        if self._contrasts:
            z |= {"image": model.image_embedding(image), "text": model.text_embedding(text)}
        if "masked_tokens" in self.weights:
            z |= {"ids": rows["text"], "labels": rows["mlm_labels"]}
        z |= {name: rows[name] for name in ("text_cut",) if name in rows}
        if self._momentum is not None:
            teacher = bind(bind.extra["teacher"])
            seen = teacher.image_tokens(shown)[0]
            if self._contrasts:
                read = teacher.text_tokens(told)[0]
                z["taught"] = {"image": teacher.image_embedding(seen), "text": teacher.text_embedding(read)}
            if self._alpha["masked_tokens"]:
                z["seen"] = seen
            z |= jax.lax.stop_gradient({name: z[name] for name in ("taught", "seen") if name in z})
        return z

    def relate(self, bind: Binder, params: dict, z: Any) -> tuple[Terms, Any]:
        model, terms = bind(params), {}
        if self._contrasts:
            terms |= self._contrast(bind, model, z) | {"temperature": (1 / model.scale(), jnp.float32(1))}
        if "matching" not in self.weights:
            return terms, {}
        places = self._negatives(model, z)
        other = fetch({"image": z["image_tokens"]}, places["t2i"]) | fetch(
            {"text": z["text_tokens"], "valid": z["valid"]}, places["i2t"]
        )
        found = {name: (at >= 0).astype(jnp.float32) for name, at in places.items()}
        share = sum(each.sum() for each in found.values())
        terms["negatives"] = (share, jnp.float32(2 * len(z["group"])))
        return terms, {"other": other, "found": jnp.stack([found["t2i"], found["i2t"]], 1)}

    def read(self, bind: Binder, params: dict, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        match_key, words_key = (None, None) if key is None else keys.split(key, 2)
        terms = {}
        if "matching" in self.weights:
            terms |= self._match(bind(params), z, aux, match_key)
        if "masked_tokens" in self.weights:
            logits = self._words(bind(params), z["ids"], z["image_tokens"], words_key)
            taught = {}
            if self._alpha["masked_tokens"]:
                teacher = bind(bind.extra["teacher"])
                taught = {
                    "teacher": self._words(teacher, z["ids"], z["seen"], None),
                    "alpha": self._share(bind.extra, "masked_tokens"),
                }
            terms |= masked_tokens(logits, z["labels"], **taught)
        return terms | truncated(z, "text")

    def _share(self, extra: Mapping[str, Any], term: str) -> Float[Array, ""]:
        """Alpha of this step."""
        grown = jnp.minimum(extra["step"] * (1 / self._ramp), 1) if self._ramp else 1.0
        return jnp.asarray(self._alpha[term] * grown)

    def _contrast(self, bind: Binder, model: Any, z: Any) -> Terms:
        if self._momentum is None:
            return contrastive.softmax(z["image"], z["text"], model.scale(), model.bias(), z["group"])
        student = {name: z[name] for name in ("image", "text")}
        queue, alpha = bind.extra.get("queue"), self._share(bind.extra, "contrastive")
        terms = distilled(student, z["taught"], model.scale(), z["group"], alpha, queue, bind.extra["step"])
        return terms | {"alpha": (alpha, jnp.float32(1))}

    def _negatives(self, model: Any, z: Any) -> dict[str, Int[Array, " B"]]:
        """Places of the hardest, or of any, each way; the similarity is the contrastive term's."""
        draw = z.get("draw")
        if not self._hard:  # at scale 0 all are as likely
            even = jnp.zeros((len(z["group"]), 1), jnp.float32)
            return hard_negatives(even, even, jnp.float32(0), z["group"], draw)
        taught = z.get("taught", z)
        return {
            "i2t": hard_negatives(z["image"], taught["text"], model.scale(), z["group"], draw)["i2t"],
            "t2i": hard_negatives(taught["image"], z["text"], model.scale(), z["group"], draw)["t2i"],
        }

    def _match(self, model: Any, z: Any, aux: Any, key: Key[Array, " B"] | None) -> Terms:
        """Of each example three pairs: its own, its caption with another picture, its picture with another caption."""

        def three(first, second, third):
            # An example's three pairs are neighbours, so that none changes its device.
            return jnp.stack([first, second, third], 1).reshape(-1, *first.shape[1:])

        image, text, valid, other = z["image_tokens"], z["text_tokens"], z["valid"], aux["other"]
        pairs = three(image, other["image"], image), three(text, text, other["text"]), three(valid, valid, other["valid"])
        joint = model.fuse_tokens(*pairs, None if key is None else keys.split(key, 3).T.reshape(-1))[0]["joint"]
        belongs = jnp.tile(jnp.asarray([True, False, False]), len(image))
        weight = jnp.concatenate([jnp.ones((len(image), 1), jnp.float32), aux["found"]], 1).reshape(-1)
        return matching(model.match(joint), belongs, weight)

    def _words(self, model: Any, ids: Int[Array, "B T"], image: Float[Array, "B S D"], key: Key[Array, " B"] | None):
        """Logits of the caption's words, of its visible ones and the picture."""
        text_key, key = (None, None) if key is None else keys.split(key, 2)
        text = model.text_tokens(ids, text_key)[0]
        return model.words(model.fuse_tokens(image, text, model.valid(ids), key)[0]["text"])


def caption(rows: Rows) -> Int[Array, "B T"]:
    """The caption as it was before mask_tokens hid some of it."""
    labels = rows.get("mlm_labels")
    return rows["text"] if labels is None else jnp.where(labels < 0, rows["text"], labels)


def _check(batch_size: int, weights: Mapping, momentum: float | None, queue: int, distil: Mapping) -> None:
    for key, given, choices in (("weights", weights, TERMS), ("distil", distil, TAUGHT)):
        if unknown := [name for name in given if name not in choices]:
            hint = suggest(unknown[0], choices)
            raise UserError(f"task.{key}: {unknown[0]!r} is not one of: {', '.join(choices)}.{hint}")
    if not any(weights.values()):
        raise UserError(f"task.weights {dict(weights)} leaves nothing to learn: give one of {', '.join(TERMS)} a weight")
    if momentum is not None and not 0 <= momentum < 1:
        raise UserError(f"task.momentum {momentum} is not between 0 and 1: use 0.995, or None for no teacher")
    if bad := [name for name, share in distil.items() if not 0 <= share <= 1]:
        raise UserError(f"task.distil.{bad[0]} {distil[bad[0]]} is not between 0 and 1")
    if queue < 0 or queue % batch_size:
        below = max(queue, 0) // batch_size * batch_size
        raise UserError(
            f"task.queue {queue} is not divisible by batch_size {batch_size}: use {below} or {below + batch_size}, for it "
            f"holds whole batches"
        )
