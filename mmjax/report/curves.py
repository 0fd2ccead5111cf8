"""Line charts as inline SVG: axes, ticks, gaps where a value is missing, a value at each point under the cursor."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 380, 220  # of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
COLOURS = 6  # the style sheet has s0 to s5
BUCKETS = 120  # of the x axis: of each, the lowest and highest point are drawn
FEW = 30  # points that are worth a visible dot


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: its name in the legend and {step: value}, where NaN is a gap."""

    name: str
    points: Mapping[int, float]


def chart(title: str, series: Sequence[Series], *, unit: str = "", guide: tuple[float, str] | None = None) -> str:
    """A figure with a caption, a legend with last values, and the lines; it says so where nothing was recorded.

    Args:
      title: what the values are.
      series: lines, drawn in this order.
      unit: put behind values.
      guide: (value, label) of a dashed horizontal line.
    """
    finite = {s.name: [(x, y) for x, y in s.points.items() if math.isfinite(y)] for s in series}
    points = [p for kept in finite.values() for p in kept]
    if not points:
        return f'<figure class="chart empty"><figcaption>{escape(title)}</figcaption><p>not recorded</p></figure>'
    ys = [y for _, y in points] + ([guide[0]] if guide else [])
    x0, x1 = float(min(x for x, _ in points)), float(max(x for x, _ in points))
    x_ticks, y_ticks = ticks(x0, x1, 5), ticks(min(ys), max(ys), 5)
    plot = _Plot(x0, x1, y_ticks[0], y_ticks[-1])
    body = [plot.axes(x_ticks, y_ticks)]
    if guide:
        body.append(plot.guide(*guide))
    body += [plot.line(i, s, unit) for i, s in enumerate(series) if finite[s.name]]
    legend = "".join(
        f'<li class="{_colour(i)}"><span>{escape(s.name)}</span> <b>{number(finite[s.name][-1][1])}{escape(unit)}</b></li>'
        for i, s in enumerate(series)
        if finite[s.name]
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption><ul class="legend">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over steps">{"".join(body)}</svg></figure>'
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) around [low, high], `about` that many."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # a constant: a step of its own size around it
        pad = abs(low) / 2 or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    return [i * step for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def number(value: float) -> str:
    """A value short enough for a tick: 0.0003, 0.512, 14.2, 12k."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if suffix == 'k' else size):.3g}{suffix}"
    if value == 0 or abs(value) >= 1e-4:
        return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.1e}".replace("e-0", "e-")


def segments(points: Mapping[int, float]) -> list[list[tuple[int, float]]]:
    """The runs of finite points between gaps, thinned to what a chart can show without hiding a spike."""
    runs: list[list[tuple[int, float]]] = [[]]
    for x, y in points.items():
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    width = len(points) / BUCKETS
    return [_thin(run, width) for run in runs if run]


def _thin(run: list[tuple[int, float]], width: float) -> list[tuple[int, float]]:
    if width <= 2:
        return run
    kept = {0, len(run) - 1}
    for start in range(0, len(run), math.ceil(width)):
        bucket = range(start, min(start + math.ceil(width), len(run)))
        kept |= {min(bucket, key=lambda i: run[i][1]), max(bucket, key=lambda i: run[i][1])}
    return [run[i] for i in sorted(kept)]


def _colour(index: int) -> str:
    return f"s{index % COLOURS}" + (" again" if index >= COLOURS else "")


@dataclasses.dataclass(frozen=True)
class _Plot:
    """Data coordinates to drawing coordinates."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: int | float) -> float:
        share = (value - self.x0) / (self.x1 - self.x0) if self.x1 > self.x0 else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM), 1)

    def axes(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        out = []
        for value in y_ticks:
            y = self.y(value)
            out.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
            out.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
        for value in x_ticks:
            if self.x0 <= value <= self.x1 and value == int(value):
                anchor = "end" if self.x(value) > right - 12 else "middle"
                out.append(
                    f'<text class="tick" x="{self.x(value)}" y="{bottom + 17}" text-anchor="{anchor}">{number(value)}</text>'
                )
        out.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        return "".join(out)

    def guide(self, value: float, label: str) -> str:
        y = self.y(value)
        above = y - 5 if y > TOP + 14 else y + 14
        return (
            f'<line class="guide" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text class="guide-label" x="{WIDTH - RIGHT}" y="{above:.1f}" text-anchor="end">{escape(label)}</text>'
        )

    def line(self, index: int, series: Series, unit: str) -> str:
        few = sum(map(math.isfinite, series.points.values())) <= FEW
        lines, dots = [], []
        for run in segments(series.points):
            if len(run) > 1:
                lines.append('<polyline points="' + " ".join(f"{self.x(x)},{self.y(y)}" for x, y in run) + '"/>')
            for x, y in run:
                # A lone point between gaps has no line and would be invisible without a dot.
                kind = "dot" if few or len(run) == 1 else "hover"
                says = f"{escape(series.name)}, step {x}: {number(y)}{escape(unit)}"
                radius = 2.5 if kind == "dot" else 5
                dots.append(
                    f'<circle class="{kind}" cx="{self.x(x)}" cy="{self.y(y)}" r="{radius}"><title>{says}</title></circle>'
                )
        return f'<g class="{_colour(index)}">{"".join(lines + dots)}</g>'
