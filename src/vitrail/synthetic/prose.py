"""Plain text as a source of rows: short made-up stories without a picture, which keep the language of a model whole.

A story stays with its people and things, so that there is more to learn than which word follows which. A row is drawn
in microseconds.
"""

from __future__ import annotations

from vitrail.contracts.messages import Row
from vitrail.media.dice import Dice
from vitrail.synthetic.config import ProseConfig, split_of

PEOPLE = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim"),
    *("Leo", "Mia", "Ned", "Ola", "Pia", "Quin", "Rosa", "Sam", "Tess", "Uma", "Vic"),
)
ANIMALS = ("cat", "dog", "horse", "goat", "hen", "duck", "crab", "frog", "mouse", "owl", "sheep", "fox")
THINGS = (
    *("lamp", "key", "coin", "map", "cup", "rope", "book", "drum"),
    *("kite", "bell", "box", "shoe", "hat", "pen", "stone", "flute"),
)
PLACES = (
    *("garden", "harbour", "market", "kitchen", "forest", "station"),
    *("tower", "river", "mill", "school", "beach", "attic"),
)
QUALITIES = ("old", "small", "heavy", "bright", "cold", "quiet", "strange", "broken", "warm", "clean")
WEATHER = ("it rained", "the sun shone", "snow fell", "the wind blew", "it was dark", "fog came up")
TIMES = ("In the morning", "At noon", "In the evening", "On Monday", "On Friday", "Last winter", "Every summer")

OPENINGS = (
    "{time} {weather}, and {person} went to the {place} with a {quality} {thing}.",
    "{person} had a {animal} and a {quality} {thing}. {time} they went to the {place}.",
    "There was a {quality} {thing} in the {place}. {time} {person} found it.",
    "{time} {person} and {friend} met in the {place}, where {weather}.",
)
MIDDLES = (
    '"Whose {thing} is this?" asked {friend}. "It is mine," said {person}.',
    "The {animal} ran after {person}, but {friend} held the {thing}.",
    "{person} put the {thing} beside the {animal} and waited.",
    "Nobody in the {place} had ever seen so {quality} a {thing}.",
    "{friend} gave {person} the {thing}, and {person} thanked {friend}.",
    "Then {weather} again, so the {animal} hid behind the {thing}.",
    "{person} looked for the {animal} in the {place} and found {friend}.",
    "The {thing} was {quality}, and so was the {animal}.",
)
ENDINGS = (
    "In the end {person} took the {thing} home, and {friend} took the {animal}.",
    "After that {person} never went to the {place} without the {animal}.",
    "When {friend} came back, the {thing} was still in the {place}.",
    "So {person} and {friend} left the {place}, and the {thing} stayed there.",
)


class ProseSource:
    """Rows of plain text. Each is a pure function of the configuration and its index."""

    name: str = "prose"
    block: int = 1

    def __init__(self, config: ProseConfig) -> None:
        self.config = config

    def __len__(self) -> int:
        """How many rows there are."""
        return self.config.rows

    def row(self, index: int) -> Row:
        """A row with its `text`, all of which is to be learnt, and its tag, "text". IndexError past the last row."""
        if not 0 <= index < self.config.rows:
            raise IndexError(f"row {index} of {self.config.rows}")
        dice = Dice("prose", self.config.split, self.config.seed, index)
        name = f"prose-{self.config.split}-{index:07d}"
        fields = {"text": story(dice, self.config), "tag": "text"}
        return Row(id=name, fields=fields, location=f"drawn prose, row {index}")


def story(dice: Dice, config: ProseConfig) -> str:
    """A story of that split, told of two people, an animal, a thing and a place of its own."""
    while True:
        person, friend = dice.sample(PEOPLE, 2)
        thing, animal, place = dice.pick(THINGS), dice.pick(ANIMALS), dice.pick(PLACES)
        if split_of((person, thing, animal, place)) == config.split:
            break
    cast = {"person": person, "friend": friend, "thing": thing, "animal": animal, "place": place}
    middles = dice.sample(MIDDLES, dice.between(1, config.sentences))
    said = []
    for line in (dice.pick(OPENINGS), *middles, dice.pick(ENDINGS)):
        passing = {"time": dice.pick(TIMES), "weather": dice.pick(WEATHER), "quality": dice.pick(QUALITIES)}
        said.append(line.format(**cast, **passing))
    return " ".join(said)
