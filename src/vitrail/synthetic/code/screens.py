"""A small page: its elements, one below the other; the HTML that says them, and the picture of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.media.dice import Dice
from vitrail.synthetic.config import split_of
from vitrail.synthetic.paper import BRIGHT_INKS, COLOURS, ink
from vitrail.synthetic.typefaces import Typeface, lettering
from vitrail.synthetic.words import WORDS

HEIGHTS = {"h1": 18, "button": 14, "div": 12, "input": 12, "hr": 5}
"""What each element takes of a page of 64 px, its own margin with it, px."""
PAGE = 64
MARGIN = 3
_BUTTON_SHARE, _CAP = 60, 13
"""Of the page's width, per cent; height of a heading's capitals, px."""
_WHITE, _GREY, _LINE = (255, 255, 255), (238, 238, 238), (120, 120, 120)
_BACKGROUNDS = {"white": _WHITE, "whitesmoke": _GREY}


@dataclass(frozen=True)
class Element:
    """One of a page. tag: of HTML. colour: a name from `paper.COLOURS`, "" where it has none. text: of a heading."""

    tag: str
    colour: str = ""
    text: str = ""

    @property
    def html(self) -> str:
        """The element, one line."""
        match self.tag:
            case "h1":
                return f'<h1 style="color:{self.colour}">{self.text}</h1>'
            case "hr" | "input":
                return f"<{self.tag}>"
        return f'<{self.tag} style="background:{self.colour}"></{self.tag}>'


@dataclass(frozen=True)
class Screen:
    """A page. background: a name from `_BACKGROUNDS`, which are HTML's."""

    background: str
    elements: tuple[Element, ...]

    @property
    def html(self) -> str:
        """All of it, a line an element."""
        inside = "\n".join(element.html for element in self.elements)
        return f'<body style="background:{self.background}">\n{inside}\n</body>'


def made_up(dice: Dice, split: str, most: int) -> Screen:
    """A page of that split, of at most so many elements that fit it."""
    words = [word for word in WORDS if split_of(word) == split and len(word) < 5]
    while True:
        elements: list[Element] = []
        room = PAGE - MARGIN
        for _ in range(dice.between(1, most)):
            tag = dice.pick(tuple(HEIGHTS))
            # A heading in a pale colour could not be read on pale paper.
            inks = tuple(name for name in COLOURS if tag != "h1" or name not in BRIGHT_INKS)
            colour = dice.pick(inks) if tag in ("h1", "button", "div") else ""
            if HEIGHTS[tag] <= room:
                elements.append(Element(tag, colour, dice.pick(words) if tag == "h1" else ""))
                room -= HEIGHTS[tag]
        screen = Screen(dice.pick(tuple(_BACKGROUNDS)), tuple(elements))
        if split_of(("html", *(f"{element.tag} {element.colour}" for element in elements))) == split:
            return screen


def drawn(screen: Screen, face: Typeface, side: int) -> NDArray[np.uint8]:
    """Its picture, uint8[side, side, 3], in the proportions of a page of 64 px."""

    def px(length: float) -> int:
        return round(length * side / PAGE)

    picture = np.empty((side, side, 3), np.uint8)
    picture[:] = _BACKGROUNDS[screen.background]
    top = MARGIN
    left, right = px(MARGIN), side - px(MARGIN)
    for element in screen.elements:
        high = HEIGHTS[element.tag] - 3
        rows = slice(px(top), px(top + high))
        match element.tag:
            case "h1":
                _heading(picture[rows, left:right], element, face, px(_CAP))
            case "button":
                _filled(picture, rows, slice(left, left + px(PAGE * _BUTTON_SHARE / 100)), element.colour)
            case "div":
                _filled(picture, rows, slice(left, right), element.colour)
            case "hr":
                picture[px(top) : px(top) + max(1, px(1)), left:right] = _LINE
            case "input":
                picture[rows, left:right] = _LINE
                picture[rows.start + 1 : rows.stop - 1, left + 1 : right - 1] = _WHITE
        top += HEIGHTS[element.tag]
    return picture


def _filled(picture: NDArray[np.uint8], rows: slice, columns: slice, colour: str) -> None:
    picture[rows, columns] = COLOURS[colour]


def _heading(room: NDArray[np.uint8], element: Element, face: Typeface, cap: int) -> None:
    """In place, at the left. cap: height of a capital, px; what does not fit is set smaller."""
    mask = lettering(element.text, face, cap)
    while mask.shape[0] > room.shape[0] or mask.shape[1] > room.shape[1]:
        cap -= 1
        mask = lettering(element.text, face, cap)
    ink(room, mask, element.colour, 0, 0)
