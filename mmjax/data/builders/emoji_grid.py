"""Grids of emoji: nine squares, each empty or with an emoji in one of several drawing styles, 96 x 96 pixels.

What emoji_vqa asks about, emoji_pairs states of two and emoji_entailment leaves partly covered. Drawings and names are those
of emoji4: English and Chinese labels of Unicode's CLDR, four styles. KINDS lists the 92 emoji that are used, each a thing
with a plural that has a name of its own, not another's ("bear" is left out because a panda is one; ships, cars and birds
likewise, also where only the Chinese name is that wide); only kinds overlap with nothing.

A seventh of each kind is unseen, drawn by `numpy.random.default_rng(0)`; the style that is not seen is emoji4's.
"""

import functools
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from mmjax.core.answers import NUMBERS
from mmjax.data.builders import emoji4
from mmjax.data.builders.draw import draw

CELL, SIDE = 32, 3  # pixels of a square, squares a side
SIZES = (24, 26, 28, 30)  # pixels of a drawing in its square
LINE, CARD = (225, 225, 225), (150, 150, 160)
SHARE = 1 / 7
TOLD = 3  # squares that a caption tells of
SEEN_STYLES = tuple(style for style in emoji4.STYLES if style != emoji4.HELD_STYLE)

KINDS = {
    "animal": "1F415 1F408 1F40E 1F404 1F416 1F407 1F401 1F418 1F405 1F42A 1F427 1F989 1F986 1F414 1F422 1F40D 1F41F 1F419"
    " 1F980 1F98B 1F41D 1F98A 1F43A 1F438 1F98C 1F40C 1F577 1F992 1F43C 1F987",
    "fruit": "1F34E 1F34F 1F34C 1F349 1F34B 1F34D 1F350 1F353 1F34A 1F96D 1F351 1F95D 1F965",
    "vehicle": "1F68C 1F6B2 1F3CD 1F69C 1F692 1F691 2708 1F681 1F680 26F5 1F682 1F69A 1F6F4 1F68B",
    "plant": "1F333 1F332 1F334 1F335 1F337 1F339 1F33B 1F33A 1F340 1F341",
    "musical instrument": "1F3B8 1F3BB 1F3BA 1F3B7 1F941 1FA97 1FA95 1F3B9",
    "clothing item": "1F455 1F457 1F454 1F9E3 1F3A9 1F9E5 1F45F 1F460 1F97E 1F9E2",
    "hand tool": "1F528 1F527 1FA9B 1FA9A 1FA93 26CF 1F52A",
}
KINDS_ZH = dict(zip(KINDS, ("动物", "水果", "交通工具", "植物", "乐器", "服饰", "手工工具"), strict=True))
IRREGULAR = {"mouse": "mice", "fish": "fish", "deer": "deer", "wolf": "wolves", "cactus": "cacti", "leaf": "leaves"} | {
    "scarf": "scarves",
    "knife": "knives",
    "mango": "mangoes",
}
POSITIONS = {
    "top left": "左上角",
    "top middle": "上方中间",
    "top right": "右上角",
    "middle left": "左侧中间",
    "centre": "正中间",
    "middle right": "右侧中间",
    "bottom left": "左下角",
    "bottom middle": "下方中间",
    "bottom right": "右下角",
}
# Rows and columns: their name, their Chinese name, their squares.
LINES = {
    "top row": ("最上面一行", (0, 1, 2)),
    "middle row": ("中间一行", (3, 4, 5)),
    "bottom row": ("最下面一行", (6, 7, 8)),
    "left column": ("最左边一列", (0, 3, 6)),
    "middle column": ("中间一列", (1, 4, 7)),
    "right column": ("最右边一列", (2, 5, 8)),
}
COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "pink": "粉色",
    "brown": "棕色",
}
CLEAR, SECOND, DARK = 0.6, 0.25, 0.45


