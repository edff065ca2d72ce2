"""A bar chart: three to six bars, upright or lying, with names or years, and mostly with their values."""

from __future__ import annotations

from itertools import combinations, pairwise

from vitrail.synthetic.config import split_of
from vitrail.synthetic.documents.axes import AXIS, SERIES, Plot, grid_up, labels, top_of_scale, values
from vitrail.synthetic.documents.draft import Draft, larger
from vitrail.synthetic.documents.page import WHITE, Colour, Flow, Page, UnfitError, whole_width
from vitrail.synthetic.documents.pen import Pen

OPTIONS: dict[str, tuple[str, ...]] = {
    "title": ("left", "centre", "centre", "none"),
    "bars": ("up", "up", "across"),
    "values": ("end", "end", "inside", "none"),
    "marks": ("lines", "numbers", "none"),
    "labels": ("name", "city", "year", "month"),
    "colours": ("one", "many"),
    "breadth": ("thin", "medium", "broad"),
    "high": ("4", "5", "6"),
}
BREADTHS = {"thin": 0.45, "medium": 0.62, "broad": 0.8}


def draw(draft: Draft) -> None:
    """Draws a bar chart and what can be asked about it."""
    layout = draft.lay_out("bar chart", OPTIONS)
    pen = draft.pen((), 12, 16)
    shown = layout["values"] != "none"
    count = draft.more(3, 6)
    names = labels(draft, layout["labels"], count)
    amounts = values(draft, count, apart=0.0 if shown else 0.06)
    title = draft.words.subject() if layout["title"] != "none" else ""
    colours = draft.dice.sample(SERIES, count) if layout["colours"] == "many" else [draft.dice.pick(SERIES)] * count
    (_upright if layout["bars"] == "up" else _lying)(draft, layout, pen, title, names, amounts, colours)
    draft.tell("bar chart", title=title or ", ".join(names), count=str(count))
    if title:
        draft.ask("field", "title", title)
    if shown:
        _ask_values(draft, names, amounts)
    draft.ask("compare", "highest", names[amounts.index(max(amounts))])
    draft.ask("compare", "lowest", names[amounts.index(min(amounts))])
    topics = ("right", "left") if layout["bars"] == "up" else ("below", "above")
    for one, two in pairwise(names):
        draft.ask("position", topics[0], two, name=one)
        draft.ask("position", topics[1], one, name=two)


def _ask_values(draft: Draft, names: list[str], amounts: list[int]) -> None:
    for name, amount in zip(names, amounts, strict=True):
        draft.ask("field", "bar", str(amount), name=name)
    ask_sums(draft, names, amounts)


def ask_sums(draft: Draft, names: list[str], amounts: list[int]) -> None:
    """Asks for the sums of two values that belong to the split."""
    for one, two in combinations(range(len(names)), 2):
        total = str(amounts[one] + amounts[two])
        if split_of(total) == draft.job.split:
            draft.ask("sum", "value sum", total, one=names[one], two=names[two])


def write_title(draft: Draft, style: str, flow: Flow, title: str, pen: Pen, colour: Colour) -> None:
    """The title over a chart."""
    if not title:
        return
    page = flow.page
    align = "centre" if style == "centre" else "left"
    x = page.width // 2 if align == "centre" else page.margin
    page.write(title, pen, x, flow.line(pen), colour, align=align, name=draft.words.box("title"))
    flow.gap(4)


