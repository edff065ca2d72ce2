"""Which code to draw: settings. No torch, no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitrail.contracts.errors import DataError, nearest
from vitrail.synthetic.config import LARGEST, SMALLEST, SPLITS, STEP

LANGUAGES = ("html", "plot")
"""A page's markup; the call of a plotting library."""


@dataclass(frozen=True)
class CodeConfig:
    """Settings of the drawn code: a small screen or plot, and the text that made it.

    split: "train" or "test"; the two share no page, no plot, no word and no font. rows: how many pictures. seed:
    another seed gives other pictures of the same split. size: side of a picture, 64 to 128 px, a multiple of 16.
    languages: what is asked for; empty for all of `LANGUAGES`. most: elements of a page, at most. shuffle: as of
    `drawn`.

    Raises DataError when a value is not allowed.

    Source: DeepSeek-VL's web code (arXiv 2403.05525, section 2.1), which is Websight and plots of notebooks.
    """

    split: str = "train"
    rows: int = 10_000
    seed: int = 0
    size: int = 64
    languages: tuple[str, ...] = ()
    most: int = 3
    shuffle: bool = True
    kind: Literal["code"] = "code"

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn."""
        if self.split not in SPLITS:
            raise DataError(f"drawn code: split is '{self.split}', allowed: train, test{nearest(self.split, SPLITS)}")
        if self.rows < 0:
            raise DataError(f"drawn code: rows is {self.rows}, allowed: 0 or more")
        if not SMALLEST <= self.size <= LARGEST or self.size % STEP:
            raise DataError(
                f"drawn code: size is {self.size}, allowed: a multiple of {STEP} from {SMALLEST} to {LARGEST}"
            )
        if not 1 <= self.most <= 4:
            raise DataError(f"drawn code: most is {self.most}, allowed: 1 to 4")
        for language in self.languages:
            if language not in LANGUAGES:
                known = ", ".join(LANGUAGES)
                raise DataError(
                    f"drawn code: unknown language '{language}'{nearest(language, LANGUAGES)}, allowed: {known}"
                )

    @property
    def asked(self) -> tuple[str, ...]:
        """The languages that are asked for."""
        return tuple(language for language in LANGUAGES if language in self.languages) or LANGUAGES
