"""Grids of emoji and what is asked and said of them, over drawings made here: every answer is worked out again, from the
English sentence and the grid alone, and every picture is looked at."""

import collections
import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from mmjax.core.answers import NUMBERS
from mmjax.data.builders import emoji4, emoji_entailment, emoji_grid, emoji_pairs, emoji_vqa
from mmjax.data.builders.balance import Balance, Choice
from mmjax.metrics.answers import Blind, accuracy

FILLS = {
    "red": (220, 30, 30),
    "orange": (240, 140, 20),
    "yellow": (240, 215, 30),
    "green": (40, 170, 60),
    "blue": (40, 110, 220),
    "pink": (240, 100, 190),
    "brown": (120, 75, 40),
}
POSITIONS = [f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "middle", "right")]
POSITIONS[4] = "centre"
KINDS = {f"{kind}s": kind for kind in emoji_grid.KINDS}
EXACTLY = "(?:are exactly (two|three|four|five|six) (.+)s|is exactly (one) (.+))"


def fill(noun, style):
    """A colour of its own for each drawing, and its name."""
    n = int(noun.split()[1])
    name = list(FILLS)[(n + n // 7) % 7]
    return tuple(x + d for x, d in zip(FILLS[name], (n // 7, 0, list(emoji4.STYLES).index(style)), strict=True)), name


@pytest.fixture(scope="module")
def world():
    """Thirty things, "item 0" to "thing 29", in four styles of plain squares."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, codes in emoji_grid.KINDS.items():
            patch.setitem(emoji_grid.KINDS, kind, " ".join(codes.split()[: 6 if kind == "animal" else 4]))
        codes = " ".join(emoji_grid.KINDS.values()).split()
        nouns = {code: f"{'item' if i % 2 else 'thing'} {i}" for i, code in enumerate(codes)}
        labels = {code: {"text": noun, "text_zh": f"物{noun.split()[1]}"} for code, noun in nouns.items()}

        def drawings(style):
            box = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" fill="rgb{}"/></svg>'
            return {code: box.format(fill(noun, style)[0]) for code, noun in nouns.items()}

        patch.setattr(emoji4, "labels", lambda: labels)
        patch.setattr(emoji4, "drawings", drawings)
        yield emoji_grid.world.__wrapped__()


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("dog", "dogs"),
        ("red apple", "red apples"),
        ("mouse", "mice"),
        ("fish", "fish"),
        ("fox", "foxes"),
        ("bus", "buses"),
        ("peach", "peaches"),
        ("strawberry", "strawberries"),
        ("monkey", "monkeys"),
        ("maple leaf", "maple leaves"),
        ("kitchen knife", "kitchen knives"),
        ("cactus", "cacti"),
        ("axe", "axes"),
        ("wrench", "wrenches"),
        ("clothing item", "clothing items"),
    ],
)
def test_plurals(noun, expected):
    assert emoji_grid.plural(noun) == expected


def test_words_take_their_article():
    assert f"{emoji_grid.Word('owl', 'owls', '猫头鹰'):a}" == "an owl"
    assert f"{emoji_grid.Word('mouse', 'mice', '老鼠'):a}, {emoji_grid.Word('mouse', 'mice', '老鼠'):zh}" == "a mouse, 老鼠"


def test_things_are_held_out_of_each_kind(world):
    assert len(world.kinds) == 30
    assert sorted(world.kinds[noun] for noun in world.unseen) == sorted(emoji_grid.KINDS)
    assert not world.unseen & set(world.seen)
    assert world.colours == {key: fill(*key)[1] for key in itertools.product(world.kinds, emoji4.STYLES)}


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([(220, 30, 30)] * 6 + [(255, 255, 255)] * 4, "red"),  # white is no colour
        ([(220, 30, 30)] * 6 + [(0, 0, 0)] * 4, "red"),  # nor are outlines
        ([(220, 30, 30)] * 5 + [(0, 0, 0)] * 5, None),
        ([(220, 30, 30)] * 6 + [(40, 170, 60)] * 4, None),
        ([(220, 30, 30)] * 8 + [(40, 170, 60)] * 2, "red"),
        ([(190, 190, 190)] * 10, None),
        ([(255, 255, 255)] * 10, None),
    ],
)
def test_colours_are_named_where_they_are_clear(pixels, expected):
    assert emoji_grid.colour_of(np.array([pixels], np.uint8)) == expected


def cells(grid):
    return np.array(grid.split(",")).reshape(3, 3)


def singular(plural):
    return KINDS.get(plural, plural.removesuffix("s"))


def place(name):
    return divmod(POSITIONS.index(name), 3)


def squares_of(line):
    side, _, kind = line.partition(" ")
    if kind == "row":
        return (["top", "middle", "bottom"].index(side), slice(None))
    return (slice(None), ["left", "middle", "right"].index(side))


def solve(world, row):
    """The answer to a row's English question, from its grid."""
    grid, question = cells(row["grid"]), row["question"].removesuffix("?")
    kinds = np.vectorize(lambda noun: world.kinds.get(noun, ""))(grid)
    colours = cells(row["colours"])

    def n(name):
        return int(((grid == name) | (kinds == name)).sum())

    def at(name):
        found = np.argwhere(grid == name)
        assert len(found) == 1
        return found[0]

    if m := re.fullmatch(r"How many (.+) are there", question):
        return str(n(singular(m[1])))
    if m := re.fullmatch(r"Is there an? (.+) in the (.+ (?:row|column))", question):
        return "yes" if m[1] in grid[squares_of(m[2])] else "no"
    if m := re.fullmatch(r"Is there (?:an?|any) (.+)", question):
        return "yes" if n(m[1]) else "no"
    if m := re.fullmatch(r"Where is the (.+)", question):
        return POSITIONS[int(at(m[1]) @ (3, 1))]
    if m := re.fullmatch(r"What is in the (.+) square", question):
        return grid[place(m[1])]
    if m := re.fullmatch(r"What is directly (to the left of|to the right of|above|below) the (.+)", question):
        step = {"to the left of": (0, -1), "to the right of": (0, 1), "above": (-1, 0), "below": (1, 0)}[m[1]]
        there = at(m[2]) + step
        assert there.min() >= 0
        return grid[tuple(there)]
    if m := re.fullmatch(r"What colour is the thing in the (.+) square", question):
        return colours[place(m[1])]
    if m := re.fullmatch(r"What kind of thing is in the (.+) square", question):
        return kinds[place(m[1])]
    if m := re.fullmatch(r"Is the thing in the (.+) square (?:an? )?(.+)", question):
        return "yes" if m[2] in (kinds[place(m[1])], colours[place(m[1])]) else "no"
    if m := re.fullmatch(r"Is the (.+) (to the left of|to the right of|higher than|lower than) the (.+)", question):
        (a, b), (c, d) = at(m[1]), at(m[3])
        return (
            "yes"
            if {"to the left of": b < d, "to the right of": b > d, "higher than": a < c, "lower than": a > c}[m[2]]
            else "no"
        )
    if m := re.fullmatch(r"Are there more (.+) than (.+)", question):
        return "yes" if n(singular(m[1])) > n(singular(m[2])) else "no"
    m = re.fullmatch(r"Are there as many (.+) as (.+)", question)
    return "yes" if n(singular(m[1])) == n(singular(m[2])) else "no"


def check_picture(png, grid, styles, covered=()):
    """The middle of each square has the colour of what is said to be there: every drawing covers it, wherever it is put."""
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert image.shape == (96, 96, 3)
    for i, (noun, style) in enumerate(zip(grid.split(","), styles.split(","), strict=True)):
        expected = emoji_grid.CARD if i in covered else fill(noun, style)[0] if noun else (255, 255, 255)
        assert tuple(image[i // 3 * 32 + 16, i % 3 * 32 + 16]) == expected


@pytest.fixture(scope="module")
def asked(world):
    """Rows by split: pictures of the first 40 only."""
    with pytest.MonkeyPatch.context() as patch:
        found = {split: list(emoji_vqa.rows(world, split, 40)) for split in emoji_vqa.COUNTS}
        patch.setattr(emoji_vqa, "picture", lambda *_: b"")
        bare = {split: list(emoji_vqa.rows(world, split, 4000 if split == "train" else 400)) for split in emoji_vqa.COUNTS}
    return found, bare


def test_answers_follow_from_the_grid(world, asked):
    for rows in asked[1].values():
        for row in rows:
            assert row["answers"] == [solve(world, row)], row
    assert {row["template"] for row in asked[1]["train"]} == set(emoji_vqa.TEMPLATES)
    assert {row["template"] for row in asked[1]["validation"]} == set(emoji_vqa.TEMPLATES)


def test_pictures_show_the_grid(asked):
    for rows in asked[0].values():
        for row in rows:
            check_picture(row["image"], row["grid"], row["styles"])
            fills = [
                fill(*cell)[1] if cell[0] else "" for cell in zip(row["grid"].split(","), row["styles"].split(","), strict=True)
            ]
            assert row["colours"].split(",") == fills


def test_splits_hold_out_things_and_a_style(world, asked):
    rows = asked[1]
    for split, some in rows.items():
        styles = {style for row in some for style in row["styles"].split(",") if style}
        assert styles == ({"fluent"} if split == "unseen_style" else {"noto", "twemoji", "openmoji"})
        things = {noun for row in some for noun in row["grid"].split(",")}
        assert bool(things & world.unseen) == (split == "unseen_concepts")
        said = " ".join(row["question"] + row["answers"][0] for row in some)
        assert any(re.search(rf"{noun}\b", said) for noun in world.unseen) == (split == "unseen_concepts")
    for row in rows["unseen_concepts"]:
        grid, question = row["grid"].split(","), row["question"]
        named = any(re.search(rf"{noun}s?\b", question) for noun in world.unseen)
        shown = any(f"the {name} square" in question and grid[i] in world.unseen for i, name in enumerate(POSITIONS))
        sorts = any(world.kinds[noun] in question for noun in world.unseen & set(grid))
        assert named or shown or sorts
        assert row["answers"][0] not in world.unseen
    known = {row["answers"][0] for row in rows["train"]}
    assert {row["answers"][0] for some in rows.values() for row in some} - known == set()


def test_questions_come_in_two_languages(world, asked):
    for row in asked[1]["train"]:
        assert not re.search("[a-zA-Z{}]", row["question_zh"])
        assert row["question_zh"].endswith("？")
        numbers = sorted(re.findall(r"\d+", row["question"]))
        assert numbers == sorted(re.findall(r"\d+", row["question_zh"]))  # the same things are named
    pairs = {(row["answers"][0], row["answers_zh"][0]) for row in asked[1]["train"]}
    assert len(pairs) == len(dict(pairs)) == len({zh for _, zh in pairs})
    assert {("yes", "是"), ("3", "3"), ("centre", "正中间"), ("animal", "动物"), ("red", "红色")} < pairs


def test_answers_are_balanced(asked):
    rows = asked[1]["train"]
    assert collections.Counter(row["type"] for row in rows) == dict.fromkeys(emoji_vqa.TYPES, 800)
    counts = collections.Counter((row["template"], row["answers"][0]) for row in rows)
    for template in emoji_vqa.TEMPLATES:
        if "yes" in (found := {answer: n for (name, answer), n in counts.items() if name == template}):
            assert abs(found["yes"] - found["no"]) <= 1, template
    # Four of a thing are in a fifth of the grids only.
    assert max(counts["count", str(n)] for n in range(5)) < 1.5 * min(counts["count", str(n)] for n in range(5))
    blind = Blind([row["question"] for row in rows], [row["answers"] for row in rows])
    held = asked[1]["validation"]
    for guesses, most in (([blind.answer(row["question"]) for row in held], 0.42), ([blind.majority] * len(held), 0.34)):
        assert accuracy(guesses, [row["answers"] for row in held])["accuracy"] < most


def test_the_same_each_time(world, asked):
    assert list(emoji_vqa.rows(world, "validation", 40)) == asked[0]["validation"]
    assert [row["id"] for row in asked[0]["train"]] == [row["id"] for row in asked[1]["train"][:40]]
    grids = {split: {row["grid"] for row in rows} for split, rows in asked[1].items()}
    assert len(grids["train"] & grids["validation"]) <= 1
    groups = collections.Counter(row["group"] for row in asked[1]["train"])
    assert set(groups.values()) == {4}


def test_pairs(world, monkeypatch):
    for row in emoji_pairs.rows(world, "train", 20):
        check_picture(row["image"], row["grid"], row["styles"])
        check_picture(row["image_b"], row["grid_b"], row["styles_b"])
    monkeypatch.setattr(emoji_pairs, "picture", lambda *_: b"")
    counts = collections.Counter()
    for row in itertools.chain(emoji_pairs.rows(world, "train", 600), emoji_pairs.rows(world, "unseen_concepts", 200)):
        left, right, text = row["grid"].split(","), row["grid_b"].split(","), row["question"].removesuffix(".")
        if m := re.fullmatch(r"There are more (.+)s in the left picture than in the right picture", text):
            true = left.count(m[1]) > right.count(m[1])
        elif m := re.fullmatch(r"Both pictures contain an? (.+)", text):
            true = m[1] in left and m[1] in right
        elif m := re.fullmatch(r"Exactly one of the pictures contains an? (.+)", text):
            true = (m[1] in left) + (m[1] in right) == 1
        elif m := re.fullmatch(r"Neither picture contains any (.+)", text):
            true = m[1] not in [world.kinds.get(noun) for noun in left + right]
        elif m := re.fullmatch(rf"There {EXACTLY} in the two pictures together", text):
            true = (left + right).count(m[2] or m[4]) == NUMBERS.index(m[1] or m[3])
        elif m := re.fullmatch(r"The left picture contains an? (.+) and the right picture contains an? (.+)", text):
            true = m[1] in left and m[2] in right
        else:
            i = POSITIONS.index(re.fullmatch(r"The same thing is in the (.+) square of both pictures", text)[1])
            true = left[i] == right[i] != ""
        assert row["answers"] == ["true" if true else "false"], row
        assert row["answers_zh"] == ["真" if true else "假"]
        assert not re.search("[a-zA-Z{}]", row["question_zh"]), row
        counts[row["id"].partition("-")[0], row["type"], true] += 1
    for template in emoji_pairs.TEMPLATES:
        assert abs(counts["train", template, False] - counts["train", template, True]) <= 2


def holds(text, grid):
    """Whether a sentence of emoji_entailment is true of nine squares of which all are seen."""
    if m := re.fullmatch(r"There is no (.+)", text):
        return m[1] not in grid
    if m := re.fullmatch(rf"There {EXACTLY}", text):
        return grid.count(m[2] or m[4]) == NUMBERS.index(m[1] or m[3])
    if m := re.fullmatch(r"There are at least (two|three|four) (.+)s", text):
        return grid.count(m[2]) >= NUMBERS.index(m[1])
    if m := re.fullmatch(r"There are more (.+)s than (.+)s", text):
        return grid.count(m[1]) > grid.count(m[2])
    if m := re.fullmatch(r"There is an? (.+) in the (.+) square", text):
        return grid[POSITIONS.index(m[2])] == m[1]
    if m := re.fullmatch(r"There is an? (.+) in the (.+ (?:row|column))", text):
        return m[1] in np.reshape(grid, (3, 3))[squares_of(m[2])]
    return re.fullmatch(r"There is an? (.+)", text)[1] in grid


def test_entailment_is_truth_whatever_is_covered(world, monkeypatch):
    for row in emoji_entailment.rows(world, "train", 20):
        check_picture(row["image"], row["grid"], row["styles"], [int(i) for i in row["covered"].split(",") if i])
    monkeypatch.setattr(emoji_entailment, "picture", lambda *_: b"")
    counts = collections.Counter()
    for row in emoji_entailment.rows(world, "train", 600):
        text, covered = row["question"].removesuffix("."), [int(i) for i in row["covered"].split(",") if i]
        things = [noun for noun in world.kinds if re.search(rf"\b{noun}s?\b", text)]
        assert things
        seen = set()
        for filling in itertools.product([*things, "something else"], repeat=len(covered)):
            grid = row["grid"].split(",")
            for i, noun in zip(covered, filling, strict=True):
                grid[i] = noun
            seen.add(bool(holds(text, grid)))
        verdict = {(True,): "entailment", (False, True): "neutral", (False,): "contradiction"}[tuple(sorted(seen))]
        assert row["answers"] == [verdict], row
        assert not re.search("[a-zA-Z{}]", row["question_zh"]), row
        counts[row["type"], verdict] += 1
    for template in emoji_entailment.TEMPLATES:
        assert min(counts[template, verdict] for verdict in emoji_entailment.VERDICTS) > 20, template


def test_balance_gives_each_answer_its_turn():
    balance = Balance(np.random.default_rng(0))
    drawn = [balance.pick("t", [Choice("yes", ("a",)), Choice("no", ("a",)), Choice("yes", ("b",))]) for _ in range(40)]
    counts = collections.Counter(choice.answer for choice in drawn)
    assert counts == {"yes": 20, "no": 20}
    # "a" has had no: so its yes is the one that is due, until both are level.
    assert collections.Counter(drawn)[Choice("yes", ("a",))] >= 18
    shares = [balance.next({"x": 0.75, "y": 0.25}) for _ in range(40)]
    assert shares.count("x") == 30
