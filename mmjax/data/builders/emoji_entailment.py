"""Grids of emoji, some with covered squares, and what follows from them: visual entailment, in English and Chinese.

A row is a premise and a hypothesis: image, a grid of emoji_vqa's (emoji_grid says what is in them) on which none, one or two
squares are covered by grey cards; question and question_zh, a sentence; answers and answers_zh, a list of its verdict:
"entailment", "neutral" or "contradiction"; type, of TEMPLATES; grid and styles, what is in the squares, parted by ",", also
beneath the cards; covered, the numbers of the covered squares, parted by ","; group, the grid's number; id. Two sentences of
two types come of each grid.

Under a card may be anything, or nothing. A sentence is entailed if it is true whatever lies there, contradicted if it is false
whatever lies there, and neutral if that decides. (SNLI-VE, Xie et al. 2019, arXiv:1901.06706, has people's judgments of
photographs; these follow from the squares.) All three are as frequent in a type as its grids allow, and no word in a
sentence makes one likelier (balance.Balance). The cards themselves tell something: without one nothing is neutral.

Splits as emoji_vqa's: train and validation of the same things and styles; unseen_concepts, each sentence about a thing that
train lacks; unseen_style. answers.txt and answers_zh.txt list the verdicts; tokenizer.json numbers the word pieces of train's
sentences in both languages, as emoji_vqa's does.

Measured: train 5,308, 5,347 and 5,345 of the three verdicts, 3,123 different sentences, 680 tokens. The most frequent training
verdict of the same words is right in 0.340 of validation, 0.389 of unseen_concepts, 0.333 of unseen_style. Prepared in 39 s of
processor time; 118 MB on disk.

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
from mmjax.data.builders.emoji_grid import LINES, POSITIONS, SIDE, Grid, World, picture, sample, world
from mmjax.data.builders.emoji_statements import Statement
from mmjax.data.builders.emoji_vqa import LICENCE

VERSION = "1.0.0"
ABOUT = "grids of emoji with covered squares, and sentences that follow, may or cannot, 96 x 96 pixels; 3 verdicts"
COUNTS, PACKAGES = statements.COUNTS, emoji4.PACKAGES
VERDICTS = {"entailment": "蕴含", "neutral": "中立", "contradiction": "矛盾"}
CARDS = 2
PLACES = tuple(POSITIONS)
TEXTS = ("grid", "styles", "covered")  # of what is in the squares


class Premise(NamedTuple):
    """A grid, its covered squares, and the things that sentences are about."""

    grid: Grid
    covered: tuple[int, ...]
    nouns: tuple[str, ...]

    def seen(self, noun: str, squares: tuple[int, ...] = tuple(range(SIDE**2))) -> tuple[int, int]:
        """How many there are at least, and at most, in these squares."""
        least = sum(self.grid.nouns[i] == noun for i in squares if i not in self.covered)
        return least, least + sum(i in self.covered for i in squares)

    def shown(self, world: World, rng: np.random.Generator) -> dict[str, Any]:
        """The picture, and what is in its squares, also beneath the cards."""
        cells = [",".join(map(str, names)) for names in (*self.grid, self.covered)]
        return {"image": picture(self.grid, world, rng, self.covered), **dict(zip(TEXTS, cells, strict=True))}


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
    "exactly": Statement(_exactly, "There are exactly {} {:s}.", "图中{1:zh}正好出现{0:zh}次。", "There is exactly {} {}."),
    "at_least": Statement(_at_least, "There are at least {} {:s}.", "图中{1:zh}至少出现{0:zh}次。"),
    "in_line": Statement(_in_line, "There is {:a} in the {}.", "{1:zh}有{0:zh}。"),
    "at": Statement(_at, "There is {:a} in the {} square.", "{1:zh}的格子里有{0:zh}。"),
    "more": Statement(_more, "There are more {:s} than {:s}.", "图中{:zh}比{:zh}多。"),
}


def build(folder: Path, vocabulary: int = 2048) -> None:
    """Writes the data set, answers.txt, answers_zh.txt, tokenizer.json and manifest.json into `folder`."""
    statements.build(KIND, world(), folder, VERSION, __doc__, LICENCE, vocabulary)


def rows(made: World, split: str, count: int) -> Iterator[dict[str, Any]]:
    """The records of a split of COUNTS; of another count, the first ones."""
    return statements.rows(KIND, made, split, count)


def _premise(made: World, unseen: list[str], styles: tuple[str, ...], rng: np.random.Generator) -> Premise:
    grid = sample(rng, made.seen, styles, rng.choice(unseen, 2, replace=False).tolist() if unseen else ())
    covered = sorted(rng.choice(SIDE**2, int(rng.integers(CARDS + 1)), replace=False).tolist())
    there = sorted(set(grid.nouns) - {""})
    absent = sorted({*made.seen, *unseen} - set(there))
    return Premise(grid, tuple(covered), (*there, *rng.choice(absent, 4, replace=False).tolist()))


KIND = statements.Kind("emoji_entailment", 2, TEMPLATES, VERDICTS, _premise, ("image",), TEXTS)
