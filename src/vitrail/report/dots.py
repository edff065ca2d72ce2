"""Two more charts of the run report: dots with intervals (scores by kind), and one stacked bar (shares of a whole)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitrail.metrics.intervals import Score
from vitrail.report.charts import SHAPES, Axis, fitted
from vitrail.report.text import compact, escape, legend, percent, tick

_LANE = 17  # pixels between the marks of one row
_ROW_GAP = 16
_TALL_LABEL = 20  # the row's name on its own line, on narrow screens


@dataclass(frozen=True)
class DotRow:
    """One row: a name and its marks, from top to bottom, as (style, score). Scores without a value are skipped."""

    name: str
    marks: Sequence[tuple[str, Score]]


def dot_chart(
    rows: Sequence[DotRow],
    *,
    width: int,
    label: str,
    domain: tuple[float, float] | None = (0.0, 1.0),
    shown: Callable[[float], str] | None = None,
) -> str:
    """Horizontal dots with their 95 % intervals, one lane a mark, as one `<svg>`.

    domain: ends of the axis; None fits them to the data. shown: how a value is written (by default as a percentage).
    Rows without any value are left out; the result is "" when nothing remains.
    """
    # Rows that are left out still widen the column of names, so that charts of the same kinds line up.
    column = min(190, 24 + round(7.4 * max((len(row.name) for row in rows), default=0)))
    rows = [DotRow(row.name, [m for m in row.marks if m[1].value is not None]) for row in rows]
    rows = [row for row in rows if row.marks]
    if not rows:
        return ""
    write = shown or (lambda value: f"{100 * value:.1f}")
    above = width <= 600
    left, right = (8 if above else column), width - 48
    if domain is None:
        scores = [score for row in rows for _, score in row.marks]
        ends = [v for s in scores for v in (s.low, s.value, s.high) if v is not None]
        x = fitted(ends, left, right)
    else:
        x = Axis(domain[0], domain[1], left, right)
    parts: list[str] = []
    top = 10.0
    for index, row in enumerate(rows):
        tall = len(row.marks) * _LANE + _ROW_GAP + (_TALL_LABEL if above else 0)
        parts += _row(row, x, top, tall, write, first=index == 0, above=above)
        top += tall
    axis = _scale(x, 10, top, as_percent=shown is None)
    height = int(top) + 28
    opening = f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return opening + axis + "".join(parts) + "</svg>"


def _row(
    row: DotRow, x: Axis, top: float, tall: float, write: Callable[[float], str], *, first: bool, above: bool
) -> list[str]:
    """The row's name, a rule above it, and one lane for each mark."""
    parts = [] if first else [f'<path class="rule" d="M0 {top:.1f}H{x.end + 48:.0f}"/>']
    longest = 44 if above else 24
    name = row.name if len(row.name) <= longest else row.name[: longest - 1] + "\u2026"
    lanes = top + _ROW_GAP / 2 + (_TALL_LABEL if above else 0)
    if above:
        parts.append(f'<text class="name" x="{x.start:.0f}" y="{top + 18:.1f}">{escape(name)}</text>')
    else:
        middle = lanes + len(row.marks) * _LANE / 2 + 5
        parts.append(f'<text class="name" x="0" y="{middle:.1f}">{escape(name)}</text>')
    for lane, (style, score) in enumerate(row.marks):
        parts.append(_mark(style, score, x, lanes + (lane + 0.5) * _LANE, write))
    return parts


def _mark(style: str, score: Score, x: Axis, y: float, write: Callable[[float], str]) -> str:
    """Interval with caps, mark on top, value to the right of whichever reaches further."""
    assert score.value is not None, "a mark without a value reached the chart"
    at = x.at(score.value)
    low = at if score.low is None else x.at(score.low)
    high = at if score.high is None else x.at(score.high)
    shape = SHAPES.get(style, "circle")
    if shape == "square":
        drawn = f'<rect class="dot {style}" x="{at - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'
    elif shape == "diamond":
        drawn = f'<path class="dot {style}" d="M{at - 6:.1f} {y:.1f}l6 -6 6 6 -6 6z"/>'
    elif shape == "triangle":
        drawn = f'<path class="dot {style}" d="M{at - 5.5:.1f} {y + 4.5:.1f}l5.5 -10 5.5 10z"/>'
    elif shape == "plus":
        drawn = f'<path class="dot {style}" d="M{at - 2:.1f} {y - 5.5:.1f}h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z"/>'
    else:
        drawn = f'<circle class="dot {style}" cx="{at:.1f}" cy="{y:.1f}" r="5.2"/>'
    said = f"{write(score.value)}, n = {score.n}"
    return (
        f'<g><title>{escape(said)}</title><path class="whisker {style}" d="M{low:.1f} {y:.1f}H{high:.1f}'
        f'M{low:.1f} {y - 3.5:.1f}v7M{high:.1f} {y - 3.5:.1f}v7"/>{drawn}'
        f'<text class="value" x="{max(high, at + 5) + 7:.1f}" y="{y + 4:.1f}">{escape(write(score.value))}</text></g>'
    )


def _scale(x: Axis, top: float, bottom: float, *, as_percent: bool) -> str:
    """Vertical grid lines with their numbers below."""
    parts = []
    for value in x.ticks(5):
        at = x.at(value)
        said = f"{100 * value:.0f}\u00a0%" if as_percent else tick(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {top:.1f}V{bottom:.1f}"/>')
        parts.append(f'<text class="tick middle" x="{at:.1f}" y="{bottom + 18:.1f}">{said}</text>')
    return "".join(parts)


def stacked_bar(parts: Sequence[tuple[str, str, float]], *, label: str, shown: Callable[[float], str] = compact) -> str:
    """Shares of a whole: one bar, and a key with each part's amount and percentage.

    parts: (style, name, amount), amounts not negative. Returns "" when they add up to nothing.
    """
    whole = sum(amount for _, _, amount in parts)
    if whole <= 0:
        return ""
    bars, begin = [], 0.0
    for style, name, amount in parts:
        wide = 1000 * amount / whole
        said = f"{name}: {shown(amount)}"
        # Two units of air between neighbours, but never so much that a thin part vanishes.
        air = 2.0 if wide > 6 else 0.0
        bars.append(
            f'<rect class="{style}" x="{begin:.2f}" y="0" width="{max(wide - air, 0):.2f}" height="24">'
            f"<title>{escape(said)}</title></rect>"
        )
        begin += wide
    keys = legend((style, f"{name}  {shown(amount)}  ({percent(amount / whole)})") for style, name, amount in parts)
    return (
        f'<svg class="stack" viewBox="0 0 1000 24" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{"".join(bars)}</svg>{keys}'
    )
