"""Questions about grids of emoji, in English and Chinese, 96 x 96 pixels.

A row is one question about one grid of nine squares (emoji_grid says what is in them and whence): image; question and
question_zh; answers and answers_zh, lists of one; type and template, see TEMPLATES; caption and caption_zh, facts to learn
words by (emoji_grid.caption); grid, styles and colours, what is in the squares row by row, parted by ",", empty where nothing
(a colour also where the drawing has no clear one); group, and item, the grid's number in its split; id, SPLIT-GRID-TYPE. Four
questions of four types come of each grid.

Truth is the grid's, not a person's: each answer follows from it. A thing is asked about by its name of Unicode's CLDR; only
words that hold for one of the used emoji are used. Colours are measured (emoji_grid.colour_of) and asked only where clear.

Answers are balanced by balance.Balance: of a template all answers are as frequent as grids allow, and no word in a question
makes one likelier. So what a model scores without the picture is about the most frequent answer of each template.

Splits:

- train, validation: other grids of the same 80 things in three styles, mixed within a grid.
- unseen_concepts: half of the things of a grid are of the 12 that train never shows nor names, and each question is about
  one of them, by name, by place or as one of its kind. An answer is always one of train's: no unseen thing is asked for.
- unseen_style: the things of train, in the style that train lacks.

answers.txt lists the answers of train, the most frequent first, answers_zh.txt the same in Chinese. tokenizer.json numbers
the words (word pieces) of the lower-cased training questions and captions in both languages, after [PAD]=0, [UNK]=1, [BOS]=2,
[EOS]=3, [MASK]=4.

Measured: 110 answers (yes, no, 0 to 4, 9 places, 7 kinds, 7 colours, 80 things), none of another split outside of train's; 787
tokens; 8,417 different questions in train. Accuracy without pictures, by metrics.answers.Blind of train:

                   majority  question-only, of which  counting  existence  position  comparison  attribute
  validation          0.294          0.354               0.201      0.504     0.249       0.498      0.320
  unseen_concepts     0.308          0.371               0.208      0.499     0.310       0.502      0.319
  unseen_style        0.294          0.359               0.204      0.503     0.264       0.504      0.321

The download is emoji4's 14 MB; prepared in 46 s of processor time; 307 MB on disk.

Made of emoji4's packages: @iconify-json/noto 1.2.9, twemoji 1.2.5, openmoji 1.2.29 and fluent-emoji-flat 1.2.6, and
emojibase-data 17.0.0.
"""

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmjax.data.builders import emoji4
from mmjax.data.builders.balance import Balance, Choice
from mmjax.data.builders.emoji_grid import (
    CELL,
    COLOURS,
    KINDS,
    KINDS_ZH,
    LINES,
    POSITIONS,
    SEEN_STYLES,
    SIDE,
    Grid,
    World,
    caption,
    picture,
    sample,
    world,
)
from mmjax.data.builders.manifest import write_manifest, write_tokenizer
from mmjax.data.builders.write import write_tfds
from mmjax.data.sources.source import group_of
from mmjax.data.tokenizers import MASKED

VERSION = "1.1.0"
LICENCE = "drawings Noto Apache-2.0, Twemoji CC-BY-4.0, OpenMoji CC-BY-SA-4.0, Fluent MIT; names MIT and Unicode"
ABOUT = "questions about 3 x 3 grids of emoji in English and Chinese, balanced answers, 96 x 96 pixels"
COUNTS = {"train": 40_000, "validation": 4_000, "unseen_concepts": 4_000, "unseen_style": 4_000}
PACKAGES = emoji4.PACKAGES

EACH = 4  # questions of a grid, each of another type
MOST = 4  # the largest number that is an answer
ABSENT = 4  # things that are not in a grid, which it is asked about too
WORDS = {"yes": "是", "no": "否"} | {str(n): str(n) for n in range(MOST + 1)} | KINDS_ZH | POSITIONS | COLOURS
PLACES = tuple(POSITIONS)


class Scene(NamedTuple):
    """A grid and what it is asked about.

    Attributes:
      nouns: things that are in it, and some that are not.
      colours: of the squares, "" where there is none that is clear.
      kinds: of the squares, "" where they are empty.
    """

    grid: Grid
    nouns: Sequence[str]
    colours: Sequence[str]
    kinds: Sequence[str]

    def once(self) -> list[tuple[str, int]]:
        """The things that are there once, and their squares."""
        return [(noun, i) for i, noun in enumerate(self.grid.nouns) if noun and self.grid.count(noun) == 1]


