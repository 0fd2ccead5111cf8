"""The page of `data check`, read as text and, where there is a browser, as it looks."""

import re

import numpy as np
import pytest
from test_report_browser import BROWSER, look

from mmjax.report import dataset
from mmjax.report.bars import histogram
from mmjax.report.page import POLICY
from mmjax.report.strip import film, picture_of, spectrogram


def quantity(*counts, beyond=0):
    names = ("min", "1 %", "25 %", "median", "75 %", "99 %", "max")
    return {
        "quantiles": {name: float(i) for i, name in enumerate(names)},
        "edges": list(range(len(counts) + 1)),
        "counts": list(counts),
        "beyond": beyond,
    }


@pytest.fixture
def facts():
    split = {
        "source": {"name": "csv", "path": "<odd> & path"},
        "records": 1200,
        "checked": 1000,
        "fields": {"image": 1000, "text": 999},
        "formats": {"JPEG": 990, "PNG": 10},
        "modes": {"RGB": 1000},
        "scripts": {"Latin": 900, "Han": 100},
        "broken": [{"kind": "image: cut <off>", "count": 14, "records": [[f"key-{i}", "the reason"] for i in range(14)]}],
        "broken_records": 14,
        "ids": {"repeated": 2, "records": ["twice"]},
        "equal": {"contents": 4, "copies": 6, "records": [["<first>", "second"]]},
        "pictures": {
            **{key: quantity(3, 5, 1) for key in ("width", "height", "aspect", "megapixels")},
            "count": 986,
            "flat": 3,
            "near": 31,
        },
        "sounds": None,
        "captions": {
            **{key: quantity(7, 2, beyond=5) for key in ("characters", "words")},
            "count": 999,
            "distinct": 950,
            "most": [["<script>alert(1)</script>", 9], ["وجه", 3]],
        },
    }
    examples = {"equal": ["a"], "near": [], "captions": ["a", "b"]}
    leak = {"from": "train", "in": "test", "records": 200, "equal": 1, "near": 0, "captions": 2, "examples": examples}
    splits = {"train": split, "test": split}
    return {"splits": splits, "leaks": [leak], "records": 2400, "checked": 2000, "near_complete": False}


@pytest.fixture
def cards():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return [
        {"id": "<one>", "text": "a <b>bold</b> caption", "image": picture},
        {"id": "two", "text": "红狐", "audio": np.sin(np.arange(16_000) / 9).astype(np.float32), "rate": 16_000},
        {"id": "three", "text": "x" * 500, "video": rng.integers(0, 256, (6, 30, 40, 3), dtype=np.uint8)},
        {"id": "four", "text": "it cannot be decoded"},
    ]


def test_the_page_says_what_was_found(facts, cards):
    html = dataset.render(facts, {"train": cards}, {"train": [(cards[0], cards[0], 3)]}, "Check of <it>")
    for says in ("2,000 of 2,400 records read", "image: cut &lt;off&gt;", "key-11", "3 of 64 bits", "1 (0.5%)", "2 (1.0%)"):
        assert says in html
    assert "test → train" in html
    assert "compared in part only" in html
    assert "key-12" not in html  # twelve are named, then an ellipsis
    assert "x" * 161 not in html
    assert "&lt;first&gt;" in html
    for raw in ("<script>", "<it>", "<odd>", "<b>bold", "<one>", "<first>"):
        assert raw not in html
    assert POLICY in html
    assert html.count("<img") == 3 + 2


def test_bars_stand_for_their_counts():
    svg = histogram("Words", [0, 10, 20], [4, 2], beyond=3, unit=" w")
    heights = [float(h) for h in re.findall(r'<rect class="bar"[^>]* height="([\d.]+)"', svg)]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.01)
    assert "0 to 10 w: 4" in svg
    assert "and 3 above 20 w" in svg


def test_a_tone_is_a_line_at_its_frequency():
    rate = 16_000
    picture = spectrogram(np.sin(2 * np.pi * 2000 * np.arange(rate) / rate).astype(np.float32))
    assert picture.shape == (96, 192, 3)
    row = int(picture[:, 96].sum(1).argmax())
    assert row == 96 - 1 - 96 * 2000 // 8000  # 2 of 8 kHz: a quarter from below


def test_silence_and_little_sound_are_dark():
    for samples in (np.zeros(16_000, np.float32), np.zeros(0, np.float32)):
        assert len(np.unique(spectrogram(samples).reshape(-1, 3), axis=0)) == 1


def test_a_film_strip_holds_its_frames_in_order():
    frames = np.stack([np.full((4, 6, 3), 10 * (i + 1), np.uint8) for i in range(5)])
    strip = film(frames)
    assert strip.shape == (2 * 12 + 8, 3 * 14 + 8, 3)
    assert [int(strip[10, 10 + 14 * i, 0]) for i in range(3)] == [10, 20, 30]
    assert [int(strip[22, 10 + 14 * i, 0]) for i in range(3)] == [40, 50, 0]
    assert picture_of({"text": "none"}) is None


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_the_page_in_a_browser(facts, cards, tmp_path):
    path = dataset.write(tmp_path / "check.html", facts, {"train": cards}, {"train": [(cards[0], cards[0], 3)]}, "Check")
    for phone in (False, True):
        found = look(path, "--window-size=1200,900", phone=phone)
        assert found["overflow"] == 0
        assert found["loaded"] == []
        assert len(found["images"]) == 5
        assert all(image["ok"] and image["width"] > 0 for image in found["images"])
        assert [min(chart["box"]) > 100 for chart in found["charts"]] == [True] * 10
