"""What a look at data finds, as plain data; it holds counts and a few examples of each, whatever the data's size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vitrail.contracts.samples import Outcome
from vitrail.curation.tally import Tally

EXAMPLES = 50
"""Rows that are named of each outcome, and of each sort of repetition."""

REASONS = 100
"""Different reasons that are counted."""


@dataclass(frozen=True)
class Told:
    """A row that is not used as it is. reason: begins with its location."""

    id: str
    source: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Pair:
    """Two rows or pictures that are the same, or nearly the same. first: the earlier one."""

    first: str
    second: str


@dataclass
class Repeats:
    """How often something came again, and the first of them."""

    count: int = 0
    examples: list[Pair] = field(default_factory=list)

    def add(self, first: str, second: str) -> None:
        """Once more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(Pair(first, second))


@dataclass(frozen=True)
class Long:
    """One of the longest samples. pictures: how many it has. picture_tokens: their tokens, of all its `tokens`."""

    tokens: int
    id: str
    location: str
    picture_tokens: int
    pictures: int


@dataclass(frozen=True)
class Shown:
    """A sample to look at. pictures: PNG files. sounds: WAV files, how they begin. question, answer: the last of its
    `answers`.

    spans: what the model reads, in pieces, with what each is.
    """

    id: str
    source: str
    kind: str
    pictures: Sequence[bytes]
    more_pictures: int
    question: str
    answer: str
    answers: int
    tokens: int
    picture_tokens: int
    learnt: int
    spans: Sequence[tuple[Literal["read", "learnt", "media"], str]]
    sounds: Sequence[bytes] = ()


@dataclass
class SourceFindings:
    """One source. rows: looked at. total: rows it has, None for a stream. outcomes: what would become of them.

    dialects: of the rows that could be read. with_media: how many of those have a picture, a video or a sound.
    """

    held_out: bool
    total: int | None
    rows: int = 0
    with_media: int = 0
    dialects: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass
class Findings:
    """Everything the report says.

    name: of the data. measured: by which model lengths are counted. policy: what happens to what is too long, "" where
    no recipe says it. sources: by name. told: rows with a reason. reasons: the same without names and
    numbers; first_of: the first of each in full.
    learnt: labelled tokens of each sample. characters: letters by script, then digits and the rest.
    rows_again: same words, same pictures. names_again: one picture under several names. similar: pictures that look the
    same. leaked: pictures of held-out rows that are among the training rows, or nearly. videos, sounds: how many; they
    are the same when their bytes are. milliseconds: of a sound.
    Lengths, sizes, characters, samples: of training rows alone.
    """

    name: str
    measured: str
    policy: str = ""
    sources: dict[str, SourceFindings] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    first_of: dict[str, str] = field(default_factory=dict)
    pictures: int = 0
    distinct_pictures: int = 0
    width: Tally = field(default_factory=Tally)
    height: Tally = field(default_factory=Tally)
    picture_tokens: Tally = field(default_factory=Tally)
    videos: int = 0
    sounds: int = 0
    milliseconds: Tally = field(default_factory=Tally)
    sound_tokens: Tally = field(default_factory=Tally)
    pictures_a_sample: Tally = field(default_factory=Tally)
    sample_tokens: Tally = field(default_factory=Tally)
    learnt: Tally = field(default_factory=Tally)
    turns: Tally = field(default_factory=Tally)
    kinds: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    longest: list[Long] = field(default_factory=list)
    rows_again: Repeats = field(default_factory=Repeats)
    names_again: Repeats = field(default_factory=Repeats)
    similar: Repeats = field(default_factory=Repeats)
    leaked: Repeats = field(default_factory=Repeats)
    shown: list[Shown] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows looked at."""
        return sum(source.rows for source in self.sources.values())

    @property
    def outcomes(self) -> Counter[str]:
        """What would become of them, over all sources."""
        return sum((source.outcomes for source in self.sources.values()), Counter())

    @property
    def mask_share(self) -> float:
        """Learnt tokens as a share of all, pictures included."""
        return self.learnt.total / max(1, self.sample_tokens.total)

    def tell(self, told: Told, sort: str) -> None:
        """Notes a row that is not used as it is, and why. sort: the reason without names and numbers."""
        if sum(one.outcome == told.outcome for one in self.told) < EXAMPLES:
            self.told.append(told)
        if sort in self.reasons or len(self.reasons) < REASONS:
            self.reasons[sort] += 1
            self.first_of.setdefault(sort, told.reason)

    def to_json(self) -> dict[str, Any]:
        """Plain data; pictures and rendered samples are left out."""

        def plain(value: Any) -> Any:
            if isinstance(value, Tally):
                return value.to_json()
            if isinstance(value, Counter):
                return dict(value.most_common())
            if isinstance(value, dict):
                return {key: plain(inner) for key, inner in value.items()}
            if isinstance(value, list | tuple):
                return [plain(inner) for inner in value]
            return plain(vars(value)) if hasattr(value, "__dataclass_fields__") else value

        facts = {name: plain(value) for name, value in vars(self).items() if name != "shown"}
        return {**facts, "rows": self.rows, "outcomes": dict(self.outcomes), "mask_share": self.mask_share}
