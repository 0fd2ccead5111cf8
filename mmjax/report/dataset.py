"""The page of `mmjax data check`: what a data set holds and what is wrong with it, complete in itself."""

import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from etils import epath

from mmjax.core import files
from mmjax.report.bars import histogram
from mmjax.report.page import document
from mmjax.report.pictures import data_uri
from mmjax.report.sheet import picture
from mmjax.report.strip import picture_of

Card = Mapping[str, Any]
Pair = tuple[Card, Card, int]
KEYS = 12  # records named a kind of trouble
CAPTION = 160  # characters of a card
CSS = """
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }
.sheet figure, .twins figure { margin: 0; min-width: 0; }
.frame { position: relative; display: grid; place-items: center; aspect-ratio: 1; border-radius: 8px; background: var(--mat);
  outline: 1px solid var(--line); overflow: hidden; }
.frame img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.sheet figcaption, .twins figcaption { margin-top: .35rem; font-size: .82rem; line-height: 1.35; }
.sheet small, .twins small { display: block; color: var(--soft); }
.twins { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 1rem; }
.twins .card { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; margin: 0; }
.twins .card > p { grid-column: 1 / -1; margin: 0; }
.bar { fill: var(--c0); } .bar:hover { fill: var(--c1); }
.chart > .quiet { margin: 0; }
.tile.bad b { color: var(--bad); }
.lines th, .lines td { vertical-align: top; }
.lines tbody th { min-width: 12rem; }
.lines td:not(:last-child), .lines thead th { white-space: nowrap; }
.scroll + .scroll { margin-top: 1.25rem; }
"""


def write(
    path: str | os.PathLike,
    facts: Mapping[str, Any],
    cards: Mapping[str, Sequence[Card]],
    pairs: Mapping[str, Sequence[Pair]],
    title: str,
) -> epath.Path:
    """Writes the page.

    Args:
      path: the html file.
      facts: of data/inspect.py, whose docstring lists them.
      cards: split -> {"id", "text", and "image", "audio" or "video"} for the contact sheet.
      pairs: split -> (card, card, bits of their perceptual hashes that differ).
      title: of the page.
    """
    return files.write(path, render(facts, cards, pairs, title))


def render(
    facts: Mapping[str, Any], cards: Mapping[str, Sequence[Card]], pairs: Mapping[str, Sequence[Pair]], title: str
) -> str:
    """The page as a string."""
    sections = []
    for i, (name, split) in enumerate(facts["splits"].items()):
        sections.append((f"split-{i}", name, _split(split, cards.get(name, ()), pairs.get(name, ()))))
    if facts["leaks"]:
        sections.insert(0, ("leaks", "Leaks between splits", _leaks(facts["leaks"])))
    line = f"{facts['checked']:,} of {facts['records']:,} records read; {', '.join(map(escape, facts['splits']))}"
    notes = [] if facts["near_complete"] else ["So many pictures are alike that near duplicates were compared in part only."]
    return document(title, line, sections, notes, CSS)


def _split(split: Mapping[str, Any], cards: Sequence[Card], pairs: Sequence[Pair]) -> str:
    parts = [_tiles(split), _broken(split)]
    if cards:
        parts.append("<h3>A look</h3><p>Records at even steps from the first to the last. Nobody picked them.</p>")
        parts.append(f'<div class="sheet">{"".join(map(_card, cards))}</div>')
    if split["equal"]["records"]:
        groups = [(escape(ids[0]), escape(", ".join(ids[1:]))) for ids in split["equal"]["records"]]
        parts.append("<h3>Equal files</h3>" + _table([("record", "and with it"), *groups], "lines", head=True))
    if split["pictures"]:
        parts.append(_pictures(split, pairs))
    if split["sounds"]:
        parts.append(_sounds(split["sounds"]))
    if split["captions"]:
        parts.append(_captions(split["captions"], split["scripts"]))
    parts.append("<h3>What it is</h3>")
    source = escape(json.dumps(split["source"], ensure_ascii=False, default=str))
    fields = ", ".join(f"{escape(name)} {count:,}" for name, count in sorted(split["fields"].items()))
    parts.append(_table([("source", source), ("fields and how many records have them", fields)], "facts"))
    return "".join(parts)


def _tiles(split: Mapping[str, Any]) -> str:
    checked = f"of {split['records']:,}, read" if split["checked"] < split["records"] else "all that there are"
    tiles = [("records", f"{split['checked']:,}", checked, False)]
    broken = split["broken_records"]
    tiles.append(("in trouble", f"{broken:,}", "records that cannot be used as they are", broken > 0))
    if split["pictures"] or split["sounds"]:
        equal = split["equal"]
        tiles.append(("equal files", f"{equal['copies']:,}", f"copies of {equal['contents']:,}", equal["copies"] > 0))
    if split["pictures"]:
        near = split["pictures"]["near"]
        tiles.append(("near duplicates", f"{near:,}", "pictures that another, of other bytes, looks like", False))
    if split["captions"]:
        said = split["captions"]
        tiles.append(("distinct captions", f"{said['distinct']:,}", f"of {said['count']:,}", False))
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile{" bad" if bad else ""}"><p>{name}</p><b>{value}</b><p>{what}</p></div>'
            for name, value, what, bad in tiles
        )
        + "</div>"
    )


