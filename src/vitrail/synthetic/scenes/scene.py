"""What every scene hands back, and how its questions are put.

Questions have two or three phrasings a kind, short because every byte is a token to learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.media.dice import Dice
from vitrail.synthetic.config import Value

PHRASINGS: dict[str, tuple[str, ...]] = {
    "colour": ("What colour {be} the {thing}?", "Name the colour of the {thing}.", "The {thing} {be} which colour?"),
    "shape": ("Which shape is {colour}?", "What shape is the {colour} one?", "Name the {colour} shape."),
    "position": ("Where is the {thing}?", "Where do you see the {thing}?", "Name the place of the {thing}."),
    "box": ("Give the box of the {thing}.", "Draw a box around the {thing}."),
    "count": ("How many {things} are there?", "Count the {things}.", "How many {things} do you see?"),
    "number": ("What number is written?", "Read the number.", "Which number do you see?"),
    "word": ("What word is written?", "Read the word.", "Which word do you see?"),
    "bar value": ("What is the value of the {colour} bar?", "How high is the {colour} bar?", "Read the {colour} bar."),
    "tallest bar": ("Which bar is tallest?", "What colour is the tallest bar?", "Name the tallest bar."),
}

CAPTION_REQUESTS: tuple[str, ...] = ("Describe the picture.", "What is in the picture?")

Box = list[int]
"""[x1, y1, x2, y2] in px; x2 and y2 are the first column and row past the thing."""


@dataclass(frozen=True)
class Frame:
    """What a scene is drawn for: a split, a kind of question, and a picture of `width` by `height` px.

    answer: which of the kind's `ANSWERS` answers the first question is to have, counted from 0; kinds that have more
    answers draw their own. easy: as little in the picture as the scene can do with.
    """

    split: str
    kind: str
    answer: int
    width: int
    height: int
    easy: bool = False


@dataclass(frozen=True)
class Ask:
    """One question about a picture, of one kind, with its only right answer.

    target: of a question where to click, the box (thousandths) that must be hit.
    """

    kind: str
    question: str
    answer: str
    target: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene:
    """One drawn picture.

    name: "shapes", "count", "text" or "bars". picture: uint8[H, W, 3]. caption: everything in it, one sentence.
    asks: what to ask about it; the first is of the kind the scene was drawn for, about a thing whose answer was drawn
    evenly. boxes: name of a thing to its box. layout: where things are and how large, drawn in one split only.
    value, font: the written text and the font's name, each drawn in one split only; "" where nothing is written.
    """

    name: str
    picture: NDArray[np.uint8]
    caption: str
    asks: tuple[Ask, ...]
    boxes: dict[str, Box]
    layout: Value
    value: str = ""
    font: str = ""


def box_of(mask: NDArray[np.uint8], left: int, top: int) -> Box:
    """The box of a mask laid with its upper left corner at (left, top)."""
    return [left, top, left + mask.shape[1], top + mask.shape[0]]


def in_thousandths(box: Box, width: int, height: int) -> str:
    """A box as Qwen2-VL writes it: "[x1, y1, x2, y2]" in thousandths of the picture's width and height."""
    sides = (width, height, width, height)
    return str([round(1000 * edge / side) for edge, side in zip(box, sides, strict=True)])


def question(dice: Dice, kind: str, **names: str) -> str:
    """One phrasing of a kind, with the things it is about filled in."""
    return dice.pick(PHRASINGS[kind]).format(**names)


def with_article(name: str) -> str:
    """Puts "a" or "an" before a name."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def sentence(text: str) -> str:
    """Capital first letter, full stop."""
    return f"{text[0].upper()}{text[1:]}."
