"""The page as a browser sees it."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from mmjax.report import page, pictures

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
]
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")

# Looks at the page from inside and leaves what it found in the document.
LOOK = """<script>
addEventListener('load', () => {
  const all = (where, what) => [...where.querySelectorAll(what)];
  const green = e => { const [r, g, b] = getComputedStyle(e).outlineColor.match(/[\\d.]+/g).map(Number);
    return getComputedStyle(e).outlineStyle == 'solid' && g > r && g > b; };
  const out = {
    width: innerWidth, overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    dark: matchMedia('(prefers-color-scheme: dark)').matches, background: getComputedStyle(document.body).backgroundColor,
    scripts: document.scripts.length,
    images: all(document, 'img').map(i => ({ok: i.complete && i.naturalWidth > 0, width: i.getBoundingClientRect().width})),
    cards: all(document, '.card').map(c => { const answers = all(c, '.strip .cell, li:not(.wanted)');
      return {kind: c.classList[1], rank: +c.dataset.rank, wanted: all(c, '.wanted').length,
        right: answers.flatMap((a, i) => a.classList.contains('right') ? [i] : []), green: all(c, '.right').every(green)}; }),
    charts: all(document, '.chart svg').map(s => ({box: [s.getBoundingClientRect().width, s.getBoundingClientRect().height],
      lines: all(s, 'polyline').map(p => [p.points.numberOfItems, p.getBBox().width])})),
    loaded: performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('data:')),
    maps: all(document, '.map').map(m => [m.naturalWidth, m.naturalHeight]),
  };
  const found = document.createElement('pre'); found.id = 'findings'; found.textContent = JSON.stringify(out);
  parent.document.body.append(found);
});
</script>"""


def browse(path: Path, *flags: str) -> tuple[str, list[str]]:
    """The document after loading, and the lines of the browser's console."""
    command = [BROWSER, *FLAGS, *flags, f"--user-data-dir={path.parent / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def look(path: Path, *flags: str, phone: bool = False) -> dict:
    """What LOOK finds in a copy of the page, whose policy has to let it in; on a phone, 390 css pixels wide."""
    html = path.read_text(encoding="utf-8").replace(page.POLICY, "script-src 'unsafe-inline'; " + page.POLICY)
    copy = path.with_name("looked_at.html")
    copy.write_text(html.replace("</body>", LOOK + "</body>"), encoding="utf-8")
    if phone:  # a headless window is 500 wide at least: a frame in it may be narrower
        frame = path.with_name("phone.html")
        frame.write_text(f'<!doctype html><iframe src="{copy.name}" width="390" height="800" style="border: 0"></iframe>')
        copy, flags = frame, (*flags, "--allow-file-access-from-files")
    dom, console = browse(copy, *flags)
    assert console == []
    return json.loads(unescape(re.search(r'<pre id="findings">(.*?)</pre>', dom, re.S)[1]))


@pytest.fixture
def path(run, galleries) -> Path:
    return page.write(run, galleries, "quickstart", {"device": "2 x cpu", "jax": "0.10.2"})


def test_desktop(path, galleries):
    found = look(path, "--window-size=1200,900")
    assert found["width"] == 1200
    assert found["overflow"] == 0
    assert found["loaded"] == []
    assert found["scripts"] == 1  # the look itself: the captions' scripts are text

    expected = 0
    for gallery in galleries:
        text, image = (np.concatenate(pictures.choose(rank)) for rank in (gallery.t2i_rank, gallery.i2t_rank))
        expected += len(text) * min(5, len(gallery.images)) + (gallery.t2i_rank[text] >= 5).sum() + len(image)
        expected += len(gallery.similarity) + 1
    assert len(found["images"]) == expected
    assert all(image["ok"] and image["width"] > 0 for image in found["images"])
    assert found["maps"] == [[12, 12], [3, 3]]

    assert [min(chart["box"]) > 100 for chart in found["charts"]] == [True] * 6
    assert all(points > 1 and width > 100 for chart in found["charts"][1:] for points, width in chart["lines"])
    assert [len(chart["lines"]) for chart in found["charts"]] == [2, 2, 1, 1, 1, 1]  # the loss has a gap


def test_the_right_answer_is_framed(path, galleries):
    cards = look(path)["cards"]
    unique = cards[: 4 * pictures.SHOWN]
    ranks = {kind: [card["rank"] for card in unique if card["kind"] == kind] for kind in ("t2i", "i2t")}
    for kind, rank in (("t2i", galleries[0].t2i_rank), ("i2t", galleries[0].i2t_rank)):
        assert ranks[kind] == rank[np.concatenate(pictures.choose(rank))].tolist()
        assert ranks[kind][:6] == [0] * 6
        assert min(ranks[kind][6:]) < 5 <= max(ranks[kind])
    for card in unique:
        assert card["right"] == ([card["rank"]] if card["rank"] < 5 else [])
        assert card["wanted"] == (card["rank"] >= 5)
        assert card["green"]
    # Pairs 0 and 1 of the small set answer each other: both are right.
    assert sorted(len(card["right"]) for card in cards[len(unique) :]) == [1, 1, 2, 2, 2, 2]


def test_phone_and_dark(path):
    found = look(path, "--blink-settings=preferredColorScheme=0", phone=True)
    assert found["width"] == 390
    assert found["dark"]
    assert max(map(int, re.findall(r"\d+", found["background"])[:3])) < 50
    assert found["overflow"] == 0


def test_the_page_itself_keeps_its_policy(path):
    html = path.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:|//)""", html)
    assert browse(path)[1] == []
    # And the policy bites: one image from elsewhere is refused, and the console says so.
    bad = path.with_name("bad.html")
    bad.write_text(html.replace("</body>", '<img src="elsewhere.png"></body>'), encoding="utf-8")
    assert "Content Security Policy" in browse(bad)[1][0]
