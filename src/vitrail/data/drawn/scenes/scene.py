"""What every scene hands back: a picture, what to ask about it, and what keeps the splits apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.data.drawn.held_out import Value

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
