"""A page while it is laid out, and what it becomes: text, rules, areas, and the boxes of what has a name.

Nothing is drawn while a page is laid out: text is measured, and what does not fit is refused there and then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vitrail.contracts.messages import Character
from vitrail.media.dice import Dice
from vitrail.media.effects import skewed
from vitrail.synthetic.config import Value
from vitrail.synthetic.documents.pen import SIDE, Pen
from vitrail.synthetic.scenes.scene import Ask, Box

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
PAPERS: tuple[Colour, ...] = (
    *(WHITE, WHITE, (252, 252, 252), (248, 248, 246)),
    *((250, 247, 238), (238, 240, 242), (236, 244, 250), (240, 247, 238), (252, 242, 242), (246, 240, 224)),
)
NARROWEST, WIDEST = 168, 280  # px
LARGEST_AREA = 90 * 28 * 28  # px
_FAINTEST = 40  # alpha from which a pixel counts as ink, as in the drawn scenes


class UnfitError(Exception):
    """What was drawn by lot does not fit on a page; another draw will."""


@dataclass(frozen=True)
class Document:
    """One drawn document.

    name: its kind. picture: uint8[H, W, 3]. lines: its text in reading order. caption: what it is, one sentence.
    asks: every question it offers but boxes and clicks, each with its only right answer. boxes: name of a thing to the
    box of its ink, px. targets: the names that can be clicked. layout: drawn in one split only. values: names, amounts,
    dates and codes on it, each of one split only. fonts: names of the fonts it is written in. runs: every piece of
    text with its box, on a page that is not rotated. characters: every character with its position.
    """

    name: str
    picture: NDArray[np.uint8]
    lines: tuple[str, ...]
    caption: str
    asks: tuple[Ask, ...]
    boxes: dict[str, Box]
    targets: tuple[str, ...]
    layout: Value
    values: tuple[str, ...]
    fonts: tuple[str, ...]
    runs: tuple[tuple[str, Box], ...]
    characters: tuple[Character, ...]


@dataclass(frozen=True)
class _Run:
    text: str
    pen: Pen
    left: int
    baseline: int
    colour: Colour
    name: str


@dataclass(frozen=True)
class _Area:
    box: Box
    colour: Colour


@dataclass(frozen=True)
class _Stamp:
    alpha: NDArray[np.uint8]
    left: int
    top: int
    colour: Colour


@dataclass
class Page:
    """A page of a known width and a height that grows with what is put on it.

    width: px. margin: what text must stay inside of, px. paper: its colour; None for a light tint by lot. sheet: a
    smaller sheet that lies on it: how far its edges are from the picture's, px, and its colour. reading: the lines in
    reading order, where the baselines do not tell. edge: a frame around everything: its style ("thin", "thick",
    "double"), how far it is from the picture's edge, px, and its colour. floats: whether spare height is shared between
    above and below.
    """

    width: int
    margin: int
    height: int = 0
    paper: Colour | None = None
    sheet: tuple[int, Colour] | None = None
    boxes: dict[str, Box] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    reading: tuple[str, ...] | None = None
    floats: bool = True
    edge: tuple[str, int, Colour] | None = None
    _things: list[_Run | _Area | _Stamp] = field(default_factory=list)

    @property
    def inner(self) -> int:
        """Width between the margins, px."""
        return self.width - 2 * self.margin

    def write(
        self, text: str, pen: Pen, x: int, baseline: int, colour: Colour, *, align: str = "left", name: str = ""
    ) -> int:
        """Places one line of text and returns its width, px.

        x: where the ink starts (align: left), ends (right), or has its middle (centre). name: of its box, when it may
        be asked for. Raises UnfitError when it would leave the margins.
        """
        width = pen.width(text)
        left = {"left": x, "right": x - width, "centre": x - width // 2}[align]
        if left < self.margin or left + width > self.width - self.margin:
            raise UnfitError(text)
        self._things.append(_Run(text, pen, left, baseline, colour, name))
        self.reach(baseline + round(0.3 * pen.size))
        return width

    def area(self, box: Box, colour: Colour, *, name: str = "") -> None:
        """Fills a box, under what is written later. name: of its box."""
        self._things.append(_Area(box, colour))
        if name:
            self.boxes[name] = box
        self.reach(box[3])

    def outline(self, box: Box, colour: Colour, thick: int = 1) -> None:
        """Draws the edge of a box, inside it."""
        x1, y1, x2, y2 = box
        self.area([x1, y1, x2, y1 + thick], colour)
        self.area([x1, y2 - thick, x2, y2], colour)
        self.area([x1, y1, x1 + thick, y2], colour)
        self.area([x2 - thick, y1, x2, y2], colour)

    def stamp(self, alpha: NDArray[np.uint8], left: int, top: int, colour: Colour, *, name: str = "") -> None:
        """Lays a mask, uint8[h, w], in one colour."""
        self._things.append(_Stamp(alpha, left, top, colour))
        if name:
            self.boxes[name] = [left, top, left + alpha.shape[1], top + alpha.shape[0]]
        self.reach(top + alpha.shape[0])

    def rule(self, style: str, y: int, colour: Colour, left: int = 0, right: int = 0) -> None:
        """A line across: "solid", "double", "thick", "dashes", "dots" or "none". left, right: px; 0 for the margins."""
        left, right = left or self.margin, right or self.width - self.margin
        if style in ("solid", "thick", "double"):
            self.area([left, y, right, y + (2 if style == "thick" else 1)], colour)
        if style == "double":
            self.area([left, y + 3, right, y + 4], colour)
        if style in ("dashes", "dots"):
            on, period = (5, 8) if style == "dashes" else (2, 5)
            alpha = np.zeros((1, max(right - left, 1)), np.uint8)
            alpha[0, np.arange(alpha.shape[1]) % period < on] = 255
            self.stamp(alpha, left, y, colour)

    def reach(self, y: int) -> None:
        """Makes the page at least so high, px."""
        self.height = max(self.height, y)

    def finish(self, unit: int) -> tuple[int, int]:
        """Closes the page: its width and height as whole multiples of `unit`, px. Raises UnfitError when too large."""
        assert self.width % unit == 0, f"a page of {self.width} px is no multiple of {unit}"
        height = -(-(self.height + (self.margin if self.floats else 0)) // unit) * unit
        if self.width * height > LARGEST_AREA or self.width > WIDEST:
            raise UnfitError(f"{self.width} by {height}")
        if self.floats:
            self._move_down((height - self.height - self.margin) // 2)
        self.height = height
        return self.width, height

    def lines(self) -> tuple[str, ...]:
        """The text in reading order: what stands on one baseline is one line, from left to right."""
        if self.reading is not None:
            return self.reading
        rows: dict[int, list[_Run]] = {}
        for run in self.runs:
            rows.setdefault(run.baseline, []).append(run)
        return tuple(
            " ".join(run.text for run in sorted(row, key=lambda run: run.left)) for _, row in sorted(rows.items())
        )

    @property
    def names(self) -> set[str]:
        """The names of everything that gets a box."""
        return {*self.boxes, *(run.name for run in self.runs if run.name)}

    @property
    def runs(self) -> list[_Run]:
        """Every piece of text."""
        return [thing for thing in self._things if isinstance(thing, _Run)]

    def middles(self) -> list[tuple[str, float, float, str]]:
        """Each character that shows, its middle, px from the left and from the top, and what parts it from the last."""
        return [
            (character, run.left + x, run.baseline - y, before)
            for run in self.runs
            for character, x, y, before in run.pen.middles(run.text)
        ]

    def draw(self, dice: Dice) -> tuple[NDArray[np.uint8], tuple[tuple[str, Box], ...]]:
        """The finished page as uint8[H, W, 3], and the boxes of all ink; names get the box of their ink too."""
        picture = Image.new("RGB", (self.width, self.height), self.paper or dice.pick(PAPERS))
        if self.sheet is not None:
            inset, colour = self.sheet
            picture.paste(colour, (inset, inset, self.width - inset, self.height - inset))
        if self.edge is not None:
            _frame(picture, *self.edge)
        runs = []
        for thing in self._things:
            if isinstance(thing, _Area):
                x1, y1, x2, y2 = thing.box
                picture.paste(thing.colour, (x1, y1, x2, y2))
            elif isinstance(thing, _Stamp):
                _lay(picture, thing.alpha, thing.left, thing.top, thing.colour)
            else:
                left, top = thing.left - SIDE, thing.baseline - thing.pen.ascent
                box = _lay(picture, thing.pen.mask(thing.text), left, top, thing.colour)
                runs.append((thing.text, box))
                if thing.name:
                    self.boxes[thing.name] = box
        return np.array(picture), tuple(runs)

    def _move_down(self, by: int) -> None:
        moved: list[_Run | _Area | _Stamp] = []
        for thing in self._things:
            if isinstance(thing, _Area):
                x1, y1, x2, y2 = thing.box
                moved.append(_Area([x1, y1 + by, x2, y2 + by], thing.colour))
            elif isinstance(thing, _Stamp):
                moved.append(_Stamp(thing.alpha, thing.left, thing.top + by, thing.colour))
            else:
                moved.append(_Run(thing.text, thing.pen, thing.left, thing.baseline + by, thing.colour, thing.name))
        self._things = moved
        self.boxes = {name: [x1, y1 + by, x2, y2 + by] for name, (x1, y1, x2, y2) in self.boxes.items()}


@dataclass
class Flow:
    """Lines of text from the top of a page down. y: the top of the next line, px. lead: line height per font size."""

    page: Page
    y: int
    lead: float

    def line(self, pen: Pen) -> int:
        """Goes down one line and returns its baseline, px."""
        pitch = round(pen.size * self.lead)
        baseline = self.y + (pitch - pen.size) // 2 + round(0.82 * pen.size)
        self.y += pitch
        return baseline

    def gap(self, px: int) -> None:
        """Goes down without writing."""
        self.y += px


class Rotation:
    """A rotation about the middle of a picture of `width` by `height` px, anticlockwise."""

    def __init__(self, width: int, height: int, degrees: float) -> None:
        self._middle = width / 2, height / 2
        self._sides = width, height, width, height
        self._degrees = degrees
        self._cos, self._sin = cos(radians(degrees)), sin(radians(degrees))

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point goes."""
        if not self._degrees:
            return x, y
        x, y = x - self._middle[0], y - self._middle[1]
        return self._middle[0] + x * self._cos + y * self._sin, self._middle[1] - x * self._sin + y * self._cos

    def box(self, box: Box) -> Box:
        """The box around what a box was around, inside the picture."""
        x1, y1, x2, y2 = box
        across, down = zip(*(self.point(x, y) for x in (x1, x2) for y in (y1, y2)), strict=True)
        edges = (min(across), min(down), max(across), max(down))
        return [min(max(round(edge), 0), most) for edge, most in zip(edges, self._sides, strict=True)]

    def picture(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture, rotated."""
        return skewed(picture, self._degrees) if self._degrees else picture


def whole_width(wanted: int, unit: int) -> int:
    """The narrowest allowed page of at least `wanted` px. Raises UnfitError when that is too wide."""
    width = -(-max(wanted, NARROWEST) // unit) * unit
    if width > WIDEST:
        raise UnfitError(f"{wanted} px wide")
    return width


def _lay(picture: Image.Image, alpha: NDArray[np.uint8], left: int, top: int, colour: Colour) -> Box:
    """Lays a mask in one colour and returns the box of what shows. Raises UnfitError when ink leaves the picture."""
    seen = alpha >= _FAINTEST
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return [left, top, left, top]
    alpha = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    left, top = left + int(columns[0]), top + int(rows[0])
    bottom, right = top + alpha.shape[0], left + alpha.shape[1]
    if left < 0 or top < 0 or bottom > picture.height or right > picture.width:
        raise UnfitError(f"ink at {left}, {top}")
    picture.paste(colour, (left, top), Image.fromarray(alpha))
    return [left, top, right, bottom]


def _frame(picture: Image.Image, style: str, inset: int, colour: Colour) -> None:
    """A line, or two, around the picture."""
    pen, (width, height) = ImageDraw.Draw(picture), picture.size
    for at in (inset, inset + 3) if style == "double" else (inset, inset + 1) if style == "thick" else (inset,):
        pen.rectangle((at, at, width - 1 - at, height - 1 - at), outline=colour)
