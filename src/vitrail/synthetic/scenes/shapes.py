"""One to three different shapes in different colours, each in its own of twelve named positions."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.media.dice import Dice
from vitrail.synthetic.config import ANSWERS, split_of
from vitrail.synthetic.paper import COLOURS, ink, paper
from vitrail.synthetic.scenes.scene import (
    Ask,
    Box,
    Frame,
    Scene,
    box_of,
    in_thousandths,
    question,
    sentence,
    with_article,
)
from vitrail.synthetic.shapes import SHAPES, shape_mask

ROWS = ("top", "upper", "lower", "bottom")
COLUMNS = ("left", "centre", "right")
POSITIONS: tuple[str, ...] = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)
"""The twelve positions in reading order; position c is row c // 3, column c % 3."""

_SCALES = (0.78, 0.84, 0.89, 0.94, 1.0)
_MOST = 3
_LONE = 0.5
"""Share of pictures with a single shape, besides the easy ones, which all have."""


@dataclass(frozen=True)
class _Thing:
    name: str
    colour: str
    shape: str
    position: int
    box: Box


def draw(dice: Dice, frame: Frame) -> Scene:
    """Draws the scene; its first question is about the first thing, which has the answer that the frame wants."""
    count = 1 if frame.easy or dice.chance(_LONE) else dice.between(2, _MOST)
    first = {kind: dice.below(ANSWERS) for kind in ("position", "colour", "shape")} | {frame.kind: frame.answer}
    positions, scales = _lay_out(dice, frame.split, first["position"], count)
    colours = dice.sample_from(first["colour"], tuple(COLOURS), count)
    shapes = dice.sample_from(first["shape"], SHAPES, count)
    picture = paper(dice, frame.width, frame.height)
    things = []
    for colour, shape, position, scale in zip(colours, shapes, positions, scales, strict=True):
        mask = shape_mask(shape, round(_SCALES[scale] * _largest(frame)))
        left, top = _corner(dice, frame, position, mask.shape[1], mask.shape[0])
        ink(picture, mask, colour, left, top)
        things.append(_Thing(f"{colour} {shape}", colour, shape, position, box_of(mask, left, top)))
    return Scene(
        name="shapes",
        picture=picture,
        caption=_caption(things),
        asks=_asks(dice, frame, things),
        boxes={thing.name: thing.box for thing in things},
        layout=_signature(positions, scales),
    )


def _lay_out(dice: Dice, split: str, first: int, count: int) -> tuple[list[int], list[int]]:
    """Places and scale indexes of `count` things, the first in position `first`, in a layout of this split."""
    while True:
        positions = dice.sample_from(first, range(len(POSITIONS)), count)
        scales = [dice.below(len(_SCALES)) for _ in positions]
        if not _crowded(positions) and _split(positions, scales) == split:
            return positions, scales


def _split(positions: list[int], scales: list[int]) -> str:
    """The split that a layout belongs to."""
    if len(positions) > 1:
        return split_of(_signature(positions, scales))
    # A lone shape has few layouts: chance could leave a position without any for test, so each holds one size out.
    return "test" if scales[0] == positions[0] * 2 % len(_SCALES) else "train"


def _signature(positions: list[int], scales: list[int]) -> tuple[str | tuple[int, int], ...]:
    return ("shapes", *sorted(zip(positions, scales, strict=True)))


def _crowded(positions: list[int]) -> bool:
    """Whether two things would touch: same column, neighbouring rows."""
    # Top and bottom count as neighbours too. They would not touch, but only a rule that treats every row alike leaves
    # the positions of the other things as evenly spread as the first one's.
    return any(
        one % 3 == other % 3 and (one // 3 - other // 3) % 2 == 1
        for index, one in enumerate(positions)
        for other in positions[:index]
    )


def _largest(frame: Frame) -> float:
    """Side of the largest thing, px: neighbouring columns, and rows two apart, never touch."""
    return min(frame.width / 3.35, frame.height / 3.2)


def _corner(dice: Dice, frame: Frame, position: int, width: int, height: int) -> tuple[int, int]:
    """Where a thing's upper left corner goes: its centre near its position's centre, itself inside the picture."""
    reach_x = (frame.width / 3 - _largest(frame)) / 2
    x = (position % 3 + 0.5) * frame.width / 3 + dice.spread(reach_x)
    y = (position // 3 + 0.5) * frame.height / 4 + dice.spread(frame.height / 32)
    left, top = round(x - width / 2), round(y - height / 2)
    return min(max(left, 1), frame.width - width - 1), min(max(top, 1), frame.height - height - 1)


def _asks(dice: Dice, frame: Frame, things: list[_Thing]) -> tuple[Ask, ...]:
    asks = []
    for thing in things:
        answers = {
            "colour": thing.colour,
            "shape": thing.shape,
            "position": POSITIONS[thing.position],
            "box": in_thousandths(thing.box, frame.width, frame.height),
        }
        for kind, answer in answers.items():
            subject = thing.shape if kind == "colour" else thing.name
            asks.append(Ask(kind, question(dice, kind, thing=subject, colour=thing.colour, be="is"), answer))
    asks.sort(key=lambda ask: ask.kind != frame.kind)  # stable: the first thing's question of that kind comes first
    return tuple(asks)


def _caption(things: list[_Thing]) -> str:
    """Names everything in reading order; says where only for one or two, so that a caption stays short."""
    in_order = sorted(things, key=lambda thing: thing.position)
    if len(things) <= 2:
        parts = [f"{with_article(thing.name)} at the {POSITIONS[thing.position]}" for thing in in_order]
    else:
        parts = [with_article(thing.name) for thing in in_order]
    return sentence(", ".join(parts))
