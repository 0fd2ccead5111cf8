"""Statements about two grids of emoji, true or false, in English and Chinese: reasoning in the manner of NLVR2.

A row is a statement about two grids (those of emoji_vqa, emoji_grid says what is in them): image and image_b, the left and the
right one; text and text_zh; label, 0 false and 1 true; template, see TEMPLATES; grid, styles, grid_b and styles_b, what is in
the squares row by row, parted by ","; group, the pair's number; id. Two statements of two templates come of each pair. (NLVR2:
Suhr et al. 2019, arXiv:1811.00491, whose statements are people's about photographs; these are made.)

Truth follows from the grids. Half of the statements of a template are true, and no word in one makes it likelier
(balance.Balance). The right grid shares some things with the left one, and some squares.

Splits as emoji_vqa's: train and validation of the same things and styles; unseen_concepts, each statement about a thing that
train lacks; unseen_style. tokenizer.json numbers the word pieces of train's statements in both languages, as emoji_vqa's does.

Made of emoji4's packages: @iconify-json/noto 1.2.9, twemoji 1.2.5, openmoji 1.2.29 and fluent-emoji-flat 1.2.6, and
emojibase-data 17.0.0.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmjax.data.builders import emoji4
from mmjax.data.builders.balance import Balance, Choice
from mmjax.data.builders.emoji_grid import (
    CELL,
    KINDS,
    POSITIONS,
    SEEN_STYLES,
    SIDE,
    Grid,
    Statement,
    World,
    picture,
    sample,
    world,
)
from mmjax.data.builders.emoji_vqa import LICENCE
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of
from mmjax.data.tokenizers import MASKED

VERSION = "1.0.0"
ABOUT = "true and false statements about two 3 x 3 grids of emoji in English and Chinese, 96 x 96 pixels each"
COUNTS = {"train": 16_000, "validation": 2_000, "unseen_concepts": 2_000, "unseen_style": 2_000}
PACKAGES = emoji4.PACKAGES
CLASSES = ("false", "true")

EACH = 2  # statements of a pair
PLACES = tuple(POSITIONS)


class Pair(NamedTuple):
    """Two grids, the things that statements are about, and the kind of each thing."""

    left: Grid
    right: Grid
    nouns: tuple[str, ...]
    kinds: dict[str, str]

    def counts(self, noun: str) -> tuple[int, int]:
        return self.left.count(noun), self.right.count(noun)


def _more(pair: Pair) -> Iterator[Choice]:
    for noun in pair.nouns:
        left, right = pair.counts(noun)
        if left or right:
            yield Choice(int(left > right), (noun,))


def _both(pair: Pair) -> Iterator[Choice]:
    for noun in pair.nouns:
        yield Choice(int(all(pair.counts(noun))), (noun,))


def _one(pair: Pair) -> Iterator[Choice]:
    for noun in pair.nouns:
        left, right = pair.counts(noun)
        yield Choice(int(bool(left) != bool(right)), (noun,))


def _neither(pair: Pair) -> Iterator[Choice]:
    there = {pair.kinds[noun] for noun in pair.left.nouns + pair.right.nouns if noun}
    for kind in KINDS:
        yield Choice(int(kind not in there), (kind,))


def _total(pair: Pair) -> Iterator[Choice]:
    for noun, n in itertools.product(pair.nouns, range(1, 7)):
        if any(pair.counts(noun)):
            yield Choice(int(sum(pair.counts(noun)) == n), (str(n), noun))


def _each(pair: Pair) -> Iterator[Choice]:
    for a, b in itertools.permutations(pair.nouns, 2):
        yield Choice(int(a in pair.left.nouns and b in pair.right.nouns), (a, b))


def _same(pair: Pair) -> Iterator[Choice]:
    for place, a, b in zip(PLACES, pair.left.nouns, pair.right.nouns, strict=True):
        if a and b:
            yield Choice(int(a == b), (place,))


TEMPLATES = {
    "more": Statement(
        _more, "There are more {:s} in the left picture than in the right picture.", "{:zh}在左图里比在右图里多。"
    ),
    "both": Statement(_both, "Both pictures contain {:a}.", "两张图里都有{:zh}。"),
    "one": Statement(_one, "Exactly one of the pictures contains {:a}.", "两张图里正好有一张有{:zh}。"),
    "neither": Statement(_neither, "Neither picture contains any {}.", "两张图里都没有属于{:zh}的东西。"),
    "total": Statement(
        _total,
        "There are exactly {} {:s} in the two pictures together.",
        "{1:zh}在两张图里一共正好出现{0}次。",
        "There is exactly {} {} in the two pictures together.",
    ),
    "each": Statement(
        _each, "The left picture contains {:a} and the right picture contains {:a}.", "左图里有{:zh}，右图里有{:zh}。"
    ),
    "same": Statement(_same, "The same thing is in the {} square of both pictures.", "两张图{:zh}的格子里是同样的东西。"),
}


def build(folder: Path, vocabulary: int = 2048) -> None:
    """Writes the data set, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    made = world()
    splits = {split: list(rows(made, split, count)) for split, count in COUNTS.items()}
    text = tfds.features.Text()
    features = {
        **{
            name: tfds.features.Image(shape=(SIDE * CELL, SIDE * CELL, 3), encoding_format="png")
            for name in ("image", "image_b")
        },
        "label": tfds.features.ClassLabel(names=CLASSES),
        "group": np.int64,
        **dict.fromkeys(("text", "text_zh", "template", "grid", "styles", "grid_b", "styles_b", "id"), text),
    }
    write_tfds(folder, "emoji_pairs", VERSION, features, splits, __doc__, LICENCE)
    said = [row[key] for row in splits["train"] for key in ("text", "text_zh")]
    tokens = write_tokenizer(folder, said, vocabulary, "wordpiece", MASKED)
    write_manifest(folder, "emoji_pairs", PACKAGES, LICENCE, classes=CLASSES, unseen=sorted(made.unseen), vocabulary=tokens)


