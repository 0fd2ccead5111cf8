"""Grids of emoji, some with covered squares, and what follows from them: visual entailment, in English and Chinese.

A row is a premise and a hypothesis: image, a grid of emoji_vqa's (emoji_grid says what is in them) on which none, one or two
squares are covered by grey cards; text and text_zh, a sentence; label, 0 entailment, 1 neutral, 2 contradiction; template, see
TEMPLATES; grid and styles, what is in the squares, parted by ",", also beneath the cards; covered, the numbers of the covered
squares, parted by ","; group, the grid's number; id. Two sentences of two templates come of each grid.

Under a card may be anything, or nothing. A sentence is entailed if it is true whatever lies there, contradicted if it is false
whatever lies there, and neutral if that decides. (SNLI-VE, Xie et al. 2019, arXiv:1901.06706, has people's judgments of
photographs; these follow from the squares.) All three are as frequent in a template as its grids allow, and no word in a
sentence makes one likelier (balance.Balance). The cards themselves tell something: without one nothing is neutral.

Splits as emoji_vqa's: train and validation of the same things and styles; unseen_concepts, each sentence about a thing that
train lacks; unseen_style. tokenizer.json numbers the word pieces of train's sentences in both languages, as emoji_vqa's does.

Measured: train 5,308, 5,347 and 5,345 of the three labels, 3,123 different sentences, 674 tokens. The most frequent training
label of the same words is right in 0.335 of validation, 0.397 of unseen_concepts, 0.328 of unseen_style. Prepared in 38 s of
processor time; 117 MB on disk.

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
    LINES,
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
ABOUT = "grids of emoji with covered squares, and sentences that follow, may or cannot, 96 x 96 pixels; 3 classes"
COUNTS = {"train": 16_000, "validation": 2_000, "unseen_concepts": 2_000, "unseen_style": 2_000}
PACKAGES = emoji4.PACKAGES
CLASSES = ("entailment", "neutral", "contradiction")

EACH = 2  # sentences of a grid
CARDS = 2
PLACES = tuple(POSITIONS)


class Premise(NamedTuple):
    """A grid, its covered squares, and the things that sentences are about."""

    grid: Grid
    covered: tuple[int, ...]
    nouns: tuple[str, ...]

    def seen(self, noun: str, squares: tuple[int, ...] = tuple(range(SIDE**2))) -> tuple[int, int]:
        """How many there are at least, and at most, in these squares."""
        least = sum(self.grid.nouns[i] == noun for i in squares if i not in self.covered)
        return least, least + sum(i in self.covered for i in squares)


def _label(true: bool, false: bool) -> int:
    """Of a sentence that is certainly true, or certainly false."""
    return 0 if true else 2 if false else 1


def _there(premise: Premise) -> Iterator[Choice]:
    for noun in premise.nouns:
        least, most = premise.seen(noun)
        yield Choice(_label(least > 0, most == 0), (noun,))


def _none(premise: Premise) -> Iterator[Choice]:
    for noun in premise.nouns:
        least, most = premise.seen(noun)
        yield Choice(_label(most == 0, least > 0), (noun,))


def _exactly(premise: Premise) -> Iterator[Choice]:
    for noun, n in itertools.product(premise.nouns, range(1, 5)):
        least, most = premise.seen(noun)
        yield Choice(_label(least == most == n, not least <= n <= most), (str(n), noun))


def _at_least(premise: Premise) -> Iterator[Choice]:
    for noun, n in itertools.product(premise.nouns, range(2, 5)):
        least, most = premise.seen(noun)
        yield Choice(_label(least >= n, most < n), (str(n), noun))


def _in_line(premise: Premise) -> Iterator[Choice]:
    for noun, (line, (_, squares)) in itertools.product(premise.nouns, LINES.items()):
        least, most = premise.seen(noun, squares)
        yield Choice(_label(least > 0, most == 0), (noun, line))


def _at(premise: Premise) -> Iterator[Choice]:
    for noun, (i, place) in itertools.product(premise.nouns, enumerate(PLACES)):
        least, most = premise.seen(noun, (i,))
        yield Choice(_label(least > 0, most == 0), (noun, place))


def _more(premise: Premise) -> Iterator[Choice]:
    for a, b in itertools.permutations(premise.nouns, 2):
        (least_a, most_a), (least_b, most_b) = premise.seen(a), premise.seen(b)
        yield Choice(_label(least_a > most_b, most_a <= least_b), (a, b))


TEMPLATES = {
    "there": Statement(_there, "There is {:a}.", "图中有{:zh}。"),
    "none": Statement(_none, "There is no {}.", "图中没有{:zh}。"),
    "exactly": Statement(_exactly, "There are exactly {} {:s}.", "图中{1:zh}正好出现{0}次。", "There is exactly {} {}."),
    "at_least": Statement(_at_least, "There are at least {} {:s}.", "图中{1:zh}至少出现{0}次。"),
    "in_line": Statement(_in_line, "There is {:a} in the {}.", "{1:zh}有{0:zh}。"),
    "at": Statement(_at, "There is {:a} in the {} square.", "{1:zh}的格子里有{0:zh}。"),
    "more": Statement(_more, "There are more {:s} than {:s}.", "图中{:zh}比{:zh}多。"),
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
        "image": tfds.features.Image(shape=(SIDE * CELL, SIDE * CELL, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "group": np.int64,
        **dict.fromkeys(("text", "text_zh", "template", "grid", "styles", "covered", "id"), text),
    }
    write_tfds(folder, "emoji_entailment", VERSION, features, splits, __doc__, LICENCE)
    said = [row[key] for row in splits["train"] for key in ("text", "text_zh")]
    tokens = write_tokenizer(folder, said, vocabulary, "wordpiece", MASKED)
    write_manifest(
        folder, "emoji_entailment", PACKAGES, LICENCE, classes=CLASSES, unseen=sorted(made.unseen), vocabulary=tokens
    )


def rows(made: World, split: str, count: int) -> Iterator[dict[str, Any]]:
    """The records of a split of COUNTS; of another count, the first ones."""
    from tqdm import tqdm

    rng = np.random.default_rng([2, list(COUNTS).index(split)])
    balance, number = Balance(rng), 0
    with tqdm(total=count, desc=f"emoji_entailment: drawing {split}", unit="", disable=None) as bar:
        while number * EACH < count:
            premise = _premise(made, split, rng)
            possible = {name: list(one.choices(premise)) for name, one in TEMPLATES.items()}
            if split == "unseen_concepts":
                possible = {name: [c for c in some if made.unseen & set(c.args)] for name, some in possible.items()}
            image = picture(premise.grid, made, rng, premise.covered)
            for _ in range(EACH):
                template = balance.next(dict.fromkeys(possible, 1.0))
                choice = balance.pick(template, possible.pop(template))
                yield {
                    "image": image,
                    **TEMPLATES[template].said(made, choice),
                    **{name: ",".join(cells) for name, cells in zip(("grid", "styles"), premise.grid, strict=True)},
                    "covered": ",".join(map(str, premise.covered)),
                    "label": choice.answer,
                    "template": template,
                    "group": group_of(f"{split}-{number}"),
                    "id": f"{split}-{number}-{template}",
                }
            number += 1
            bar.update(EACH)


def _premise(made: World, split: str, rng: np.random.Generator) -> Premise:
    unseen = sorted(made.unseen) if split == "unseen_concepts" else []
    styles = [emoji4.HELD_STYLE] if split == "unseen_style" else SEEN_STYLES
    grid = sample(rng, made.seen, styles, rng.choice(unseen, 2, replace=False).tolist() if unseen else ())
    covered = sorted(rng.choice(SIDE**2, int(rng.integers(CARDS + 1)), replace=False).tolist())
    there = sorted(set(grid.nouns) - {""})
    absent = sorted({*made.seen, *unseen} - set(there))
    return Premise(grid, tuple(covered), (*there, *rng.choice(absent, 4, replace=False).tolist()))
