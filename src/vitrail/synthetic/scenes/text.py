"""A number of two or three digits, or a short word, written large in one colour on plain paper."""

from __future__ import annotations

from functools import lru_cache

from vitrail.media.dice import Dice
from vitrail.synthetic.config import SIDE_CHANCE, Value, split_of
from vitrail.synthetic.paper import BRIGHT_INKS, COLOURS, ink, paper
from vitrail.synthetic.scenes.scene import Ask, Frame, Scene, box_of, question, sentence
from vitrail.synthetic.typefaces import lettering, typefaces
from vitrail.synthetic.words import WORDS

CAPS: dict[str, tuple[int, ...]] = {"number": (18, 20, 22, 24, 26), "word": (16, 17, 18, 19, 20)}
"""Heights of a capital letter in a picture of 64 px, in px; they grow with the picture."""

_STOPS = 8  # positions across, and as many down, that a block of text can take in the room around it
_MARGIN = 2


def draw(dice: Dice, frame: Frame) -> Scene:
    """Draws the scene: a word for the kind "word", a number for any other."""
    kind = "word" if frame.kind == "word" else "number"
    value = dice.pick(_words(frame.split)) if kind == "word" else _number(dice, frame.split)
    layout, (step, across, down) = _lay_out(dice, frame.split)
    colour = dice.pick(tuple(COLOURS))
    face = dice.pick(typefaces(frame.split))
    cap = round(CAPS[kind][step] * min(frame.width, frame.height) / 64)
    mask = lettering(value, face, cap)
    while mask.shape[1] > frame.width - 2 * _MARGIN:
        cap -= 1
        mask = lettering(value, face, cap)
    room_x, room_y = (side - 2 * _MARGIN - length for side, length in zip(_sides(frame), mask.shape[::-1], strict=True))
    left, top = _MARGIN + round(room_x * across / (_STOPS - 1)), _MARGIN + round(room_y * down / (_STOPS - 1))
    picture = paper(dice, frame.width, frame.height, dark=colour in BRIGHT_INKS)
    ink(picture, mask, colour, left, top)
    asks = [Ask(kind, question(dice, kind), value)]
    if dice.chance(SIDE_CHANCE):
        asks.append(Ask("colour", question(dice, "colour", thing=kind, be="is"), colour))
    return Scene(
        name="text",
        picture=picture,
        caption=sentence(f"the {kind} {value} in {colour}"),
        asks=tuple(asks),
        boxes={value: box_of(mask, left, top)},
        layout=layout,
        value=value,
        font=face.name,
    )


def _lay_out(dice: Dice, split: str) -> tuple[Value, tuple[int, int, int]]:
    """Size step, position across and position down of the text block, in a layout of this split."""
    while True:
        steps = (dice.below(5), dice.below(_STOPS), dice.below(_STOPS))
        layout: Value = ("text", *steps)
        if split_of(layout) == split:
            return layout, steps


def _number(dice: Dice, split: str) -> str:
    """A number of this split, one in three of two digits."""
    low, high = (10, 99) if dice.chance(1 / 3) else (100, 999)
    while True:
        number = str(dice.between(low, high))
        if split_of(number) == split:
            return number


@lru_cache(maxsize=2)
def _words(split: str) -> tuple[str, ...]:
    return tuple(word for word in WORDS if split_of(word) == split)


def _sides(frame: Frame) -> tuple[int, int]:
    return frame.width, frame.height
