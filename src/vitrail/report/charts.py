"""The charts of the run report: inline SVG without scripts, coloured by CSS classes so that light and dark both work.

A chart is drawn for a width in CSS pixels. Those that span the page are drawn twice, for wide and for narrow screens
(`both_widths`), because text inside a scaled SVG would shrink with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vitrail.report.text import escape, number, tick

Point = tuple[float, float]

WIDE, NARROW = 960, 380
"""Widths in CSS pixels for which page-wide charts are drawn."""

SHAPES = {"after": "circle", "blind": "square", "before": "diamond", "swapped": "triangle", "pasted": "plus"}
"""Marks differ in shape as well as in colour."""


@dataclass(frozen=True)
class Line:
    """One curve. style: the CSS class that carries its colour. raw: the unsmoothed points, drawn faintly behind."""

    name: str
    style: str
    points: Sequence[Point]
    raw: Sequence[Point] = ()


@dataclass(frozen=True)
class Band:
    """A named stretch of the x axis, from `start` to `end`."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Axis:
    """Data from `low` to `high` laid over pixels from `start` to `end`, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; values outside the axis land on its ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values on the axis."""
        if not self.log:
            rough = (self.high - self.low) / max(count, 1)
            step = min((_round_step(rough), _round_step(rough / 2.2)), key=lambda s: abs(math.log(s / rough)))
            first = math.ceil(self.low / step - 1e-9)
            return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values: list[float] = []
        for digits in ((1, 2, 5), (1, 3), (1,)):
            values = [d * 10.0**e for e in decades for d in digits if self.low <= d * 10.0**e <= self.high * 1.0001]
            if len(values) <= count + 2:
                break
        return values


def fitted(values: Iterable[float], start: float, end: float, *, log: bool = False, from_zero: bool = False) -> Axis:
    """An axis over `values` (at least one), widened to round ends when linear."""
    known = list(values)
    low, high = min(known), max(known)
    if log:
        return Axis(low / 1.15, high * 1.15, start, end, log=True)
    low = min(low, 0.0) if from_zero else low
    if high <= low:
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    step = _round_step((high - low) / 5)
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end)


def _round_step(rough: float) -> float:
    """The nearest 1, 2 or 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def both_widths(draw: Callable[[int], str]) -> str:
    """The chart drawn for wide and for narrow screens; the style sheet shows one of them."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` points with the same outline: of each run of neighbours the lowest and the highest."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for begin in range(0, len(points), size):
        piece = points[begin : begin + size]
        extremes = {min(piece, key=lambda p: p[1]), max(piece, key=lambda p: p[1])}
        kept += sorted(extremes)
    return kept


