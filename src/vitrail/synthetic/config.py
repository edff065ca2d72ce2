"""What to draw: settings, the kinds of question, and what belongs to which split. No torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias

from vitrail.contracts.errors import DataError, nearest

SCENE_OF_KIND: dict[str, str] = {
    "colour": "shapes",
    "shape": "shapes",
    "position": "shapes",
    "box": "shapes",
    "count": "count",
    "number": "text",
    "word": "text",
    "bar value": "bars",
    "tallest bar": "bars",
}
"""Each kind of question, and the scene that the test split draws for it."""

KINDS: tuple[str, ...] = tuple(SCENE_OF_KIND)
SCORED_KINDS: tuple[str, ...] = tuple(kind for kind in KINDS if kind != "box")
"""The kinds that exact match can score; a box is scored by overlap."""

LESSONS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("colour", "shape", "position", "box"), 6),
    (("count",), 2),
    (("number",), 1),
    (("word",), 1),
    (("bar value", "tallest bar"), 2),
)
"""What the train split mixes, with the weight of each. Half of it is shapes: a small model that knows nothing yet
learns there to look at all, within the first ten thousand pictures; reading takes many more than a demo has."""

EASY_KINDS: tuple[str, ...] = ("colour", "shape", "position")
"""What the easy rows of `easy_first` ask of a single shape."""

SIDE_CHANCE = 1 / 3
"""How often a picture of many things or of text also offers the easy questions that a shapes picture is for (its
colour, its shape). Always would make colour four times as frequent as counting and reading."""

ANSWERS = 12
"""How many answers a question has, but for boxes, numbers and words, which have more. All are drawn equally often."""

SPLITS: tuple[str, ...] = ("train", "test")
TEST_ONE_IN = 5
"""About one in so many numbers, words and layouts is kept for the test split."""

Value: TypeAlias = "str | int | tuple[Value, ...]"

SMALLEST, LARGEST, STEP = 64, 128, 16


@dataclass(frozen=True)
class DrawnConfig:
    """Settings of the drawn data.

    split: "train" or "test". The two share no number, no word, no layout and no font.
    rows: how many pictures.
    seed: another seed gives other pictures of the same split; what is held out does not depend on it.
    size: smallest and largest side in px, 64..128, multiples of 16; where they differ, each picture draws its width
        and its height between them.
    questions: most question-answer pairs a train picture; one with less to ask has fewer. The test split always asks
        one question a picture, so that no earlier turn gives the answer away.
    caption: adds a caption turn to train pictures, before the questions in half of them and after them in the others.
        The test split has none.
    kinds: kinds of question to ask; empty = all of `KINDS`.
    easy_first: over so many of the first train rows, captions of a single shape give way to the whole mixture. For a
        stage that takes the rows in order (shuffle: false).
    shuffle: whether a run mixes the rows, or takes them in order but for how a window packs.
    pairs: preference pairs: the last answer is `chosen`, and `rejected` is the answer to a question of that kind about
        another picture, so that nothing but the picture tells which is which. No captions then.

    Raises DataError when a value is not allowed.
    """

    split: str = "train"
    rows: int = 10_000
    seed: int = 0
    size: tuple[int, int] = (SMALLEST, SMALLEST)
    questions: int = 4
    caption: bool = True
    kinds: tuple[str, ...] = ()
    easy_first: int = 0
    shuffle: bool = True
    pairs: bool = False
    kind: Literal["drawn"] = "drawn"

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn."""
        if self.split not in SPLITS:
            raise DataError(f"drawn data: split is '{self.split}', allowed: train, test{nearest(self.split, SPLITS)}")
        if self.rows < 0:
            raise DataError(f"drawn data: rows is {self.rows}, allowed: 0 or more")
        if len(self.size) != 2 or self.size[0] > self.size[1] or not all(map(_is_side, self.size)):
            raise DataError(
                f"drawn data: size is {list(self.size)}, allowed: smallest and largest side in px, "
                f"each a multiple of {STEP} from {SMALLEST} to {LARGEST}"
            )
        if self.questions < 0 or (self.questions == 0 and not self.caption and self.split == "train"):
            raise DataError(f"drawn data: questions is {self.questions}, allowed: 1 or more, or 0 with caption: true")
        if self.pairs and (self.easy_first or not self.questions):
            raise DataError("drawn data: pairs compare answers; allowed with them: questions 1 or more, easy_first 0")
        for kind in self.kinds:
            if kind not in KINDS:
                raise DataError(f"drawn data: unknown kind '{kind}'{nearest(kind, KINDS)}, allowed: {', '.join(KINDS)}")
        if len(set(self.kinds)) != len(self.kinds):
            raise DataError(f"drawn data: kinds names a kind twice: {', '.join(self.kinds)}")

    @property
    def asked(self) -> tuple[str, ...]:
        """The kinds of question that are asked, in the order of `KINDS`."""
        return tuple(kind for kind in KINDS if kind in self.kinds) if self.kinds else KINDS

    @property
    def lessons(self) -> tuple[tuple[str, ...], ...]:
        """`LESSONS` without the kinds that are not asked, each as often as its weight."""
        kept = ((tuple(kind for kind in kinds if kind in self.asked), weight) for kinds, weight in LESSONS)
        return tuple(lesson for lesson, weight in kept for _ in range(weight) if lesson)