def _upright(
    draft: Draft,
    layout: dict[str, str],
    pen: Pen,
    title: str,
    names: list[str],
    amounts: list[int],
    colours: list[Colour],
) -> None:
    dice, ink, count = draft.dice, draft.ink(), len(names)
    marks, shown = layout["marks"] == "numbers", layout["values"]
    top, step = top_of_scale(max(amounts))
    beside = pen.width(str(top)) + 5 if marks else 0
    slot = max([pen.width(name) + 6 for name in names] + [pen.width(str(max(amounts))) + 6, dice.between(26, 44)])
    margin = dice.between(8, 12)
    head = larger(pen, 2)
    wanted = max(beside + slot * count, head.width(title) if title else 0)
    page = draft.page = Page(whole_width(wanted + 2 * margin, draft.job.unit), margin)
    flow = Flow(page, margin, 1.25)
    write_title(draft, layout["title"], flow, title, head, ink)
    flow.gap(pen.size + 3 if shown == "end" else 4)
    length = int(layout["high"]) * 26 - 14
    plot = Plot(flow.y + length, length, top)
    left, right = margin + beside, page.width - margin
    scale: list[str] = []
    if layout["marks"] != "none":
        scale = grid_up(page, plot, step, (left, right), pen, marks=marks)
    slot = (right - left) // count
    breadth = max(
        round(slot * BREADTHS[layout["breadth"]]), pen.width(str(max(amounts))) + 4 if shown == "inside" else 8
    )
    flow.y = plot.start + 3
    baseline = flow.line(pen)
    for number, (name, amount, colour) in enumerate(zip(names, amounts, colours, strict=True)):
        middle = left + slot * number + slot // 2
        height = plot.at(amount)
        box = [middle - breadth // 2, plot.start - height, middle - breadth // 2 + breadth, plot.start]
        page.area(box, colour, name=draft.words.box_of_bar(name))
        page.write(name, pen, middle, baseline, ink, align="centre")
        if shown == "end":
            page.write(str(amount), pen, middle, box[1] - 4, ink, align="centre")
        elif shown == "inside":
            if height < pen.size + 6:
                raise UnfitError("a bar too low for its value")
            page.write(str(amount), pen, middle, box[1] + pen.size + 1, WHITE, align="centre")
    page.area([left, plot.start, right, plot.start + 1], AXIS)
    within = [" ".join(map(str, amounts))] if shown != "none" else []
    page.reading = (*([title] if title else []), *scale, *within, " ".join(names))


def _lying(
    draft: Draft,
    layout: dict[str, str],
    pen: Pen,
    title: str,
    names: list[str],
    amounts: list[int],
    colours: list[Colour],
) -> None:
    dice, ink, shown = draft.dice, draft.ink(), layout["values"]
    margin = dice.between(8, 12)
    beside = max(pen.width(name) for name in names) + 7
    room = pen.width(str(max(amounts))) + 5 if shown == "end" else 0
    head = larger(pen, 2)
    wanted = max(beside + room + dice.between(60, 110), head.width(title) if title else 0)
    page = draft.page = Page(whole_width(wanted + 2 * margin, draft.job.unit), margin)
    flow = Flow(page, margin, dice.between(140, 190) / 100)
    write_title(draft, layout["title"], flow, title, head, ink)
    left = margin + beside
    length = page.width - margin - room - left
    plot = Plot(left, length, max(amounts))
    start = flow.y
    for name, amount, colour in zip(names, amounts, colours, strict=True):
        top = flow.y
        baseline = flow.line(pen)
        pitch = flow.y - top
        breadth = max(round(pitch * BREADTHS[layout["breadth"]]), pen.size + 2 if shown == "inside" else 6)
        middle = (top + flow.y) // 2
        box = [left, middle - breadth // 2, left + plot.at(amount), middle - breadth // 2 + breadth]
        page.area(box, colour, name=draft.words.box_of_bar(name))
        page.write(name, pen, left - 6, baseline, ink, align="right")
        if shown == "end":
            page.write(str(amount), pen, box[2] + 4, baseline, ink)
        elif shown == "inside":
            if box[2] - left < pen.width(str(amount)) + 8:
                raise UnfitError("a bar too short for its value")
            page.write(str(amount), pen, box[2] - 4, baseline, WHITE, align="right")
    page.area([left - 1, start, left, flow.y], AXIS)
