import dataclasses
import json
import math
import os
import re
from html import unescape

import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.report import curves, page, pictures, sheet, workdir

ABOUT = {"device": "2 x cpu", "mmjax": "0.1", "jax": "0.10.2", "numpy": "2.4"}


def text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.S)).split())


def test_page_says_what_ran_and_what_came_out(run, galleries):
    path = page.write(run, galleries, "quick <start>", ABOUT)
    assert path == run / "report.html"
    html = path.read_text(encoding="utf-8")
    said = text(html)
    assert "quick <start> 2 x cpu · mmjax 0.1 · jax 0.10.2 · trained 4 min · seed 3" in said
    assert "heldout_pairs 50.0 % Given a caption, the right image comes first of 40 candidates; chance is 2.5 %" in said
    assert "heldout_pairs text → image 50.0 % 75.0 % 100.0 % 1.5 40 2.5 %" in said
    assert "1 more value set metric value heldout_pairs t2i/P@5 0.15" in said
    assert "ln 256 = 5.55, a guess" in said
    order = [html.index(f'<section id="{name}"') for name in ("results", "set-0", "set-1", "curves", "config", "versions")]
    assert order == sorted(order)
    assert "<ul class=notes>" not in html


def test_all_text_is_escaped(run, galleries):
    odd = "<img src=x onerror=alert(1)>"
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1, f"{odd}/R@1": 0.5, f"loss/{odd}": 1.0}) + "\n")
    (run / "results.json").write_text(json.dumps({odd: {f"{odd}/t2i/R@1": 0.5, odd: odd, "candidates": odd}, "seed": odd}))
    named = dataclasses.replace(galleries[0], name=odd)
    html = page.write(run, [named, galleries[1]], odd, {odd: odd, "device": odd}).read_text(encoding="utf-8")
    assert odd not in html
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#x27;caption&#x27;)&lt;/script&gt;" in html
    assert "&lt;/pre&gt;&lt;b&gt;" in html  # from the config


def test_an_empty_workdir_makes_a_page_that_says_so(tmp_path):
    html = page.write(tmp_path, [], "nothing", {}).read_text(encoding="utf-8")
    for name in ("metrics.jsonl", "results.json", "config.json"):
        assert f"{name} is missing" in html
    assert html.count("not recorded") == 6
    assert "No results." in html


