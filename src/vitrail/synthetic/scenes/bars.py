"""A bar chart of three to five bars in different colours, built of countable units from 1 to 12."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.media.dice import Dice
from vitrail.synthetic.config import split_of
from vitrail.synthetic.paper import COLOURS, ink, paper
from vitrail.synthetic.scenes.scene import Ask, Box, Frame, Scene, question, sentence

MOST = 12

_ABOVE, _BELOW, _BESIDE = 4, 6, 8  # px around the plot: above, below the base line, left of the bars
_AXIS = (60, 60, 60)
_LINE_EVERY = 4


class _Plot(NamedTuple):
    """Where the chart goes, px: row of the base line, height of one unit, width of a bar's share of the plot."""

    base: int
    unit: int
    slot: int


def draw(dice: Dice, frame: Frame) -> Scene:
    """Draws the scene; the bar asked about has the value, or the tallest bar the colour, that the frame wants."""
    count = dice.between(3, 5)
    values, asked = _values(dice, frame, count)
    first = frame.answer if frame.kind == "tallest bar" else dice.below(len(COLOURS))
    colours = dice.sample_from(first, tuple(COLOURS), count)
    colours.insert(asked, colours.pop(0))
    picture = paper(dice, frame.width, frame.height)
    unit = (frame.height - _ABOVE - _BELOW) // MOST
    plot = _Plot(frame.height - _BELOW, unit, (frame.width - _BESIDE - 1) // count)
    _axes(picture, plot)
    boxes: dict[str, Box] = {}
    width = max(plot.slot * dice.between(62, 78) // 100, 4)
    for index, (colour, value) in enumerate(zip(colours, values, strict=True)):
        left = _BESIDE + index * plot.slot + (plot.slot - width) // 2
        boxes[f"{colour} bar"] = _bar(picture, plot, colour, value, (left, width))
    return Scene(
        name="bars",
        picture=picture,
        caption=sentence("bars: " + ", ".join(f"{c} {v}" for c, v in zip(colours, values, strict=True))),
        asks=_asks(dice, frame, colours, values, asked),
        boxes=boxes,
        layout=("bars", *values),
    )


def _values(dice: Dice, frame: Frame, count: int) -> tuple[list[int], int]:
    """Heights of the bars in units, in a layout of this split, and which bar is asked about."""
    asked = dice.below(count)
    while True:
        values = [dice.between(1, MOST) for _ in range(count)]
        if frame.kind == "tallest bar":
            asked = values.index(max(values))
            if values.count(max(values)) > 1:
                continue
        else:
            values[asked] = frame.answer + 1
        if split_of(("bars", *values)) == frame.split:
            return values, asked


def _asks(dice: Dice, frame: Frame, colours: list[str], values: list[int], asked: int) -> tuple[Ask, ...]:
    asks = [
        Ask("bar value", question(dice, "bar value", colour=colours[index]), str(values[index]))
        for index in sorted(range(len(values)), key=lambda index: index != asked)
    ]
    if values.count(max(values)) == 1:
        asks.append(Ask("tallest bar", question(dice, "tallest bar"), colours[values.index(max(values))]))
    asks.sort(key=lambda ask: ask.kind != frame.kind)  # stable: the asked bar stays the first of its kind
    return tuple(asks)


def _axes(picture: NDArray[np.uint8], plot: _Plot) -> None:
    """Base line, upright axis with a tick a unit, and a pale line every four units."""
    top = plot.base - MOST * plot.unit
    for value in range(1, MOST + 1):
        row = plot.base - value * plot.unit
        marked = value % _LINE_EVERY == 0
        if marked:
            picture[row, _BESIDE:-1] = picture[row, _BESIDE:-1] // 8 * 7
        picture[row, _BESIDE - (5 if marked else 3) : _BESIDE - 1] = _AXIS
    picture[top : plot.base + 1, _BESIDE - 2] = _AXIS
    picture[plot.base, _BESIDE - 2 : -1] = _AXIS


def _bar(picture: NDArray[np.uint8], plot: _Plot, colour: str, value: int, across: tuple[int, int]) -> Box:
    """Stacks `value` blocks, one row of paper between two, and returns the box around them."""
    left, width = across
    top = plot.base - value * plot.unit + 1
    mask = np.full((value * plot.unit - 1, width), 255, np.uint8)
    mask[plot.unit - 1 :: plot.unit] = 0
    ink(picture, mask, colour, left, top)
    return [left, top, left + width, plot.base]