def _broken(split: Mapping[str, Any]) -> str:
    rows = []
    if split["ids"]["repeated"]:
        rows.append(("id: occurs more than once", split["ids"]["repeated"], ", ".join(map(escape, split["ids"]["records"]))))
    for trouble in split["broken"]:
        named = trouble["records"][:KEYS]
        keys = ", ".join(f'<span title="{escape(error)}">{escape(key)}</span>' for key, error in named)
        more = " …" if trouble["count"] > len(named) else ""
        rows.append((escape(trouble["kind"]), trouble["count"], keys + more))
    if not rows:
        return "<h3>Trouble</h3><p>None was found.</p>"
    return "<h3>Trouble</h3>" + _table([("kind", "records", "which"), *rows], "lines", head=True)


def _pictures(split: Mapping[str, Any], pairs: Sequence[Pair]) -> str:
    found = split["pictures"]
    charts = [_chart(name.capitalize(), found[name], unit) for name, unit in (("width", " px"), ("height", " px"))]
    charts.append(_chart("Width / height", found["aspect"]))
    kinds = [(escape(str(name)), f"{count:,}") for what in ("formats", "modes") for name, count in _most(split[what])]
    parts = [f'<h3>Pictures</h3><div class="charts">{"".join(charts)}</div>']
    rows = [(name, found[key]) for name, key in (("width", "width"), ("height", "height"), ("megapixels", "megapixels"))]
    parts += [_quantiles(rows), _table([("format, mode", "records"), *kinds], "lines", head=True)]
    if found["flat"]:
        parts.append(f'<p class="quiet">{found["flat"]:,} are of one colour or nearly, and not compared for nearness.</p>')
    if pairs:
        cells = "".join(
            f'<div class="card">{_card(a)}{_card(b)}<p class="quiet">{bits} of 64 bits differ</p></div>' for a, b, bits in pairs
        )
        parts.append(f'<h3>Near duplicates</h3><div class="twins">{cells}</div>')
    return "".join(parts)


def _sounds(found: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{rate:,} Hz: {count:,}" for rate, count in found["rates"].items())
    rows = [("hours", f"{found['total_hours']:.2f}"), ("rates", rates)]
    chart = _chart("Length", found["seconds"], " s")
    table = _quantiles([("seconds", found["seconds"])])
    return f'<h3>Sound</h3><div class="charts">{chart}</div>{table}{_table(rows, "facts")}'


def _captions(found: Mapping[str, Any], scripts: Mapping[str, int]) -> str:
    charts = _chart("Characters a caption", found["characters"]) + _chart("Words a caption", found["words"])
    parts = [f'<h3>Captions</h3><div class="charts">{charts}</div>']
    parts.append(_quantiles([("characters", found["characters"]), ("words", found["words"])]))
    named = [(escape(name), f"{count:,}") for name, count in _most(scripts)]
    parts.append(_table([("script", "captions that have it"), *named], "lines", head=True))
    if found["most"]:
        most = [(f'<span dir="auto">{escape(text[:CAPTION])}</span>', f"{count:,}") for text, count in found["most"]]
        parts.append(_table([("the most frequent", "times"), *most], "lines", head=True))
    return "".join(parts)


def _leaks(leaks: Sequence[Mapping[str, Any]]) -> str:
    rows = [("records of … that are also in …", "of", "equal picture", "near", "equal caption", "for example")]
    for leak in leaks:
        some = dict.fromkeys(key for keys in leak["examples"].values() for key in keys)
        counts = [f"{leak[key]:,} ({leak[key] / max(1, leak['records']):.1%})" for key in ("equal", "near", "captions")]
        pair = f"{escape(leak['in'])} → {escape(leak['from'])}"
        rows.append((pair, f"{leak['records']:,}", *counts, escape(", ".join(list(some)[:KEYS]))))
    return (
        _table(rows, "lines", head=True)
        + '<p class="quiet">Near: perceptual hashes that differ in at most 4 of 64 bits, and contents that are not equal.</p>'
    )


def _card(card: Card) -> str:
    array = picture_of(card)
    shown = f'<img src="{data_uri(picture(array))}" alt="{escape(card["text"][:CAPTION])}">' if array is not None else "–"
    text = card["text"] if len(card["text"]) <= CAPTION else card["text"][:CAPTION] + "…"
    return (
        f'<figure><div class="frame">{shown}</div><figcaption dir="auto">{escape(text)}'
        f"<small>{escape(card['id'])}</small></figcaption></figure>"
    )


def _chart(title: str, quantity: Mapping[str, Any], unit: str = "") -> str:
    """A histogram, where there is more than one value."""
    if quantity["quantiles"]["min"] == quantity["quantiles"]["max"]:
        return ""
    return histogram(title, quantity["edges"], quantity["counts"], quantity["beyond"], unit)


def _quantiles(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    names = list(rows[0][1]["quantiles"])
    body = [(name, *(f"{value:,.4g}" for value in quantity["quantiles"].values())) for name, quantity in rows]
    return _table([("", *names), *body], "lines", head=True)


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _table(rows: Sequence[Sequence[Any]], kind: str, head: bool = False) -> str:
    """Rows of html cells; with `head`, the first is the head."""
    top = "<thead><tr>" + "".join(f"<th>{cell}</th>" for cell in rows[0]) + "</tr></thead>" if head else ""
    body = "".join(
        "<tr>" + f"<th>{row[0]}</th>" + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows[head:]
    )
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'