def test_torn_files_become_notes(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999, "lo')
    (run / "results.json").write_text("[1]")
    (run / "config.json").write_text("{")
    read = workdir.read(run)
    assert [note.split(":")[0].split(" (")[0] for note in read.notes] == [
        "metrics.jsonl",
        "results.json is not an object",
        "config.json cannot be read",
    ]
    assert "1 unreadable line left out" in read.notes[0]
    assert max(read.curves["loss"]) == 200
    page.write(run, [], "torn", ABOUT)


def test_later_lines_win_for_a_repeated_step(tmp_path):
    lines = [
        {"step": 10, "loss": 3.0},
        {"step": 20, "loss": 2.0, "mfu": 0.3},
        {"step": 30, "loss": 1.0},
        {"step": 20, "loss": 2.5},  # the run was resumed
        {"step": 20, "a/t2i/R@1": 0.1},
        {"step": 15, "loss": None},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    got = workdir.read(tmp_path).curves
    assert list(got["loss"]) == [10, 15, 20, 30]
    assert [got["loss"][step] for step in (10, 20, 30)] == [3.0, 2.5, 1.0]
    assert math.isnan(got["loss"][15])
    assert got["mfu"] == {20: 0.3}
    assert got["a/t2i/R@1"] == {20: 0.1}


def test_an_older_page_stays_when_writing_fails(run, monkeypatch):
    path = page.write(run, [], "first", ABOUT)
    before = path.read_text(encoding="utf-8")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        page.write(run, [], "second", ABOUT)
    assert path.read_text(encoding="utf-8") == before
    assert sorted(p.name for p in run.iterdir()) == ["config.json", "metrics.jsonl", "report.html", "results.json"]


def test_only_the_softmax_starts_at_ln_of_the_batch(run):
    for name, count in (("softmax", 1), ("sigmoid", 0)):
        (run / "config.json").write_text(json.dumps({"batch_size": 64, "task": {"loss": {"name": name}}}))
        html = page.write(run, [], "x", ABOUT).read_text(encoding="utf-8")
        assert html.count("ln 64 = 4.16") == count


def test_gaps_break_the_line_and_lone_points_get_a_dot():
    points = {1: 1.0, 2: math.nan, 3: 2.0, 4: 3.0, 5: math.inf}
    assert curves.segments(points) == [[(1, 1.0)], [(3, 2.0), (4, 3.0)]]
    svg = curves.chart("Loss", [curves.Series("loss", points | dict.fromkeys(range(6, 90), 1.0))])
    assert svg.count("<polyline") == 2
    assert svg.count('class="dot"') == 1
    assert "<title>loss, step 4: 3</title>" in svg
    assert "nan" not in svg
    assert "not recorded" in curves.chart("Loss", [curves.Series("loss", {1: math.nan})])


def test_thinning_keeps_spikes():
    points = dict.fromkeys(range(10_000), 1.0) | {1234: 99.0, 5678: -99.0}
    (run,) = curves.segments(points)
    assert len(run) <= 2 * curves.BUCKETS + 2
    assert {(0, 1.0), (1234, 99.0), (5678, -99.0), (9999, 1.0)} <= set(run)


def test_ticks_and_numbers():
    assert curves.ticks(0.3, 4.9, 5) == [0, 1, 2, 3, 4, 5]
    assert curves.ticks(-1.0, 1.0, 4) == [-1, -0.5, 0, 0.5, 1]
    assert curves.ticks(0.0, 0.001, 5) == pytest.approx([0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    constant = curves.ticks(3.0, 3.0, 5)
    assert constant[0] < 3 < constant[-1]
    shown = [curves.number(x) for x in (0.0, 0.0003, 2e-5, 0.5123, 14.25, 950.0, 1234.0, 12000.0, 2.5e6, -0.25)]
    assert shown == ["0", "0.0003", "2.0e-5", "0.512", "14.2", "950", "1234", "12k", "2.5M", "-0.25"]


def test_choice_is_spread_and_takes_what_there_is():
    rank = np.array([0, 9, 0, 1, 0, 4, 0, 30, 2, 0])
    hits, misses = pictures.choose(rank, 3)
    assert hits.tolist() == [0, 4, 9]
    assert rank[misses].tolist() == [1, 4, 30]
    hits, misses = pictures.choose(rank, 6)
    assert (len(hits), rank[misses].tolist()) == (5, [1, 2, 4, 9, 30])


def test_matrix_colours():
    image = np.asarray(pictures.colour(np.array([[0.0, 1.0], [0.5, np.nan]]), 0.0, 1.0))
    assert image.shape == (2, 2, 4)
    as_hex = ["#" + "".join(f"{c:02x}" for c in pixel[:3]) for pixel in (image[0, 0], image[1, 0], image[0, 1])]
    assert as_hex == [pictures.SCALE[0], pictures.SCALE[3], pictures.SCALE[-1]]
    assert image[..., 3].tolist() == [[255, 255], [255, 0]]


def test_a_set_without_pairs_and_a_large_matrix(galleries):
    none = np.zeros((0, 5), np.int64)
    one = none[:, 0]
    empty = pictures.Gallery("e", [], [], one, one, none, one, none, one, np.zeros((0, 0)), one)
    assert "no pairs" in pictures.section(empty)
    large = dataclasses.replace(galleries[0], similarity=np.eye(50), similarity_index=np.arange(50) % 40)
    assert 'class="rows"' in pictures.section(galleries[0])
    assert 'class="rows"' not in pictures.section(large)  # too many to label


def test_contact_sheet():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    images = [np.full((8, 8, 3), c, np.uint8) for c in colours]
    made = sheet.contact_sheet(
        images, ["red", "a very long caption that cannot fit into two lines at all", ""], columns=2, cell=64
    )
    height = 64 + 4 + sheet.LINES * sheet.LINE
    assert made.size == (sheet.GAP + 2 * (64 + sheet.GAP), sheet.GAP + 2 * (height + sheet.GAP))
    step_x, step_y = 64 + sheet.GAP, height + sheet.GAP
    for (column, row), colour in zip([(0, 0), (1, 0), (0, 1)], colours, strict=True):
        assert made.getpixel((sheet.GAP + column * step_x + 32, sheet.GAP + row * step_y + 32)) == colour
    ink = np.asarray(made.crop((sheet.GAP, sheet.GAP + 66, sheet.GAP + 64, sheet.GAP + height))).min()
    assert ink < 128  # the caption is there

    # A wide image keeps its proportions, and one or four channels are images too.
    wide = sheet.contact_sheet([np.zeros((8, 32, 1), np.uint8)], [""], cell=64)
    at = [wide.getpixel((sheet.GAP + 32, sheet.GAP + y)) for y in (10, 32, 54)]
    assert at == [sheet.MAT, (0, 0, 0), sheet.MAT]
    clear = sheet.contact_sheet([np.zeros((64, 64, 4), np.uint8)], [""], cell=64)
    assert clear.getpixel((sheet.GAP + 32, sheet.GAP + 32)) == (255, 255, 255)


def test_long_captions_end_in_an_ellipsis():
    font = sheet.ImageFont.load_default(sheet.FONT)
    lines = sheet._wrap("a very long caption that cannot fit into two lines at all", 64, font)
    assert len(lines) == 2
    assert lines[0].startswith("a very")
    assert lines[1].endswith("…")
    assert max(map(font.getlength, lines)) <= 64
    assert sheet._wrap("short", 64, font) == ["short"]
    assert sheet._wrap("w" * 100, 64, font)[0].endswith("…")


def test_bad_pictures():
    with pytest.raises(UserError, match=r"float32 \(8, 8, 3\): want uint8"):
        sheet.picture(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(UserError, match="1 images and 2 captions"):
        sheet.contact_sheet([np.zeros((8, 8, 3), np.uint8)], ["a", "b"])
