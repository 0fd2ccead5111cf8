"""Answered questions in pictures: what was asked, said and true, and how much of it needs no picture."""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from mmjax.report.pictures import SHOWN, image, spread


@dataclasses.dataclass
class Asked:
    """Questions of one evaluation set, M of them.

    Attributes:
      name: the set's name in results.json.
      images: M uint8 arrays (height, width, channels), or None where the model sees none; only those shown are asked for.
      questions, said: M texts: what was asked, and the model's answers.
      truth: M lists of people's answers.
      right: (M,) scores from 0 to 1.
      results: the set's metrics.
    """

    name: str
    images: Sequence[np.ndarray] | None
    questions: Sequence[str]
    said: Sequence[str]
    truth: Sequence[Sequence[str]]
    right: Float[np.ndarray, " M"]
    results: Mapping[str, float]


def section(asked: Asked) -> str:
    """The set's part of the page: accuracy beside the baselines, and questions answered right and wrong."""
    parts = [_table(asked.results), '<div class="pair">']
    for title, which in (("Right", asked.right > 0), ("Wrong", asked.right <= 0)):
        places = np.flatnonzero(which)
        shown = spread(places, SHOWN)
        cards = "".join(_card(asked, int(i)) for i in shown) or '<p class="quiet">none</p>'
        head = f'{title} <span class="quiet">{len(shown)} of {len(places)} shown</span>'
        parts.append(f'<div class="column"><h4>{head}</h4>{cards}</div>')
    parts.append('</div><p class="quiet">Taken at even steps through the set in its order; nobody picked them.</p>')
    return "".join(parts)


def _card(asked: Asked, i: int) -> str:
    picture = f'<div class="cell">{image(asked.images[i], asked.questions[i])}</div>' if asked.images is not None else ""
    good = asked.right[i] > 0
    truth = "" if good else f' <span class="quiet">not</span> {escape(", ".join(sorted(set(asked.truth[i]))))}'
    return (
        f'<article class="card i2t">{picture}<div><p dir="auto">{escape(asked.questions[i])}</p>'
        f'<p dir="auto"><span class="pill {"good" if good else "bad"}">{escape(asked.said[i])}</span>{truth}</p></div>'
        "</article>"
    )


def _table(results: Mapping[str, float]) -> str:
    names = [name for name in results if f"majority/{name}" in results]
    body = ""
    for name in names:
        cells = "".join(f"<td>{100 * results[f'{who}{name}']:.1f} %</td>" for who in ("", "question_only/", "majority/"))
        body += f"<tr><th>{escape(name)}</th>{cells}</tr>"
    head = "".join(f"<th>{text}</th>" for text in ("", "model", "question only", "most frequent answer"))
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="quiet">Question only: the most frequent training answer to the same words, or to the longest beginning of '
        "the question that training knows.</p>"
    )