class Word(NamedTuple):
    """A noun. In a format string {:a} is "a dog", {:s} "dogs", {:zh} "狗", and {} "dog"."""

    noun: str
    plural: str
    zh: str

    def __format__(self, form: str) -> str:
        article = "an" if self.noun[0] in "aeiou" else "a"
        return {"": self.noun, "a": f"{article} {self.noun}", "s": self.plural, "zh": self.zh}[form]


class Grid(NamedTuple):
    """Nine squares, row by row: the noun and the style of what is in each, "" where nothing is."""

    nouns: tuple[str, ...]
    styles: tuple[str, ...]

    def count(self, noun: str) -> int:
        return self.nouns.count(noun)


class World(NamedTuple):
    """What grids are made of.

    Attributes:
      words: noun, kind, position, line, colour, number -> Word.
      kinds: noun -> its kind.
      unseen: nouns held out.
      pictures: (noun, style, side) -> RGB.
      colours: (noun, style) -> a name of COLOURS; absent where a drawing has none or several.
    """

    words: Mapping[str, Word]
    kinds: Mapping[str, str]
    unseen: frozenset[str]
    pictures: Mapping[tuple[str, str, int], Image.Image]
    colours: Mapping[tuple[str, str], str]

    @property
    def seen(self) -> list[str]:
        return [noun for noun in self.kinds if noun not in self.unseen]


def plural(noun: str) -> str:
    """The plural of an English noun, of which the last word changes: "kitchen knife" -> "kitchen knives"."""
    first, _, last = noun.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{first} {last}".strip()


@functools.cache
def world() -> World:
    """The world of the pinned packages.

    Raises:
      UserError: they cannot be had (fetch.archive).
    """
    rng, labels = np.random.default_rng(0), emoji4.labels()
    words = {kind: Word(kind, plural(kind), KINDS_ZH[kind]) for kind in KINDS}
    words |= {name: Word(name, name, zh) for name, zh in (POSITIONS | COLOURS).items()}
    words |= {name: Word(name, name, zh) for name, (zh, _) in LINES.items()}
    words |= {str(n): Word(name, name, str(n)) for n, name in enumerate(NUMBERS)}
    kinds, codes, unseen = {}, {}, set()
    for kind, listed in KINDS.items():
        nouns = [labels[code]["text"] for code in listed.split()]
        codes |= dict(zip(nouns, listed.split(), strict=True))
        kinds |= dict.fromkeys(nouns, kind)
        words |= {noun: Word(noun, plural(noun), labels[codes[noun]]["text_zh"]) for noun in nouns}
        unseen |= set(rng.choice(nouns, round(SHARE * len(nouns)), replace=False).tolist())
    pictures, colours = {}, {}
    for style in emoji4.STYLES:
        svgs = emoji4.drawings(style)
        for noun, code in codes.items():
            for side in SIZES:
                pictures[noun, style, side] = _rgb(draw(svgs[code], side))
            if colour := colour_of(np.asarray(_rgb(draw(svgs[code], 64)))):
                colours[noun, style] = colour
    # Nobody is asked for a colour that training does not know.
    known = {colour for (noun, style), colour in colours.items() if noun not in unseen and style in SEEN_STYLES}
    colours = {drawing: colour for drawing, colour in colours.items() if colour in known}
    return World(words, kinds, frozenset(unseen), pictures, colours)


