"""Rows of a page that is one column: measured first, so that the page can be as wide as they need, then written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.synthetic.documents.page import Colour, Flow
from vitrail.synthetic.documents.pen import Pen


@dataclass(frozen=True)
class Entry:
    """One row: text at the left, at the right or in the middle; or a rule, or a gap.

    names: of the left and of the right text's box, or of the middle one's. leader: what fills the space between left
    and right, "dots" or "". band: colour behind the row. rule: style of a line across, in a row of its own. gap: px
    below. boxed: an edge around the row. tab: where the right text starts instead of ending at the margin, px from it.
    under: a line below the right text up to the margin, as on forms.
    """

    left: str = ""
    right: str = ""
    middle: str = ""
    pen: Pen | None = None
    right_pen: Pen | None = None
    names: tuple[str, str] = ("", "")
    leader: str = ""
    colour: Colour | None = None
    right_colour: Colour | None = None
    band: Colour | None = None
    rule: str = ""
    gap: int = 0
    boxed: bool = False
    tab: int = 0
    under: bool = False

    def width(self, apart: int) -> int:
        """What the row needs, px. apart: least space between left and right."""
        if self.pen is None:
            return 0
        width = sum(self.pen.width(text) for text in (self.left, self.middle) if text)
        if self.right and self.tab:
            return self.tab + (self.right_pen or self.pen).width(self.right)
        if self.right:
            width += (self.right_pen or self.pen).width(self.right) + (apart if self.left else 0)
        return width


def needed(entries: Sequence[Entry], apart: int = 10) -> int:
    """Width of the widest row, px."""
    return max(entry.width(apart) for entry in entries)


def write_rows(flow: Flow, entries: Sequence[Entry], ink: Colour) -> None:
    """Writes the rows below each other, from where the flow stands."""
    for entry in entries:
        if entry.rule:
            flow.page.rule(entry.rule, flow.y + 3, ink)
            flow.gap(10 if entry.rule == "double" else 8)
        elif entry.pen is not None:
            _write(flow, entry, entry.pen, ink)
        flow.gap(entry.gap)


def _write(flow: Flow, entry: Entry, pen: Pen, ink: Colour) -> None:
    page, top = flow.page, flow.y
    colour = entry.colour or ink
    if entry.band is not None or entry.boxed:
        flow.gap(2)
    baseline = flow.line(pen)
    if entry.band is not None or entry.boxed:
        flow.gap(2)
        box = [page.margin - 4, top, page.width - page.margin + 4, flow.y]
        if entry.band is not None:
            page.area(box, entry.band)
        if entry.boxed:
            page.outline(box, colour)
    left, right = page.margin, page.width - page.margin
    if entry.middle:
        page.write(entry.middle, pen, page.width // 2, baseline, colour, align="centre", name=entry.names[0])
    if entry.left:
        left += page.write(entry.left, pen, left, baseline, colour, name=entry.names[0])
    if entry.right:
        pen, ink = entry.right_pen or pen, entry.right_colour or colour
        x, align = (page.margin + entry.tab, "left") if entry.tab else (right, "right")
        right -= page.write(entry.right, pen, x, baseline, ink, align=align, name=entry.names[1])
    if entry.under:
        page.rule("solid", baseline + 4, colour, page.margin + entry.tab, page.width - page.margin)
    if entry.leader and entry.left and entry.right and right - left > 16:
        page.rule(entry.leader, baseline - 1, colour, left + 4, right - 4)
