"""One html page a run, complete in itself: results, retrieval in pictures, curves, config, versions."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from etils import epath

from mmjax.core import files
from mmjax.report import answers, pictures, workdir
from mmjax.report.curves import Series, chart
from mmjax.report.style import CSS

RECALLS = ("R@1", "R@5", "R@10")
DIRECTIONS = {"t2i": "text → image", "i2t": "image → text"}
TASKS = {"t2i": "Given a caption, the right image comes first", "i2t": "Given an image, the right caption comes first"}
# The page asks the network for nothing, and the browser is told to hold it to that.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write(
    directory: str | os.PathLike, galleries: Sequence[pictures.Gallery | answers.Asked], title: str, about: Mapping[str, str]
) -> epath.Path:
    """Writes `report.html` from what the run left in its workdir; an older page stays until the new one is whole.

    Args:
      directory: the workdir: metrics.jsonl, results.json and config.json, each of which may be missing.
      galleries: retrieval and answered questions to show, one an evaluation set.
      title: of the page.
      about: what it ran on and with ("device", "jax", ...): the main of it at the top, all at the bottom.

    Returns:
      The page's path.
    """
    return files.write(epath.Path(directory) / "report.html", render(workdir.read(directory), galleries, title, about))


def render(
    run: workdir.Run, galleries: Sequence[pictures.Gallery | answers.Asked], title: str, about: Mapping[str, str]
) -> str:
    """The page as a string."""
    sections = [("results", "Results", _results(run))]
    sections += [(f"set-{i}", g.name, _section(g)) for i, g in enumerate(galleries)]
    sections += [
        ("curves", "Training curves", _curves(run)),
        ("config", "Config", _config(run.config)),
        ("versions", "Versions and device", _table_of(about)),
    ]
    return document(title, _line(run, about), sections, run.notes)


def document(title: str, line: str, sections: Sequence[tuple[str, str, str]], notes: Sequence[str] = (), css: str = "") -> str:
    """A whole page.

    Args:
      line: html under the title.
      sections: (anchor, heading, html).
      notes: warnings at the top.
      css: rules beside those of all pages.
    """
    nav = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{escape(name)}</h2>{inner}</section>' for key, name, inner in sections)
    warnings = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{CSS}{css}</style></head>\n'
        f"<body><header><h1>{escape(title)}</h1><p>{line}</p><nav>{nav}</nav></header>"
        f"<main>{f'<ul class=notes>{warnings}</ul>' if warnings else ''}{body}</main></body></html>\n"
    )


def _section(gallery: pictures.Gallery | answers.Asked) -> str:
    return answers.section(gallery) if isinstance(gallery, answers.Asked) else pictures.section(gallery)


def _line(run: workdir.Run, about: Mapping[str, str]) -> str:
    facts = [str(about["device"])] if "device" in about else []
    facts += [f"{name} {about[name]}" for name in ("mmjax", "jax", "python") if name in about]
    if _is_number(run.results.get("train_seconds")):
        facts.append(f"trained {_duration(run.results['train_seconds'])}")
    seed = run.results.get("seed", about.get("seed"))
    facts += [] if seed is None else [f"seed {seed}"]
    return " · ".join(map(escape, facts))


def _results(run: workdir.Run) -> str:
    tiles, rows, others = [], [], []
    for name, metrics in run.results.items():
        if not isinstance(metrics, Mapping):
            continue
        candidates = metrics.get("candidates")
        chance = 1 / candidates if _is_number(candidates) and candidates > 0 else math.nan
        ways: dict[str, dict[str, Any]] = {}
        for key, value in metrics.items():
            way, _, metric = key.rpartition("/")
            if metric in (*RECALLS, "median_rank"):
                ways.setdefault(way, {})[metric] = value
            elif key != "candidates":
                others.append((name, key, value))
        for way, found in ways.items():
            rows.append((name, way, found, candidates, chance))
            if way in TASKS and _is_number(found.get("R@1")):
                tiles.append(_tile(name, way, found["R@1"], candidates, chance))
    if not (rows or others):
        return '<p class="quiet">No results.</p>'
    parts = [f'<div class="tiles">{"".join(tiles)}</div>'] if tiles else []
    if rows:
        parts.append(_recall_table(rows))
    if others:
        body = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(key)}</td><td>{_cell(value)}</td></tr>" for name, key, value in others
        )
        head = "<tr><th>set</th><th>metric</th><th>value</th></tr>"
        table = f'<div class="scroll"><table class="numbers"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
        parts.append(f"<details><summary>{len(others)} more value{'s' * (len(others) > 1)}</summary>{table}</details>")
    return "".join(parts)


def _tile(name: str, way: str, recall: int | float, candidates: Any, chance: float) -> str:
    against = f"of {candidates} candidates; chance is {_percent(chance)}" if math.isfinite(chance) else ""
    width = 100 * min(max(recall, 0), 1)
    return (
        f'<div class="tile"><p>{escape(name)}</p><b>{_percent(recall)}</b>'
        f'<div class="meter"><i style="width: {width:.1f}%"></i></div><p>{TASKS[way]} {escape(against)}</p></div>'
    )


def _recall_table(rows: Sequence[tuple[str, str, Mapping[str, Any], Any, float]]) -> str:
    body = ""
    for name, way, found, candidates, chance in rows:
        head, _, direction = way.rpartition("/")
        shown = " · ".join(filter(None, [DIRECTIONS.get(direction, direction), head]))
        recalls = "".join(f"<td>{_percent(found.get(k, math.nan))}</td>" for k in RECALLS)
        body += (
            f"<tr><th>{escape(name)}</th><td>{escape(shown)}</td>{recalls}<td>{_cell(found.get('median_rank'))}</td>"
            f"<td>{_cell(candidates)}</td><td>{_percent(chance)}</td></tr>"
        )
    names = ("set", "direction", *RECALLS, "median rank", "candidates", "chance")
    head = "".join(f"<th>{name}</th>" for name in names)
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="quiet">R@k: the share of queries with a right answer among the k best. Chance: R@1 of a guess, '
        "1 / candidates. Ties count against the model.</p>"
    )


def _curves(run: workdir.Run) -> str:
    curves, batch = run.curves, run.config.get("batch_size")
    terms = [name for name in curves if name.startswith("loss/")]
    # Only the softmax over the batch starts at the entropy of a uniform guess among it.
    loss = run.config.get("task", {}).get("loss", {})  # of other tasks a name
    softmax = isinstance(loss, Mapping) and loss.get("name", "softmax") == "softmax"
    guessing = softmax and _is_number(batch) and batch > 1 and (not terms or "loss/contrastive" in terms)
    recalls = [name for name in curves if name.endswith("/R@1")]

    def series(*names: str) -> list[Series]:
        return [Series(name, curves[name]) for name in names if name in curves]

    charts = [
        chart(
            "Loss",
            series("loss", *(terms if len(terms) > 1 else ())),
            guide=(math.log(batch), f"ln {batch} = {math.log(batch):.2f}, a guess") if guessing else None,
        ),
        chart("Accuracy in the batch", series("accuracy/i2t", "accuracy/t2i")),
        chart("R@1 in evaluation", [Series(name.removesuffix("/R@1"), curves[name]) for name in recalls]),
        chart("Logit scale", series("logit_scale")),
        chart("Learning rate", series("learning_rate")),
        chart("Examples per second", series("examples_per_s")),
    ]
    return (
        f'<div class="charts">{"".join(charts)}</div>'
        '<p class="quiet">Over training steps; a legend ends in the last value. Gaps are values that were not finite.</p>'
    )


def _config(config: Mapping[str, Any]) -> str:
    if not config:
        return '<p class="quiet">No config.</p>'
    text = json.dumps(config, indent=2, ensure_ascii=False, default=str)
    lines = len(text.splitlines())
    return f"<details><summary>The resolved config, {lines} lines</summary><pre>{escape(text)}</pre></details>"


def _table_of(about: Mapping[str, str]) -> str:
    body = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in about.items())
    return f'<table class="facts"><tbody>{body}</tbody></table>'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _percent(value: Any) -> str:
    if not _is_number(value):
        return "–"
    return f"{100 * value:.1f} %" if value >= 0.01 or value == 0 else f"{100 * value:.2g} %"


def _cell(value: Any) -> str:
    return escape(f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value))


def _duration(seconds: int | float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