class Template(NamedTuple):
    """A kind of question.

    Attributes:
      type: what it belongs to.
      share: of its type's questions.
      choices: what could be asked of a scene.
      english, chinese: filled by the Words of a choice's arguments.
    """

    type: str
    share: float
    choices: Callable[[Scene], Iterator[Choice]]
    english: str
    chinese: str


def _said(true: bool) -> str:
    return "yes" if true else "no"


def _count(scene: Scene) -> Iterator[Choice]:
    for noun in scene.nouns:
        if (n := scene.grid.count(noun)) <= MOST:
            yield Choice(str(n), (noun,))


def _count_kind(scene: Scene) -> Iterator[Choice]:
    for kind in KINDS:
        if (n := scene.kinds.count(kind)) <= MOST:
            yield Choice(str(n), (kind,))


def _exists(scene: Scene) -> Iterator[Choice]:
    for noun in scene.nouns:
        yield Choice(_said(noun in scene.grid.nouns), (noun,))


def _exists_kind(scene: Scene) -> Iterator[Choice]:
    for kind in KINDS:
        yield Choice(_said(kind in scene.kinds), (kind,))


def _exists_line(scene: Scene) -> Iterator[Choice]:
    for noun, (line, (_, squares)) in itertools.product(scene.nouns, LINES.items()):
        yield Choice(_said(noun in [scene.grid.nouns[i] for i in squares]), (noun, line))


def _where(scene: Scene) -> Iterator[Choice]:
    for noun, i in scene.once():
        yield Choice(PLACES[i], (noun,))


def _what(scene: Scene) -> Iterator[Choice]:
    for place, noun in zip(PLACES, scene.grid.nouns, strict=True):
        if noun:
            yield Choice(noun, (place,))


def _beside(right: int, down: int) -> Callable[[Scene], Iterator[Choice]]:
    """What is next to a thing that is there once."""

    def choices(scene: Scene) -> Iterator[Choice]:
        for noun, i in scene.once():
            row, column = i // 3 + down, i % 3 + right
            if 0 <= row < 3 and 0 <= column < 3 and (other := scene.grid.nouns[3 * row + column]):
                yield Choice(other, (noun,))

    return choices


