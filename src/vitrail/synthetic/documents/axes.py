"""What bar charts and line charts share: the series of values, the plot with its axes, and the marks beside them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from vitrail.synthetic.config import split_of
from vitrail.synthetic.documents.draft import Draft
from vitrail.synthetic.documents.page import Colour, Page, UnfitError
from vitrail.synthetic.documents.pen import Pen

AXIS: Colour = (90, 90, 90)
GRID: Colour = (212, 212, 212)
STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 2500, 5000)
SERIES: tuple[Colour, ...] = (
    (31, 100, 180),
    (214, 84, 26),
    (40, 140, 70),
    (150, 60, 150),
    (200, 40, 60),
    (0, 140, 150),
    (196, 140, 10),
    (80, 80, 90),
)
_TRIES = 300


@dataclass(frozen=True)
class Plot:
    """Where values go, px. start: where zero is; length: of the largest value; top: that value."""

    start: int
    length: int
    top: int

    def at(self, value: int) -> int:
        """How far a value is from zero, px."""
        return round(self.length * value / self.top)


def values(draft: Draft, count: int, *, apart: float = 0.0) -> list[int]:
    """So many different values of the split, of one size. apart: least difference in parts of the largest."""
    dice, words = draft.dice, draft.words
    top = dice.between(20, 99) * dice.pick((1, 10, 10, 100))
    for _ in range(_TRIES):
        made = [dice.between(max(3, top // 8), top) for _ in range(count)]
        ordered = sorted(made)
        nearest = min(high - low for low, high in pairwise(ordered))
        if nearest > apart * top and all(split_of(str(value)) == draft.job.split for value in made):
            words.values += map(str, made)
            return made
    raise UnfitError(f"no {count} values up to {top}")


def labels(draft: Draft, kind: str, count: int) -> list[str]:
    """What stands at an axis: names, or years, months or times that follow one another."""
    words = draft.words
    if kind in ("name", "city"):
        return [words.make(kind) for _ in range(count)]
    return words.following(kind, count)


def top_of_scale(most: int) -> tuple[int, int]:
    """The end of an axis for values up to `most`, and the step between its marks: three to five of them."""
    step = next(step for step in STEPS if 5 * step >= most)
    return -(-most // step) * step, step


def grid_up(page: Page, plot: Plot, step: int, across: tuple[int, int], pen: Pen, *, marks: bool) -> list[str]:
    """Level lines of a plot whose values go up, and the marks at their left; returns the marks from the top down."""
    left, right = across
    written = []
    for value in range(plot.top, -1, -step):
        y = plot.start - plot.at(value)
        page.area([left, y, right, y + 1], GRID if value else AXIS)
        if marks:
            page.write(str(value), pen, left - 4, y + round(0.35 * pen.size), AXIS, align="right")
            written.append(str(value))
    return written
