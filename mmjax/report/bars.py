"""Histograms as inline SVG, in the frame of the line charts."""

from collections.abc import Sequence
from html import escape

from mmjax.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, number, ticks


def histogram(title: str, edges: Sequence[float], counts: Sequence[int], beyond: int = 0, unit: str = "") -> str:
    """A figure of bars, each with its range and count under the cursor.

    Args:
      title: what is counted.
      edges: one more than counts, ascending.
      beyond: how many lie above the last edge; said beneath the title.
      unit: of the edges.
    """
    low, high = edges[0], edges[-1]
    top = ticks(0, max(max(counts), 1), 4)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (right - LEFT), 1)

    def y(value: float) -> float:
        return round(bottom - value / top[-1] * (bottom - TOP), 1)

    body = []
    for value in top:
        body.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(value)}" y2="{y(value)}"/>')
        body.append(f'<text class="tick" x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for value in ticks(low, high, 5):
        if low <= value <= high:
            anchor = "end" if x(value) > right - 12 else "middle"
            body.append(f'<text class="tick" x="{x(value)}" y="{bottom + 17}" text-anchor="{anchor}">{number(value)}</text>')
    for start, end, count in zip(edges, edges[1:], counts, strict=False):
        says = f"{number(start)} to {number(end)}{unit}: {count}"
        width = max(0.5, x(end) - x(start) - 1)
        shape = f'x="{x(start)}" y="{y(count)}" width="{width:.1f}" height="{bottom - y(count):.1f}"'
        body.append(f'<rect class="bar" {shape}><title>{escape(says)}</title></rect>')
    body.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    more = f'<p class="quiet">and {beyond} above {number(high)}{escape(unit)}</p>' if beyond else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{more}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="histogram: {escape(title)}">{"".join(body)}</svg></figure>'
    )