def _side(right: int, down: int) -> Callable[[Scene], Iterator[Choice]]:
    """Whether one thing is on that side of another, of two that are there once, and not level in this direction."""

    def choices(scene: Scene) -> Iterator[Choice]:
        for (a, i), (b, j) in itertools.permutations(scene.once(), 2):
            ahead = right * (i % 3 - j % 3) + down * (i // 3 - j // 3)
            if ahead:
                yield Choice(_said(ahead > 0), (a, b))

    return choices


def _compare(more: bool, of: Callable[[Scene], tuple[Sequence[str], Sequence[str]]]) -> Callable[[Scene], Iterator[Choice]]:
    """Whether there are more of one than of another, or as many, of which one is there at least."""

    def choices(scene: Scene) -> Iterator[Choice]:
        names, squares = of(scene)
        counts = {name: squares.count(name) for name in names}
        for a, b in itertools.permutations(names, 2):
            if counts[a] or counts[b]:
                yield Choice(_said(counts[a] > counts[b] if more else counts[a] == counts[b]), (a, b))

    return choices


def _things(scene: Scene) -> tuple[Sequence[str], Sequence[str]]:
    return scene.nouns, scene.grid.nouns


def _sorts(scene: Scene) -> tuple[Sequence[str], Sequence[str]]:
    return list(KINDS), scene.kinds


def _property(field: str) -> Callable[[Scene], Iterator[Choice]]:
    """The colour or kind of what is in a square."""

    def choices(scene: Scene) -> Iterator[Choice]:
        for place, value in zip(PLACES, getattr(scene, field), strict=True):
            if value:
                yield Choice(value, (place,))

    return choices


def _has(field: str, values: Sequence[str]) -> Callable[[Scene], Iterator[Choice]]:
    """Whether what is in a square has a colour or is of a kind."""

    def choices(scene: Scene) -> Iterator[Choice]:
        for place, own in zip(PLACES, getattr(scene, field), strict=True):
            for value in values if own else ():
                yield Choice(_said(own == value), (place, value))

    return choices


# Beside yes and no there are 5 numbers, 9 places, 7 kinds, 7 colours and the names of things: with these shares the most
# frequent answer of each template is right in 0.36 of all.
TEMPLATES = {
    "count": Template("counting", 0.7, _count, "How many {:s} are there?", "图中{:zh}出现了几次？"),
    "count_kind": Template("counting", 0.3, _count_kind, "How many {:s} are there?", "图中属于{:zh}的有几个？"),
    "exists": Template("existence", 0.4, _exists, "Is there {:a}?", "图中有{:zh}吗？"),
    "exists_line": Template("existence", 0.4, _exists_line, "Is there {:a} in the {}?", "{1:zh}有{0:zh}吗？"),
    "exists_kind": Template("existence", 0.2, _exists_kind, "Is there any {}?", "图中有属于{:zh}的东西吗？"),
    "where": Template("position", 0.25, _where, "Where is the {}?", "{:zh}在哪个位置？"),
    "what": Template("position", 0.09, _what, "What is in the {} square?", "{:zh}的格子里是什么？"),
    "what_left": Template(
        "position", 0.04, _beside(-1, 0), "What is directly to the left of the {}?", "{:zh}的左边紧挨着的是什么？"
    ),
    "what_right": Template(
        "position", 0.04, _beside(1, 0), "What is directly to the right of the {}?", "{:zh}的右边紧挨着的是什么？"
    ),
    "what_above": Template("position", 0.04, _beside(0, -1), "What is directly above the {}?", "{:zh}的上边紧挨着的是什么？"),
    "what_below": Template("position", 0.04, _beside(0, 1), "What is directly below the {}?", "{:zh}的下边紧挨着的是什么？"),
    "left_of": Template("position", 0.125, _side(-1, 0), "Is the {} to the left of the {}?", "{:zh}在{:zh}的左边吗？"),
    "right_of": Template("position", 0.125, _side(1, 0), "Is the {} to the right of the {}?", "{:zh}在{:zh}的右边吗？"),
    "above": Template("position", 0.125, _side(0, -1), "Is the {} higher than the {}?", "{:zh}的位置比{:zh}高吗？"),
    "below": Template("position", 0.125, _side(0, 1), "Is the {} lower than the {}?", "{:zh}的位置比{:zh}低吗？"),
    "more": Template("comparison", 0.4, _compare(True, _things), "Are there more {:s} than {:s}?", "图中{:zh}比{:zh}多吗？"),
    "equal": Template(
        "comparison", 0.4, _compare(False, _things), "Are there as many {:s} as {:s}?", "图中{:zh}和{:zh}一样多吗？"
    ),
    "more_kind": Template(
        "comparison", 0.2, _compare(True, _sorts), "Are there more {:s} than {:s}?", "图中{:zh}比{:zh}多吗？"
    ),
    "colour": Template(
        "attribute",
        0.3,
        _property("colours"),
        "What colour is the thing in the {} square?",
        "{:zh}的格子里的东西是什么颜色的？",
    ),
    "kind": Template(
        "attribute", 0.2, _property("kinds"), "What kind of thing is in the {} square?", "{:zh}的格子里的东西属于哪一类？"
    ),
    "has_colour": Template(
        "attribute",
        0.25,
        _has("colours", list(COLOURS)),
        "Is the thing in the {} square {}?",
        "{:zh}的格子里的东西是{:zh}的吗？",
    ),
    "of_kind": Template(
        "attribute", 0.25, _has("kinds", list(KINDS)), "Is the thing in the {} square {:a}?", "{:zh}的格子里的东西属于{:zh}吗？"
    ),
}
TYPES = tuple(dict.fromkeys(template.type for template in TEMPLATES.values()))


def build(folder: Path, vocabulary: int = 2048) -> None:
    """Writes the data set, answers.txt, answers_zh.txt, tokenizer.json and manifest.json into `folder`.

    Args:
      vocabulary: tokens of tokenizer.json at most.
    """
    import tensorflow_datasets as tfds

    made = world()
    splits = {split: list(rows(made, split, count)) for split, count in COUNTS.items()}
    text = tfds.features.Text()
    features = {
        "image": tfds.features.Image(shape=(SIDE * CELL, SIDE * CELL, 3), encoding_format="png"),
        **dict.fromkeys(("group", "item"), np.int64),
        **dict.fromkeys(("answers", "answers_zh"), tfds.features.Sequence(text)),
        **dict.fromkeys(("question", "question_zh", "caption", "caption_zh", "type", "template"), text),
        **dict.fromkeys(("grid", "styles", "colours", "id"), text),
    }
    write_tfds(folder, "emoji_vqa", VERSION, features, splits, __doc__, LICENCE)
    counts = collections.Counter((row["answers"][0], row["answers_zh"][0]) for row in splits["train"])
    answers = sorted(counts, key=lambda pair: (-counts[pair], pair))
    for name, listed in zip(("answers.txt", "answers_zh.txt"), zip(*answers, strict=True), strict=True):
        (folder / name).write_text("".join(f"{answer}\n" for answer in listed), encoding="utf-8")
    asked = [row[key] for row in splits["train"] for key in ("question", "question_zh", "caption", "caption_zh")]
    tokens = write_tokenizer(folder, asked, vocabulary, "wordpiece", MASKED)
    facts = {"answers": len(answers), "unseen": sorted(made.unseen), "vocabulary": tokens}
    write_manifest(folder, "emoji_vqa", PACKAGES, LICENCE, **facts)


def rows(made: World, split: str, count: int) -> Iterator[dict[str, Any]]:
    """The records of a split of COUNTS; of another count, the first ones."""
    from tqdm import tqdm

    rng, telling = (np.random.default_rng([i, list(COUNTS).index(split)]) for i in (0, 2))
    balance, number = Balance(rng), 0
    with tqdm(total=count, desc=f"emoji_vqa: drawing {split}", unit="", disable=None) as bar:
        while number * EACH < count:
            scene = _scene(made, split, rng)
            asked = _ask(made, split, scene, balance, number)
            if len(asked) < EACH:
                continue  # a grid that too little can be asked about
            image = picture(scene.grid, made, rng)
            for template, choice in asked:
                yield _row(made, scene, template, choice, image, f"{split}-{number}") | caption(
                    made, scene.grid, scene.colours, scene.nouns, telling
                )
            number += 1
            bar.update(EACH)


def _scene(made: World, split: str, rng: np.random.Generator) -> Scene:
    unseen = sorted(made.unseen) if split == "unseen_concepts" else []
    sure = rng.choice(unseen, 2 + int(rng.integers(2)), replace=False).tolist() if unseen else []
    grid = sample(rng, made.seen, [emoji4.HELD_STYLE] if split == "unseen_style" else SEEN_STYLES, sure)
    there = sorted(set(grid.nouns) - {""})
    absent = sorted({*made.seen, *unseen} - set(there))
    nouns = [*there, *rng.choice(absent, ABSENT, replace=False).tolist()]
    if unseen:
        nouns += [noun for noun in rng.choice(unseen, 1).tolist() if noun not in nouns]
    colours = [made.colours.get(square, "") for square in zip(*grid, strict=True)]
    return Scene(grid, nouns, colours, [made.kinds.get(noun, "") for noun in grid.nouns])


def _ask(made: World, split: str, scene: Scene, balance: Balance, number: int) -> list[tuple[str, Choice]]:
    """What is asked about a scene: templates of EACH types, and what they are filled with."""
    turn = number % len(TYPES)
    possible = {}
    for type in (*TYPES[turn:], *TYPES[:turn]):
        found = {name: list(one.choices(scene)) for name, one in TEMPLATES.items() if one.type == type}
        if split == "unseen_concepts":
            found.pop("exists_kind", None)  # of an unseen thing's kind there is always one
            found = {name: [choice for choice in some if _new(made, scene, choice)] for name, some in found.items()}
        if found := {name: some for name, some in found.items() if some}:
            possible[type] = found
    if len(possible) < EACH:
        return []
    asked = []
    for found in list(possible.values())[:EACH]:
        template = balance.next({name: TEMPLATES[name].share for name in found})
        asked.append((template, balance.pick(template, found[template])))
    return asked


def _new(made: World, scene: Scene, choice: Choice) -> bool:
    """Whether a question is about a thing that train lacks, and its answer is not such a thing."""
    if choice.answer in made.unseen:
        return False
    squares = [scene.grid.nouns[PLACES.index(arg)] for arg in choice.args if arg in PLACES]
    sorts = {made.kinds[noun] for noun in scene.grid.nouns if noun in made.unseen}
    return bool(made.unseen & set(squares or choice.args) or (not squares and sorts & set(choice.args)))


def _row(made: World, scene: Scene, template: str, choice: Choice, image: bytes, grid: str) -> dict[str, Any]:
    words, form = [made.words[arg] for arg in choice.args], TEMPLATES[template]
    answer = str(choice.answer)
    return {
        "image": image,
        "question": form.english.format(*words),
        "question_zh": form.chinese.format(*words),
        "answers": [answer],
        "answers_zh": [WORDS.get(answer) or made.words[answer].zh],
        "type": form.type,
        "template": template,
        "grid": ",".join(scene.grid.nouns),
        "styles": ",".join(scene.grid.styles),
        "colours": ",".join(scene.colours),
        "group": group_of(grid),
        "item": int(grid.rpartition("-")[2]),
        "id": f"{grid}-{form.type}",
    }
