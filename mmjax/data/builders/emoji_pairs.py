"""Statements about two grids of emoji, true or false, in English and Chinese: reasoning in the manner of NLVR2.

A row is a statement about two grids (those of emoji_vqa, emoji_grid says what is in them): image and image_b, the left and the
right one; question and question_zh, the statement; answers and answers_zh, a list of its verdict, "false" or "true"; type, of
TEMPLATES; grid, styles, grid_b and styles_b, what is in the squares row by row, parted by ","; group, the pair's number; id.
Two statements of two types come of each pair. (NLVR2: Suhr et al. 2019, arXiv:1811.00491, whose statements are people's about
photographs; these are made.)

Truth follows from the grids. Half of the statements of a template are true, and no word in one makes it likelier
(balance.Balance). The right grid shares some things with the left one, and some squares.

Splits as emoji_vqa's: train and validation of the same things and styles; unseen_concepts, each statement about a thing that
train lacks; unseen_style. answers.txt and answers_zh.txt list the verdicts; tokenizer.json numbers the word pieces of train's
statements in both languages, as emoji_vqa's does.

Measured: train 7,999 false and 8,001 true, 2,108 different statements, 745 tokens. The most frequent training verdict of the
same words is right in 0.501 of validation, 0.500 of unseen_concepts, 0.498 of unseen_style. Prepared in 52 s of processor time;
252 MB on disk.

Made of emoji4's packages: @iconify-json/noto 1.2.9, twemoji 1.2.5, openmoji 1.2.29 and fluent-emoji-flat 1.2.6, and
emojibase-data 17.0.0.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmjax.data.builders import emoji4
from mmjax.data.builders import emoji_statements as statements
from mmjax.data.builders.balance import Choice
from mmjax.data.builders.emoji_grid import KINDS, POSITIONS, SIDE, Grid, World, picture, sample, world
from mmjax.data.builders.emoji_statements import Statement
from mmjax.data.builders.emoji_vqa import LICENCE

VERSION = "1.0.0"
ABOUT = "true and false statements about two 3 x 3 grids of emoji in English and Chinese, 96 x 96 pixels each"
COUNTS, PACKAGES = statements.COUNTS, emoji4.PACKAGES
VERDICTS = {"false": "假", "true": "真"}
PLACES = tuple(POSITIONS)
TEXTS = ("grid", "styles", "grid_b", "styles_b")  # of what is in the squares


class Pair(NamedTuple):
    """Two grids, the things that statements are about, and the kind of each thing."""

    left: Grid
    right: Grid
    nouns: tuple[str, ...]
    kinds: dict[str, str]

    def counts(self, noun: str) -> tuple[int, int]:
        return self.left.count(noun), self.right.count(noun)

    def shown(self, world: World, rng: np.random.Generator) -> dict[str, Any]:
        """Both pictures, and what is in their squares."""
        left, right = (picture(grid, world, rng) for grid in (self.left, self.right))
        cells = [",".join(names) for grid in (self.left, self.right) for names in grid]
        return {"image": left, "image_b": right, **dict(zip(TEXTS, cells, strict=True))}


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
        "{1:zh}在两张图里一共正好出现{0:zh}次。",
        "There is exactly {} {} in the two pictures together.",
    ),
    "each": Statement(
        _each, "The left picture contains {:a} and the right picture contains {:a}.", "左图里有{:zh}，右图里有{:zh}。"
    ),
    "same": Statement(_same, "The same thing is in the {} square of both pictures.", "两张图{:zh}的格子里是同样的东西。"),
}


def build(folder: Path, vocabulary: int = 2048) -> None:
    """Writes the data set, answers.txt, answers_zh.txt, tokenizer.json and manifest.json into `folder`."""
    statements.build(KIND, world(), folder, VERSION, __doc__, LICENCE, vocabulary)


def rows(made: World, split: str, count: int) -> Iterator[dict[str, Any]]:
    """The records of a split of COUNTS; of another count, the first ones."""
    return statements.rows(KIND, made, split, count)


def _pair(made: World, unseen: list[str], styles: tuple[str, ...], rng: np.random.Generator) -> Pair:
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


KIND = statements.Kind("emoji_pairs", 1, TEMPLATES, VERDICTS, _pair, ("image", "image_b"), TEXTS)
