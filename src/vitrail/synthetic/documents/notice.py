"""A notice on a wall: a heading and a few sentences with a name, a time, a place or a price in each."""

from __future__ import annotations

import re

from vitrail.synthetic.documents.draft import Draft, larger, pale
from vitrail.synthetic.documents.page import WHITE, Colour, Flow, Page, UnfitError, whole_width
from vitrail.synthetic.documents.pen import Pen
from vitrail.synthetic.scenes.scene import Ask

_CHINESE, _STOPS = "\u2e80-\u2fff\u3040-\u9fff", "\u3000-\u303f\uff00-\uffef"
_PIECES = re.compile(f"[{_CHINESE}][{_STOPS}]*|[^ {_CHINESE}{_STOPS}]+[{_STOPS}]* ?")
"""What is never broken: a Chinese character with the stop after it, or a word with the space after it."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "head": ("plain", "band", "ruled", "boxed", "colour"),
    "align": ("left", "centre"),
    "edge": ("none", "thin", "thick", "double"),
    "ground": ("paper", "tint", "dark"),
    "sentences": ("joined", "apart", "apart"),
    "sign": ("none", "person", "date", "none"),
    "wide": ("6", "7", "8", "9"),
}


def draw(draft: Draft) -> None:
    """Draws a notice and what can be asked about it."""
    dice, words = draft.dice, draft.words
    layout = draft.lay_out("notice", OPTIONS)
    pen, accent = draft.pen((), 13, 18), draft.accent()
    heading = words.heading()
    asks, sentences = _sentences(draft)
    ink, ground = _colours(draft, layout, accent)
    margin = dice.between(11, 16)
    page = draft.page = Page(whole_width(int(layout["wide"]) * 28, draft.job.unit), margin, paper=ground)
    flow = Flow(page, margin, dice.between(122, 150) / 100)
    _heading(draft, layout, flow, heading, larger(pen, dice.between(2, 4)), (ink, accent, ground))
    blocks = [" ".join(sentences)] if layout["sentences"] == "joined" and words.script == "latin" else sentences
    number = 1
    for block in blocks:
        for line in wrapped(block, pen, page.inner):
            number += 1
            _line(page, flow, line, pen, ink, layout["align"], words.box_of_line(number))
        flow.gap(4)
    if layout["sign"] != "none":
        signed = words.make(layout["sign"])
        page.write(signed, pen, page.width - margin, flow.line(pen), ink, align="right", name=words.box("signature"))
        number += 1
        draft.ask("field", "signed", signed)
    if number > 10:
        raise UnfitError(f"{number} lines")
    if layout["edge"] != "none":
        page.edge = (layout["edge"], 4, ink if ground else accent)
    draft.tell("notice", title=heading)
    draft.asks += asks
    for number, line in enumerate(page.lines(), 1):
        draft.ask("position", "line", line, number=str(number))


def _sentences(draft: Draft) -> tuple[list[Ask], list[str]]:
    """Two or three sentences with their gaps filled, and a question for each gap."""
    words, asks, sentences = draft.words, [], []
    names: set[str] = set()
    for sentence, gaps in draft.dice.sample(words.notices, draft.more(1, 4)):
        if any(name in names for name, _, _ in gaps):
            continue
        values = [words.make(kind) for _, kind, _ in gaps]
        sentences.append(sentence.format(*values))
        for (name, _, question), value in zip(gaps, values, strict=True):
            names.add(name)
            asks.append(Ask("field", question, value))
    return asks, sentences


def _colours(draft: Draft, layout: dict[str, str], accent: Colour) -> tuple[Colour, Colour | None]:
    """Ink and ground: dark on paper, dark on a tint, or white on a strong colour."""
    if layout["ground"] == "dark":
        return WHITE, accent
    return draft.ink(), pale(accent, 0.16) if layout["ground"] == "tint" else None


def _heading(
    draft: Draft,
    layout: dict[str, str],
    flow: Flow,
    heading: str,
    pen: Pen,
    colours: tuple[Colour, Colour, Colour | None],
) -> None:
    page, style = flow.page, layout["head"]
    ink, accent, ground = colours
    name = draft.words.box("heading")
    dark = ground == accent
    if style == "band":
        flow.gap(4)
        top = flow.y - 4
        baseline = flow.line(pen)
        flow.gap(4)
        page.area([page.margin - 4, top, page.width - page.margin + 4, flow.y], WHITE if dark else accent)
        _aligned(page, heading, pen, baseline, accent if dark else WHITE, layout["align"], name)
        flow.gap(7)
        return
    top = flow.y
    baseline = flow.line(pen)
    colour = accent if style == "colour" and not dark else ink
    _aligned(page, heading, pen, baseline, colour, "centre" if style == "boxed" else layout["align"], name)
    if style == "boxed":
        page.outline([page.margin - 4, top - 1, page.width - page.margin + 4, flow.y + 2], ink, 2)
    if style == "ruled":
        page.rule("thick", flow.y + 2, ink)
    flow.gap(8)


def _line(page: Page, flow: Flow, text: str, pen: Pen, ink: Colour, align: str, name: str) -> None:
    _aligned(page, text, pen, flow.line(pen), ink, align, name)


def _aligned(page: Page, text: str, pen: Pen, baseline: int, colour: Colour, align: str, name: str) -> None:
    x = page.width // 2 if align == "centre" else page.margin
    page.write(text, pen, x, baseline, colour, align=align, name=name)


def wrapped(text: str, pen: Pen, width: int) -> list[str]:
    """The text in lines of at most `width` px, broken at spaces and between Chinese characters."""
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        if line and pen.width((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line.rstrip()]
