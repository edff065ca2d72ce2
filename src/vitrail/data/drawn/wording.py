"""How each kind of question is put: two or three phrasings a kind, short because every byte is a token to learn."""

from __future__ import annotations

from vitrail.data.drawn.dice import Dice

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


def question(dice: Dice, kind: str, **names: str) -> str:
    """One phrasing of a kind, with the things it is about filled in."""
    return dice.pick(PHRASINGS[kind]).format(**names)


def with_article(name: str) -> str:
    """Puts "a" or "an" before a name."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def sentence(text: str) -> str:
    """Capital first letter, full stop."""
    return f"{text[0].upper()}{text[1:]}."
