"""A line chart: one line with its values, or two lines without, over years, months or times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vitrail.synthetic.documents.axes import AXIS, SERIES, Plot, grid_up, labels, top_of_scale, values
from vitrail.synthetic.documents.bar_chart import ask_sums, write_title
from vitrail.synthetic.documents.draft import Draft, larger
from vitrail.synthetic.documents.page import Colour, Flow, Page, whole_width
from vitrail.synthetic.documents.pen import Pen

OPTIONS: dict[str, tuple[str, ...]] = {
    "title": ("left", "centre", "centre", "none"),
    "lines": ("one", "one", "two"),
    "marks": ("lines", "numbers", "none"),
    "labels": ("year", "month", "time", "year"),
    "points": ("disc", "square", "none"),
    "stroke": ("2", "3"),
    "high": ("4", "5", "6"),
}
APART = 0.12
"""Two lines are told apart where they differ by so much of the largest value."""

_FINE = 4
Point = tuple[int, int]


@dataclass(frozen=True)
class _Chart:
    """What a line chart shows: the labels of its points, its lines, and their names where there are two."""

    title: str
    names: list[str]
    series: list[list[int]]
    legend: list[str]


@dataclass(frozen=True)
class _Line:
    """A drawn line: its points, px, its mask, uint8[h, w], and where that lies; wall, floor: edges of the plot, px."""

    points: Sequence[Point]
    alpha: NDArray[np.uint8]
    left: int
    top: int
    wall: int
    floor: int

    def under(self, area: tuple[int, int, int, int]) -> int:
        """How much of the line a piece of text would cover. area: left, top, width, height, px."""
        left, top = area[0] - self.left, area[1] - self.top
        spot = self.alpha[max(top, 0) : max(top + area[3], 0), max(left, 0) : max(left + area[2], 0)]
        return int(np.count_nonzero(spot))


def draw(draft: Draft) -> None:
    """Draws a line chart and what can be asked about it."""
    dice, words = draft.dice, draft.words
    layout = draft.lay_out("line chart", OPTIONS)
    pen, ink = draft.pen((), 12, 15), draft.ink()
    names = labels(draft, layout["labels"], draft.more(3, 6))
    series = [values(draft, len(names), apart=0.04)] if layout["lines"] == "one" else _two_lines(draft, len(names))
    chart = _Chart(
        title=words.subject() if layout["title"] != "none" else "",
        names=names,
        series=series,
        legend=[words.name(), words.name()] if layout["lines"] == "two" else [],
    )
    colours = dice.sample(SERIES, len(series))
    page, plot, across, wall, scale = _plot(draft, layout, chart, colours, (pen, ink))
    for amounts, colour in zip(series, colours, strict=True):
        points = [(x, plot.start - plot.at(amount)) for x, amount in zip(across, amounts, strict=True)]
        line = _stroke(page, points, colour, int(layout["stroke"]), layout["points"], (wall, plot.start - 1))
        if len(series) == 1:
            _values(draft, page, line, amounts, chart.names, (pen, ink))
    written = [" ".join(map(str, series[0]))] if len(series) == 1 else []
    head = [chart.title] if chart.title else []
    page.reading = (*head, *([" ".join(chart.legend)] if chart.legend else []), *scale, *written, " ".join(names))
    draft.tell("line chart", title=chart.title or " ".join(names), count=str(len(names)))
    _ask(draft, chart)


def _two_lines(draft: Draft, count: int) -> list[list[int]]:
    """Two lines that cross or not; only their order at each point is asked for, so no value is held out."""
    top = draft.dice.between(40, 90)
    return [[draft.dice.between(top // 8, top) for _ in range(count)] for _ in range(2)]


def _plot(
    draft: Draft, layout: dict[str, str], chart: _Chart, colours: list[Colour], style: tuple[Pen, Colour]
) -> tuple[Page, Plot, list[int], int, list[str]]:
    """The page with title, axes and labels; where the points are across, px; the left edge; the marks of the axis."""
    dice, names, (pen, ink) = draft.dice, chart.names, style
    top, step = top_of_scale(max(map(max, chart.series)))
    marks = layout["marks"] == "numbers"
    beside = pen.width(str(top)) + 5 if marks else 0
    widest = max(pen.width(text) for text in (*names, str(top)))
    slot = max(widest + 7, dice.between(28, 46))
    head, margin = larger(pen, 2), dice.between(8, 12)
    below = sum(pen.width(name) + 30 for name in chart.legend)
    wanted = max(beside + slot * len(names), head.width(chart.title) if chart.title else 0, below)
    page = draft.page = Page(whole_width(wanted + 2 * margin, draft.job.unit), margin)
    flow = Flow(page, margin, 1.25)
    write_title(draft, layout["title"], flow, chart.title, head, ink)
    if chart.legend:
        _legend(page, chart.legend, colours, flow.line(pen), (pen, ink))
    flow.gap(pen.size + 4)
    length = int(layout["high"]) * 24 - 12
    plot = Plot(flow.y + length, length, top)
    left, right = page.margin + beside, page.width - page.margin
    scale: list[str] = []
    if layout["marks"] != "none":
        scale = grid_up(page, plot, step, (left, right), pen, marks=marks)
    page.area([left, plot.start, right, plot.start + 1], AXIS)
    slot = (right - left) // len(names)
    across = [left + slot * index + slot // 2 for index in range(len(names))]
    flow.y = plot.start + 3
    baseline = flow.line(pen)
    for name, x in zip(names, across, strict=True):
        page.write(name, pen, x, baseline, ink, align="centre", name=draft.words.box_of_label(name))
    return page, plot, across, left, scale


def _stroke(
    page: Page, points: Sequence[Point], colour: Colour, thick: int, marker: str, plot: tuple[int, int]
) -> _Line:
    """Lays a line through the points with a mark at each, drawn larger and reduced for smooth edges."""
    reach = 6
    left, top = min(x for x, _ in points) - reach, min(y for _, y in points) - reach
    width, height = max(x for x, _ in points) + reach - left, max(y for _, y in points) + reach - top
    sheet = Image.new("L", (width * _FINE, height * _FINE), 0)
    pen = ImageDraw.Draw(sheet)
    fine = [((x - left) * _FINE, (y - top) * _FINE) for x, y in points]
    pen.line(fine, fill=255, width=thick * _FINE, joint="curve")
    size = (thick + 2) * _FINE // 2 + 2
    for x, y in fine:
        spot = (x - size, y - size, x + size, y + size)
        if marker == "disc":
            pen.ellipse(spot, fill=255)
        elif marker == "square":
            pen.rectangle(spot, fill=255)
    alpha = np.asarray(sheet.reduce(_FINE))
    page.stamp(alpha, left, top, colour)
    return _Line(points, alpha, left, top, *plot)


def _values(
    draft: Draft, page: Page, line: _Line, amounts: list[int], names: list[str], style: tuple[Pen, Colour]
) -> None:
    """Writes each value at its point, where it is clear of the line: over it, under it, or to a side."""
    pen, ink = style
    for (x, y), amount, name in zip(line.points, amounts, names, strict=True):
        half = pen.width(str(amount)) // 2
        over, under = y - 6, y + 6 + round(0.75 * pen.size)
        spots = [(x + aside, baseline) for aside in (0, half, -half) for baseline in (over, under, over - 5, under + 4)]
        allowed = [
            spot
            for spot in spots
            if line.wall + half <= spot[0] <= page.width - page.margin - half and spot[1] < line.floor
        ]
        best = min(allowed, key=lambda spot: line.under((spot[0] - half, spot[1] - pen.size, 2 * half, pen.size + 1)))
        page.write(str(amount), pen, *best, ink, align="centre", name=draft.words.box_of_value(name))


def _legend(page: Page, legend: list[str], colours: list[Colour], baseline: int, style: tuple[Pen, Colour]) -> None:
    """The names of two lines, each after a dash of its colour."""
    x, (pen, ink) = page.margin, style
    for name, colour in zip(legend, colours, strict=True):
        page.area([x, baseline - 6, x + 14, baseline - 3], colour)
        x += 18 + page.write(name, pen, x + 18, baseline, ink, name=name) + 12


def _ask(draft: Draft, chart: _Chart) -> None:
    if chart.title:
        draft.ask("field", "title", chart.title)
    names, amounts = chart.names, chart.series[0]
    for one, two in pairwise(names):
        draft.ask("position", "right", two, name=one)
        draft.ask("position", "left", one, name=two)
    if chart.legend:
        top = max(map(max, chart.series))
        for name, first, second in zip(names, *chart.series, strict=True):
            if abs(first - second) > APART * top:
                draft.ask("compare", "higher line", chart.legend[first < second], name=name)
        return
    for name, amount in zip(names, amounts, strict=True):
        draft.ask("field", "point", str(amount), name=name)
    draft.ask("compare", "peak", names[amounts.index(max(amounts))])
    draft.ask("compare", "trough", names[amounts.index(min(amounts))])
    ask_sums(draft, names, amounts)
