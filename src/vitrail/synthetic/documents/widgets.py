"""What screens are put together from: buttons, boxes to write in, switches, icons, title bars."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.media.dice import Dice
from vitrail.synthetic.documents.draft import ACCENTS, Draft, pale
from vitrail.synthetic.documents.page import WHITE, Colour, Page
from vitrail.synthetic.documents.pen import Pen
from vitrail.synthetic.shapes import shape_mask

DARK_GROUNDS: tuple[Colour, ...] = ((32, 33, 36), (24, 28, 40), (40, 40, 46))
LIGHT_GROUNDS: tuple[Colour, ...] = ((255, 255, 255), (246, 246, 248), (238, 240, 244), (232, 232, 232))
LIGHT_INK: Colour = (236, 236, 240)
DARK_INK: Colour = (24, 24, 28)


@dataclass(frozen=True)
class Theme:
    """The colours of a screen. panel: behind boxes and bars; edge: of them; accent: of the main button."""

    ground: Colour
    panel: Colour
    edge: Colour
    ink: Colour
    accent: Colour


def theme(dice: Dice, style: str) -> Theme:
    """Colours for a "light", "dark" or "grey" screen."""
    accent = dice.pick(ACCENTS)
    if style == "dark":
        ground = dice.pick(DARK_GROUNDS)
        panel, edge = (_lighter(ground, by) for by in (20, 54))
        return Theme(ground, panel, edge, LIGHT_INK, accent)
    ground = (214, 211, 205) if style == "grey" else dice.pick(LIGHT_GROUNDS)
    return Theme(ground, WHITE if style == "grey" else pale(accent, 0.1), (150, 150, 156), DARK_INK, accent)


def button(
    page: Page, look: Theme, pen: Pen, text: str, box: list[int], name: str, *, main: bool, raised: bool
) -> None:
    """A button with its text in the middle. main: in the accent colour. raised: with a lit and a shaded edge."""
    x1, y1, x2, y2 = box
    page.area(box, look.accent if main else look.panel if not raised else look.ground, name=name)
    page.targets.append(name)
    page.outline(box, look.edge)
    if raised and not main:
        page.area([x1, y1, x2 - 1, y1 + 1], WHITE)
        page.area([x1, y1, x1 + 1, y2 - 1], WHITE)
    page.write(text, pen, (x1 + x2) // 2, middle(pen, y1, y2), WHITE if main else look.ink, align="centre")


def entry_box(page: Page, look: Theme, pen: Pen, text: str, box: list[int], name: str) -> None:
    """A box with text in it."""
    page.area(box, look.panel, name=name)
    page.targets.append(name)
    page.outline(box, look.edge)
    page.write(text, pen, box[0] + 5, middle(pen, box[1], box[3]), look.ink)


def switch(page: Page, look: Theme, right: int, y: int, on: bool, name: str) -> None:
    """A switch of 26 by 14 px that ends at `right`, with its middle at y."""
    box = [right - 26, y - 7, right, y + 7]
    page.area(box, look.accent if on else look.edge, name=name)
    page.targets.append(name)
    knob = right - 12 if on else right - 24
    page.area([knob, y - 5, knob + 10, y + 5], WHITE)


def icon(page: Page, shape: str, side: int, left: int, top: int, colour: Colour, name: str) -> None:
    """One of the drawn shapes as an icon, in the middle of a square."""
    mask = shape_mask(shape, side)
    height, width = mask.shape
    page.stamp(mask, left + (side - width) // 2, top + (side - height) // 2, colour, name=name)
    page.targets.append(name)


def title_bar(draft: Draft, look: Theme, pen: Pen, text: str, style: str) -> int:
    """The bar at the top of a window: its text, and a cross, dots or nothing beside it. Returns where it ends, px."""
    page, height = draft.page, pen.size + 11
    bar = look.accent if style in ("cross", "plain") else look.panel
    ink = WHITE if style in ("cross", "plain") else look.ink
    page.area([0, 0, page.width, height], bar)
    centre = style == "dots"
    x = page.width // 2 if centre else page.margin
    page.write(
        text, pen, x, middle(pen, 0, height), ink, align="centre" if centre else "left", name=draft.words.box("title")
    )
    if style == "cross":
        page.write("x", pen, page.width - page.margin, middle(pen, 0, height), ink, align="right")
    if style == "dots":
        for index, colour in enumerate(((236, 94, 84), (244, 190, 78), (98, 198, 84))):
            page.stamp(shape_mask("circle", 8), 7 + 12 * index, height // 2 - 4, colour)
    return height


def middle(pen: Pen, top: int, bottom: int) -> int:
    """The baseline of text that stands half-way between two heights, px."""
    return (top + bottom) // 2 + round(0.35 * pen.size * min(1.0, pen.face.cap / 0.7))


def _lighter(colour: Colour, by: int) -> Colour:
    red, green, blue = (min(255, level + by) for level in colour)
    return red, green, blue