@dataclass(frozen=True)
class LinesConfig:
    """Settings of the drawn lines of text.

    split: "train" or "test"; the two share no word, number or font. rows: how many crops. seed: another seed gives
    other crops of the same split. lines: most lines on a crop. longest: most characters in a line. grow: over so many
    of the first rows, single letters grow into whole crops; for a stage that takes the rows in order (shuffle: false).
    wear: 0 for clean pictures, 1 for bad photocopies. unit: sides are whole multiples of it, px. ask: puts a request
    before the answer; without one the picture is all the prompt there is.

    Raises DataError when a value is not allowed.
    """

    split: str = "train"
    rows: int = 10_000
    seed: int = 0
    lines: int = 3
    longest: int = 20
    grow: int = 0
    wear: float = 0.5
    unit: int = 28
    ask: bool = False
    shuffle: bool = True
    kind: Literal["lines"] = "lines"

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn."""
        if self.split not in SPLITS:
            raise DataError(f"drawn lines: split is '{self.split}', allowed: train, test{nearest(self.split, SPLITS)}")
        for name, least in (("rows", 0), ("grow", 0), ("lines", 1), ("longest", 1), ("unit", 1)):
            if getattr(self, name) < least:
                raise DataError(f"drawn lines: {name} is {getattr(self, name)}, allowed: {least} or more")
        if not 0 <= self.wear <= 1:
            raise DataError(f"drawn lines: wear is {self.wear}, allowed: 0 to 1")


@dataclass(frozen=True)
class ProseConfig:
    """Settings of the drawn plain text: short stories without a picture.

    split: "train" or "test"; the two share no cast of a story. rows: how many stories. seed: another seed gives other
    stories of the same split. sentences: between its opening and its ending, at most. shuffle: as of `drawn`.

    Raises DataError when a value is not allowed.
    """

    split: str = "train"
    rows: int = 10_000
    seed: int = 0
    sentences: int = 4
    shuffle: bool = True
    kind: Literal["prose"] = "prose"

    def __post_init__(self) -> None:
        """Refuses what cannot be told."""
        if self.split not in SPLITS:
            raise DataError(f"drawn prose: split is '{self.split}', allowed: train, test{nearest(self.split, SPLITS)}")
        if self.rows < 0:
            raise DataError(f"drawn prose: rows is {self.rows}, allowed: 0 or more")
        if not 1 <= self.sentences <= 8:
            raise DataError(f"drawn prose: sentences is {self.sentences}, allowed: 1 to 8")


def split_of(value: Value) -> str:
    """The split ("train" or "test") that alone may draw `value`; the same for every seed, platform and version.

    value: a word, a number, or a layout (nested tuples of whole numbers and strings).
    """
    digest = blake2b(repr(value).encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") % TEST_ONE_IN == 0 else "train"


def _is_side(side: int) -> bool:
    return SMALLEST <= side <= LARGEST and side % STEP == 0