def rows(made: World, split: str, count: int) -> Iterator[dict[str, Any]]:
    """The records of a split of COUNTS; of another count, the first ones."""
    from tqdm import tqdm

    rng = np.random.default_rng([1, list(COUNTS).index(split)])
    balance, number = Balance(rng), 0
    with tqdm(total=count, desc=f"emoji_pairs: drawing {split}", unit="", disable=None) as bar:
        while number * EACH < count:
            pair = _pair(made, split, rng)
            possible = {name: list(one.choices(pair)) for name, one in TEMPLATES.items()}
            if split == "unseen_concepts":
                possible = {name: [c for c in some if made.unseen & set(c.args)] for name, some in possible.items()}
            possible = {name: some for name, some in possible.items() if some}
            images = [picture(grid, made, rng) for grid in pair[:2]]
            for _ in range(EACH):
                template = balance.next(dict.fromkeys(possible, 1.0))
                choice = balance.pick(template, possible.pop(template))
                yield {
                    **dict(zip(("image", "image_b"), images, strict=True)),
                    **TEMPLATES[template].said(made, choice),
                    **{name: ",".join(cells) for name, cells in zip(("grid", "styles"), pair.left, strict=True)},
                    **{name: ",".join(cells) for name, cells in zip(("grid_b", "styles_b"), pair.right, strict=True)},
                    "label": choice.answer,
                    "template": template,
                    "group": group_of(f"{split}-{number}"),
                    "id": f"{split}-{number}-{template}",
                }
            number += 1
            bar.update(EACH)


def _pair(made: World, split: str, rng: np.random.Generator) -> Pair:
    unseen = sorted(made.unseen) if split == "unseen_concepts" else []
    styles = [emoji4.HELD_STYLE] if split == "unseen_style" else SEEN_STYLES
    left = sample(rng, made.seen, styles, rng.choice(unseen, 2, replace=False).tolist() if unseen else ())
    there = sorted(set(left.nouns) - {""})
    shared = rng.choice(there, int(rng.integers(1, min(3, len(there)) + 1)), replace=False).tolist()
    right = sample(rng, [*made.seen, *(noun for noun in shared if noun in unseen)], styles, shared)
    nouns = list(right.nouns)
    for i in rng.choice(SIDE**2, 3, replace=False).tolist():  # squares that are alike
        nouns[i] = left.nouns[i]
    right = Grid(tuple(nouns), tuple(str(rng.choice(styles)) if noun else "" for noun in nouns))
    about = sorted({*left.nouns, *right.nouns} - {""})
    absent = sorted({*made.seen, *unseen} - set(about))
    return Pair(left, right, (*about, *rng.choice(absent, 3, replace=False).tolist()), dict(made.kinds))
