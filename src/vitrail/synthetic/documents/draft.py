"""What a kind of document is drawn with: the lot, the words, the fonts, and the questions that it collects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, pairwise

from vitrail.media.dice import Dice
from vitrail.synthetic.config import Value, split_of
from vitrail.synthetic.documents.money import Money
from vitrail.synthetic.documents.page import Colour, Page, UnfitError
from vitrail.synthetic.documents.pen import Pen
from vitrail.synthetic.documents.vocabulary import Vocabulary, written
from vitrail.synthetic.documents.wording import stated, worded
from vitrail.synthetic.scenes.scene import Ask
from vitrail.synthetic.typefaces import Typeface

INKS: tuple[Colour, ...] = ((16, 16, 18), (28, 28, 34), (38, 34, 30), (14, 24, 58), (52, 20, 20), (16, 44, 34))
ACCENTS: tuple[Colour, ...] = (
    (178, 34, 34),
    (18, 86, 160),
    (0, 110, 84),
    (112, 48, 140),
    (184, 84, 0),
    (34, 40, 62),
    (150, 24, 88),
    (0, 96, 120),
    (84, 92, 24),
    (70, 70, 70),
)
"""Dark enough for white letters on them."""

CAP = 0.7
"""Height of a capital in parts of the font size that sizes are meant for; other fonts are set larger or smaller."""

LARGEST = 20  # px


@dataclass(frozen=True)
class Job:
    """What to draw a document for. level: from 0 to 1. unit: px. faces: the fonts of the split."""

    split: str
    level: float
    unit: int
    faces: tuple[Typeface, ...]

    @property
    def most_lines(self) -> int:
        """More lines than these are too many for the level."""
        return 8 + round(2 * self.level)


@dataclass
class Draft:
    """One document on its way. layout, caption and page are set by the kind that draws it."""

    job: Job
    dice: Dice
    words: Vocabulary
    talk: Dice
    asks: list[Ask] = field(default_factory=list)
    layout: Value = ()
    caption: str = ""
    page: Page = field(default_factory=lambda: Page(168, 8))

    def lay_out(self, name: str, options: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """One choice of each option, so that together they are a layout of the split."""
        while True:
            chosen = {option: self.dice.pick(choices) for option, choices in options.items()}
            layout = (name, *chosen.values())
            if split_of(layout) == self.job.split:
                self.layout = layout
                return chosen

    def more(self, least: int, most: int) -> int:
        """A count from `least` to what the level allows of `most`."""
        return self.dice.between(least, least + round((most - least) * self.job.level))

    def lines_left(self, least: int, most: int, fixed: int) -> int:
        """A count from `least` to what the level allows of `most`, and to what `fixed` other lines leave.

        Raises UnfitError where they leave too few.
        """
        room = self.job.most_lines - fixed
        if room < least:
            raise UnfitError(f"room for {room} lines")
        return min(self.more(least, most), room)

    def pen(self, faces: Sequence[Typeface] = (), low: int = 13, high: int = 18) -> Pen:
        """A body pen of one of the fonts; the higher the level, the smaller it may be, from low to high px."""
        face = self.dice.pick(faces or self.job.faces)
        smallest = high - round((high - low) * min(1.0, 0.4 + 0.6 * self.job.level))
        return Pen(face, fair_size(face, self.dice.between(smallest, high)))

    def ink(self) -> Colour:
        """A dark colour to write in."""
        return self.dice.pick(INKS)

    def accent(self) -> Colour:
        """A strong colour for bars and headings."""
        return self.dice.pick(ACCENTS)

    def ask(self, kind: str, topic: str, answer: str, **names: str) -> None:
        """Collects a question with its only right answer."""
        low = names.get("name", "").lower().rstrip(".")
        self.asks.append(Ask(kind, worded(self.talk, self.words.script, topic, low=low, **names), answer))

    def tell(self, topic: str, **names: str) -> None:
        """Says what the document is, in one sentence."""
        self.caption = stated(self.words.script, topic, **names)


@lru_cache(maxsize=8)
def even(faces: tuple[Typeface, ...]) -> tuple[Typeface, ...]:
    """The fonts whose letters are all equally wide."""
    return tuple(face for face in faces if Pen(face, 40).width("iiiiiiii") > 0.9 * Pen(face, 40).width("mmmmmmmm"))


def fair_size(face: Typeface, size: int) -> int:
    """The size at which a font's capitals are about as high as those of most fonts at `size`, px."""
    return min(LARGEST, max(12, round(size * min(max(CAP / face.cap, 0.9), 1.25))))


def larger(pen: Pen, by: int) -> Pen:
    """The same font, larger by up to so many px."""
    return pen.sized(min(LARGEST, pen.size + by))


def pale(colour: Colour, share: float = 0.14) -> Colour:
    """The colour thinned with white, for areas behind dark text."""
    red, green, blue = (round(255 - (255 - level) * share) for level in colour)
    return red, green, blue


def ask_items(draft: Draft, items: Sequence[tuple[str, int]], money: Money) -> None:
    """Asks about things in a column with their prices in cents: price, sum, dearest, order."""
    said = {name: name.lower() if draft.talk.chance(0.5) else name for name, _ in items}
    for name, cents in items:
        draft.ask("field", "price", money.of(cents), name=said[name])
    for (one, first), (two, second) in combinations(items, 2):
        if split_of(written(first + second)) == draft.job.split:
            draft.ask("sum", "price sum", money.of(first + second), one=said[one], two=said[two])
    prices = [cents for _, cents in items]
    draft.ask("compare", "dearest", items[prices.index(max(prices))][0])
    draft.ask("compare", "cheapest", items[prices.index(min(prices))][0])
    draft.ask("compare", "first item", items[0][0])
    draft.ask("compare", "last item", items[-1][0])
    ask_order(draft, [name for name, _ in items], said)
    for number, (name, _) in enumerate(items, 1):
        draft.ask("position", "item number", name, number=str(number))


def ask_order(
    draft: Draft,
    names: Sequence[str],
    said: dict[str, str] | None = None,
    topics: tuple[str, str] = ("below", "above"),
) -> None:
    """Asks what stands below and above each of several things in a column. said: how a question names them."""
    said = said or {}
    for upper, lower in pairwise(names):
        draft.ask("position", topics[0], lower, name=said.get(upper, upper))
        draft.ask("position", topics[1], upper, name=said.get(lower, lower))
