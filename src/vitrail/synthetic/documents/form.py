"""A form that is filled in: a title, and fields with their labels beside, before or above what was written."""

from __future__ import annotations

from typing import NamedTuple

from vitrail.synthetic.documents.draft import Draft, ask_order, larger, pale
from vitrail.synthetic.documents.page import WHITE, Colour, Flow, Page, whole_width
from vitrail.synthetic.documents.pen import Pen
from vitrail.synthetic.documents.rows import Entry, needed, write_rows

OPTIONS: dict[str, tuple[str, ...]] = {
    "title": ("left", "centre", "band", "boxed", "ruled"),
    "fields": ("lines", "cells", "dots", "apart", "above", "boxes", "colon"),
    "hand": ("same", "other", "other"),
    "pen": ("ink", "blue", "blue"),
    "labels": ("as is", "upper", "colour"),
    "edge": ("none", "none", "thin", "accent"),
    "number": ("no", "yes", "no"),
}
PEN_INKS: tuple[Colour, ...] = ((20, 40, 150), (30, 30, 110), (0, 60, 140), (18, 18, 22))


class _Field(NamedTuple):
    label: str
    value: str
    box: str


def draw(draft: Draft) -> None:
    """Draws a form and what can be asked about it."""
    dice, words = draft.dice, draft.words
    layout = draft.lay_out("form", OPTIONS)
    pen, accent = draft.pen((), 13, 17), draft.accent()
    hand = pen if layout["hand"] == "same" else draft.pen((), 14, 18)
    fields = [(label, words.make(kind)) for label, kind in dice.sample(words.form_fields, draft.more(3, 7))]
    title = words.form_title()
    stacked = layout["fields"] in ("above", "boxes")
    if stacked and len(fields) > 4:
        fields = fields[:4]
    margin = dice.between(10, 14)
    ink = draft.ink()
    written = ink if layout["pen"] == "ink" else dice.pick(PEN_INKS)
    label_ink = accent if layout["labels"] == "colour" else ink
    upper = layout["labels"] == "upper" and words.script == "latin"
    shown = [_Field(label.upper() if upper else label, value, words.box(label)) for label, value in fields]
    head = _title(layout, larger(pen, dice.between(1, 3)), title, accent, words.box("title"))
    if layout["number"] == "yes":
        code = words.code()
        head.append(Entry(right=f"{words.short_number} {code}", pen=pen, gap=2))
        draft.ask("field", "value", code, name=words.noun("form number"))
    rows = _rows(layout["fields"], shown, pen, hand, label_ink, written)
    width = whole_width(needed([*head, *rows], 16) + 2 * margin + dice.between(0, 24), draft.job.unit)
    draft.page = page = Page(width, margin)
    flow = Flow(page, margin + (3 if layout["title"] == "band" else 0), dice.between(125, 155) / 100)
    write_rows(flow, head, ink)
    if stacked or layout["fields"] == "cells":
        _cells(page, flow, layout["fields"], shown, (pen, hand), (label_ink, written, accent))
    else:
        write_rows(flow, rows, ink)
    if layout["edge"] != "none":
        page.edge = ("thin", 4, accent if layout["edge"] == "accent" else ink)
    draft.tell("form", title=title, count=str(len(fields)))
    draft.ask("field", "title", title)
    for label, value in fields:
        draft.ask("field", "entry", value, name=label)
    ask_order(draft, [label for label, _ in fields], topics=("field below", "field above"))
    for number, (label, _) in enumerate(fields, 1):
        draft.ask("position", "field number", label, number=str(number))


def _title(layout: dict[str, str], pen: Pen, title: str, accent: Colour, name: str) -> list[Entry]:
    style = layout["title"]
    if style == "left":
        return [Entry(title, pen=pen, colour=accent, names=(name, ""), gap=6)]
    if style == "band":
        return [Entry(middle=title, pen=pen, band=accent, colour=WHITE, names=(name, ""), gap=8)]
    entry = Entry(middle=title, pen=pen, boxed=style == "boxed", names=(name, ""), gap=7)
    return [entry, Entry(rule="solid")] if style == "ruled" else [entry]


def _rows(style: str, fields: list[_Field], pen: Pen, hand: Pen, label_ink: Colour, written: Colour) -> list[Entry]:
    """One row a field; for cells and stacked fields, rows that are as wide as those."""
    colon = ":" if style == "colon" else ""
    tab = 0
    if style in ("lines", "cells", "colon"):
        tab = max(pen.width(label + colon) for label, _, _ in fields) + (14 if style == "cells" else 9)
    if style in ("above", "boxes"):
        return [Entry(text, pen=of) for field in fields for text, of in ((field.label, pen), (field.value, hand))]
    return [
        Entry(
            label + colon,
            value,
            pen=pen,
            right_pen=hand,
            colour=label_ink,
            right_colour=written,
            tab=tab,
            under=style == "lines",
            leader="dots" if style == "dots" else "",
            names=("", box),
            gap=4 if style == "lines" else 0,
        )
        for label, value, box in fields
    ]


def _cells(
    page: Page,
    flow: Flow,
    style: str,
    fields: list[_Field],
    pens: tuple[Pen, Pen],
    colours: tuple[Colour, Colour, Colour],
) -> None:
    """Fields in cells with edges: the label in the left cell, or above the one with the value."""
    (pen, hand), (label_ink, written, accent) = pens, colours
    left, right = page.margin - 3, page.width - page.margin + 3
    grey = (150, 150, 150)
    tab = max(pen.width(label) for label, _, _ in fields) + 14
    for label, value, box in fields:
        top = flow.y
        if style == "cells":
            flow.gap(2)
            taller = pen if pen.size > hand.size else hand
            baseline = flow.line(taller)
            flow.gap(2)
            page.area([left, top, page.margin + tab - 6, flow.y], pale(accent))
            page.outline([left, top, right, flow.y + 1], grey)
            page.area([page.margin + tab - 6, top, page.margin + tab - 5, flow.y], grey)
            page.write(label, pen, page.margin, baseline, label_ink)
            page.write(value, hand, page.margin + tab, baseline, written, name=box)
            continue
        page.write(label, pen, page.margin, flow.line(pen), label_ink)
        top = flow.y
        flow.gap(2 if style == "boxes" else 0)
        baseline = flow.line(hand)
        flow.gap(2 if style == "boxes" else 0)
        page.write(value, hand, page.margin, baseline, written, name=box)
        if style == "boxes":
            page.outline([left, top, right, flow.y], grey)
        else:
            page.rule("solid", baseline + 5, grey)
        flow.gap(4)