def line_chart(
    lines: Sequence[Line],
    *,
    size: tuple[int, int],
    label: str,
    x_name: str = "step",
    log: bool = False,
    from_zero: bool = False,
    bands: Sequence[Band] = (),
    ends: bool = False,
) -> str:
    """Curves over a common x axis, as one `<svg>`. At least one line has points.

    size: width and height in CSS pixels. label: what a screen reader says.
    bands: stages, drawn as stripes with their names on top. ends: write each line's name and last value at its end.
    """
    width, height = size
    room = (118 if width > 600 else 44) if ends else 14
    left, right, top, bottom = 46, width - room, 26 if bands else 10, height - 34
    x = Axis(*_span([p[0] for line in lines for p in (*line.points, *line.raw)]), left, right)
    y = fitted(_outline(lines), bottom, top, log=log, from_zero=from_zero)
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">']
    parts += [_band(band, x, top, bottom, even=bool(i % 2)) for i, band in enumerate(bands)]
    parts += _frame(x, y, x_name, ticks=(max(3, (right - left) // 90), max(3, (bottom - top) // 36)))
    for line in lines:
        if line.raw:
            parts.append(_path(thinned(line.raw, width), x, y, f"raw {line.style}"))
    for line in lines:
        parts.append(_path(thinned(line.points, width), x, y, f"line {line.style}"))
    if ends:
        parts += _end_labels(lines, x, y, named=width > 600)
    parts += _hover(lines, x, top, bottom)
    return "".join(parts) + "</svg>"


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _outline(lines: Sequence[Line]) -> list[float]:
    """The y values that must fit: every smoothed one, and the raw ones without their wildest hundredth."""
    values = [p[1] for line in lines for p in line.points]
    raw = sorted(p[1] for line in lines for p in line.raw)
    if raw:
        values += [raw[len(raw) // 100], raw[-1 - len(raw) // 100]]
    return values


def _frame(x: Axis, y: Axis, x_name: str, ticks: tuple[int, int]) -> list[str]:
    """Grid lines, axis numbers, and the name of the x axis."""
    parts = []
    for value in y.ticks(ticks[1]):
        at = y.at(value)
        parts.append(f'<path class="grid" d="M{x.start:.0f} {at:.1f}H{x.end:.0f}"/>')
        parts.append(f'<text class="tick end" x="{x.start - 8:.0f}" y="{at + 4:.1f}">{tick(value)}</text>')
    parts.append(f'<path class="axis" d="M{x.start:.0f} {y.start:.1f}H{x.end:.0f}"/>')
    for value in x.ticks(ticks[0]):
        at = x.at(value)
        parts.append(f'<path class="axis" d="M{at:.1f} {y.start:.1f}v4"/>')
        parts.append(f'<text class="tick middle" x="{at:.1f}" y="{y.start + 17:.1f}">{tick(value)}</text>')
    parts.append(f'<text class="tick end" x="{x.end:.0f}" y="{y.start + 31:.1f}">{escape(x_name)}</text>')
    return parts


def _band(band: Band, x: Axis, top: float, bottom: float, *, even: bool) -> str:
    """One stage: a stripe, a boundary on its left, and as much of its name as fits."""
    begin, end = x.at(band.start), x.at(band.end)
    fits = int((end - begin - 8) / 6.6)
    name = band.name if len(band.name) <= fits else (band.name[: fits - 1] + "\u2026" if fits >= 4 else "")
    stripe = f'<rect class="band{" even" if even else ""}" x="{begin:.1f}" y="{top}" width="{end - begin:.1f}"'
    return (
        f'{stripe} height="{bottom - top}"><title>{escape(band.name)}</title></rect>'
        f'<path class="boundary" d="M{begin:.1f} {top - 18}V{bottom}"/>'
        f'<text class="stage" x="{begin + 6:.1f}" y="{top - 7}">{escape(name)}</text>'
    )


def _path(points: Sequence[Point], x: Axis, y: Axis, style: str) -> str:
    if not points:
        return ""
    if len(points) == 1:
        return f'<circle class="dot {style}" cx="{x.at(points[0][0]):.1f}" cy="{y.at(points[0][1]):.1f}" r="3"/>'
    corners = "L".join(f"{x.at(a):.1f} {y.at(b):.1f}" for a, b in points)
    return f'<path class="{style}" d="M{corners}"/>'


def _end_labels(lines: Sequence[Line], x: Axis, y: Axis, *, named: bool) -> list[str]:
    """Names and last values at the right end, pushed apart where lines end close together."""
    drawn = sorted((y.at(line.points[-1][1]), line) for line in lines if line.points) if lines else []
    heights = [at for at, _ in drawn]
    gap = 36 if named else 16
    for i, (above, below) in enumerate(pairwise(heights)):
        heights[i + 1] = max(below, above + gap, heights[i] + gap)
    excess = max(0.0, heights[-1] - (y.start - 6)) if heights else 0.0
    parts = []
    for (at, line), shifted in zip(drawn, heights, strict=True):
        height = shifted - excess
        end = x.at(line.points[-1][0])
        value = escape(number(line.points[-1][1]))
        parts.append(f'<circle class="dot {line.style}" cx="{end:.1f}" cy="{at:.1f}" r="3.5"/>')
        if named:
            parts.append(f'<text class="name" x="{end + 10:.1f}" y="{height - 3:.1f}">{escape(line.name)}</text>')
            parts.append(f'<text class="value" x="{end + 10:.1f}" y="{height + 13:.1f}">{value}</text>')
        else:
            parts.append(f'<text class="value" x="{end + 7:.1f}" y="{height + 4:.1f}">{value}</text>')
    return parts


def _hover(lines: Sequence[Line], x: Axis, top: float, bottom: float) -> list[str]:
    """Invisible columns that show a guide and, as the browser's own tip, every line's value there."""
    longest = max(lines, key=lambda line: len(line.points))
    columns = longest.points[:: max(1, len(longest.points) // 60)]
    edges = [x.start, *((x.at(a[0]) + x.at(b[0])) / 2 for a, b in pairwise(columns)), x.end]
    parts = []
    for (column, _), (begin, end) in zip(columns, pairwise(edges), strict=True):
        said = [f"{tick(column)}"]
        for line in lines:
            if line.points:
                near = min(line.points, key=lambda p: abs(p[0] - column))
                said.append(f"{line.name}: {number(near[1])}")
        parts.append(
            f'<g class="hit"><rect x="{begin:.1f}" y="{top}" width="{max(end - begin, 0):.1f}" '
            f'height="{bottom - top}"/>'
            f'<path d="M{x.at(column):.1f} {top}V{bottom}"/><title>{escape(chr(10).join(said))}</title></g>'
        )
    return parts
