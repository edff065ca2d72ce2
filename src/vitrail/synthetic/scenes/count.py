"""One to twelve of the same small thing, sometimes among a few of another colour."""

from __future__ import annotations

from vitrail.media.dice import Dice
from vitrail.synthetic.config import SIDE_CHANCE, Value, split_of
from vitrail.synthetic.paper import COLOURS, ink, paper
from vitrail.synthetic.scenes.scene import Ask, Box, Frame, Scene, box_of, question, sentence
from vitrail.synthetic.shapes import SHAPES, plural, shape_mask

MOST = 12

_GRID = 4  # things stand on a grid of 4 by 4, a little off its centres
_SCALES = (0.66, 0.74, 0.82)
_MOST_OTHERS = 3
_OTHERS_CHANCE = 0.35


def draw(dice: Dice, frame: Frame) -> Scene:
    """Draws the scene; how many there are is the answer asked for, plus one."""
    count = frame.answer + 1
    others = dice.between(1, _MOST_OTHERS) if dice.chance(_OTHERS_CHANCE) else 0
    cells, scale, layout = _lay_out(dice, frame.split, count, others)
    colour, other_colour = dice.sample(tuple(COLOURS), 2)
    shape = dice.pick(SHAPES)
    other_shape = shape if dice.chance(0.5) else dice.pick(SHAPES)
    picture = paper(dice, frame.width, frame.height)
    boxes: dict[str, Box] = {}
    for number, cell in enumerate(cells):
        counted = number < count
        name = f"{colour} {shape}" if counted else f"{other_colour} {other_shape}"
        cell_width, cell_height = frame.width / _GRID, frame.height / _GRID
        mask = shape_mask(shape if counted else other_shape, round(_SCALES[scale] * min(cell_width, cell_height)))
        x, y = (cell % _GRID + 0.5) * cell_width, (cell // _GRID + 0.5) * cell_height
        reach = max((min(cell_width, cell_height) - max(mask.shape)) / 2 - 1, 0)
        left = round(x - mask.shape[1] / 2 + dice.spread(reach))
        top = round(y - mask.shape[0] / 2 + dice.spread(reach))
        ink(picture, mask, colour if counted else other_colour, left, top)
        boxes[f"{name} {number + 1 if counted else number + 1 - count}"] = box_of(mask, left, top)
    groups = [_group(count, colour, shape)] + ([_group(others, other_colour, other_shape)] if others else [])
    return Scene(
        name="count",
        picture=picture,
        caption=sentence(", ".join(groups)),
        asks=_asks(dice, count, colour, shape, alone=not others or other_shape != shape),
        boxes=boxes,
        layout=layout,
    )


def _lay_out(dice: Dice, split: str, count: int, others: int) -> tuple[list[int], int, Value]:
    """Grid cells in reading order, first of the counted things and then of the others; scale index; signature."""
    while True:
        scale = dice.below(len(_SCALES))
        cells = dice.sample(range(_GRID * _GRID), count + others)
        counted, rest = sorted(cells[:count]), sorted(cells[count:])
        layout: Value = ("count", scale, tuple(counted), tuple(rest))
        if split_of(layout) == split:
            return counted + rest, scale, layout


def _group(count: int, colour: str, shape: str) -> str:
    return f"{count} {colour} {shape if count == 1 else plural(shape)}"


def _asks(dice: Dice, count: int, colour: str, shape: str, *, alone: bool) -> tuple[Ask, ...]:
    """How many there are; now and then their colour and shape. alone: no other colour is drawn in that shape."""
    # The others are never counted: there are few of them, and "How many ...?" must not favour small answers.
    names = {"thing": shape if count == 1 else plural(shape), "be": "is" if count == 1 else "are"}
    asks = [Ask("count", question(dice, "count", things=f"{colour} {plural(shape)}"), str(count))]
    if dice.chance(SIDE_CHANCE):
        asks.append(Ask("shape", question(dice, "shape", colour=colour), shape))
    if alone and dice.chance(SIDE_CHANCE):
        asks.append(Ask("colour", question(dice, "colour", **names), colour))
    return tuple(asks)
