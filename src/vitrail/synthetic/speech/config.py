"""What to say: settings and kinds of question. No torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitrail.contracts.errors import DataError, nearest
from vitrail.synthetic.config import SPLITS

KINDS = ("words", "first word", "last word", "how many")
"""What is asked of a phrase."""

LONGEST = 4
"""Words of a phrase, at most."""


@dataclass(frozen=True)
class SpokenConfig:
    """Settings of the spoken words: phrases of a small vocabulary, said by a synthesiser in many voices.

    split: "train" or "test"; the two share no phrase of two words or more, and no voice. rows: how many phrases. seed:
    another seed gives other phrases of the same split. words: most words of a phrase. grow: over so many of the first
    rows, single words grow into whole phrases; for a stage that takes the rows in order (shuffle: false). noise: 0 for
    a quiet room, 1 for noise as loud as a tenth of the voice.

    Raises DataError when a value is not allowed.
    """

    split: str = "train"
    rows: int = 10_000
    seed: int = 0
    words: int = 3
    grow: int = 0
    noise: float = 0.5
    shuffle: bool = True
    kind: Literal["spoken"] = "spoken"

    def __post_init__(self) -> None:
        """Refuses what cannot be said."""
        if self.split not in SPLITS:
            raise DataError(f"spoken words: split is '{self.split}', allowed: train, test{nearest(self.split, SPLITS)}")
        for name in ("rows", "grow"):
            if getattr(self, name) < 0:
                raise DataError(f"spoken words: {name} is {getattr(self, name)}, allowed: 0 or more")
        if not 2 <= self.words <= LONGEST:
            raise DataError(f"spoken words: words is {self.words}, allowed: 2 to {LONGEST}")
        if not 0 <= self.noise <= 1:
            raise DataError(f"spoken words: noise is {self.noise}, allowed: 0 to 1")