def _rgb(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def colour_of(picture: UInt8[np.ndarray, "_ _ 3"]) -> str | None:
    """The colour of a drawing on white, or None where people would not agree on one.

    It is that of CLEAR of the pixels that are neither white nor dark, none other being that of SECOND, if at most DARK of the
    drawing is dark: outlines are, but so are top hats with a yellow band. Pale and greyish tones have no name here but pink.
    """
    hue, saturation, value = (x.ravel() for x in np.moveaxis(np.asarray(Image.fromarray(picture).convert("HSV"), int), -1, 0))
    hue, drawn = hue * 360 / 256, (value < 235) | (saturation > 20)
    dark = value < 70
    warm = (hue < 50) | (hue >= 345)
    bands = {
        "pink": (hue >= 300) & (saturation >= 60) & ((hue < 335) | (saturation < 130)) & (value > 150),
        "none": (saturation < 100) | (warm & (saturation < 150) & (value >= 170)),
        "brown": (hue < 45) & (value < np.where(hue < 25, 195, 175)) & (saturation < 220),
        "red": (hue < 12) | (hue >= 335),
        "orange": hue < 42,
        "yellow": hue < 66,
        "green": hue < 170,
        "blue": (hue >= 185) & (hue < 245),
    }
    names = np.select(list(bands.values()), list(bands), "none")[drawn & ~dark]
    if not names.size or (drawn & dark).sum() > DARK * drawn.sum():
        return None
    shares = sorted(((float((names == name).mean()), name) for name in bands), reverse=True)
    clear = shares[0][0] >= CLEAR and shares[1][0] <= SECOND
    return shares[0][1] if clear and shares[0][1] != "none" else None


def sample(rng: np.random.Generator, nouns: Sequence[str], styles: Sequence[str], sure: Sequence[str] = ()) -> Grid:
    """A grid of two to six of `nouns`, those of `sure` among them, each once or more, and up to three empty squares."""
    squares = SIDE**2
    empty, k = int(rng.integers(4)), max(len(sure), int(rng.integers(2, 7)))
    others = [noun for noun in nouns if noun not in sure]
    chosen = [*sure, *rng.choice(others, k - len(sure), replace=False).tolist()]
    # Shares drawn anew each time: some grids are all of one thing, others of each the same.
    more = rng.choice(k, squares - empty - k, p=rng.dirichlet(np.ones(k))).tolist()
    filled = [*chosen, *(chosen[i] for i in more), *[""] * empty]
    placed = tuple(filled[i] for i in rng.permutation(squares))
    return Grid(placed, tuple(str(rng.choice(styles)) if noun else "" for noun in placed))


def picture(grid: Grid, world: World, rng: np.random.Generator, covered: Sequence[int] = ()) -> bytes:
    """The grid as png, each drawing at a random size and place in its square; a card lies on the squares `covered`."""
    canvas = Image.new("RGB", (SIDE * CELL, SIDE * CELL), "white")
    pen = ImageDraw.Draw(canvas)
    for i, (noun, style) in enumerate(zip(*grid, strict=True)):
        left, top = i % SIDE * CELL, i // SIDE * CELL
        if i in covered:
            pen.rectangle((left + 3, top + 3, left + CELL - 4, top + CELL - 4), CARD)
        elif noun:
            drawing = world.pictures[noun, style, int(rng.choice(SIZES))]
            x, y = (1 + int(rng.integers(CELL - side)) for side in drawing.size)
            canvas.paste(drawing, (left + x, top + y))
    for at in range(CELL, SIDE * CELL, CELL):
        pen.line((at, 0, at, SIDE * CELL), LINE)
        pen.line((0, at, SIDE * CELL, at), LINE)
    encoded = io.BytesIO()
    canvas.save(encoded, "PNG")
    return encoded.getvalue()


def caption(world: World, grid: Grid, colours: Sequence[str], nouns: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    """The record's caption and caption_zh: what TOLD squares hold, and how many there are of one of `nouns`, in any order.

    "brown dog top left, 0 cats, bus centre, dog bottom left"
    """
    filled = [i for i, noun in enumerate(grid.nouns) if noun]
    facts = [
        [world.words[name] for name in (colours[i], grid.nouns[i], tuple(POSITIONS)[i]) if name]
        for i in rng.permutation(filled)[:TOLD].tolist()
    ]
    english, chinese = ([" ".join(getattr(word, name) for word in fact) for fact in facts] for name in ("noun", "zh"))
    noun = nouns[int(rng.integers(len(nouns)))]
    n, word = grid.count(noun), world.words[noun]
    english.append(f"{n} {word.noun if n == 1 else word.plural}")
    chinese.append(f"{n}个{word.zh}")
    order = rng.permutation(len(english)).tolist()
    return {"caption": ", ".join(english[i] for i in order), "caption_zh": "，".join(chinese[i] for i in order)}
