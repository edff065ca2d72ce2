"""What a reader finds on a page: lines in reading order, each with its characters and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BESIDE = "  "
"""Between lines that stand side by side in one row, such as cells of a table."""


@dataclass(frozen=True)
class Line:
    """One line of text.

    text: its C characters. row: number of the row of the page that it stands in; lines side by side share one.
    corners: float32[4, 2], x and y in shares of the page's width and height, clockwise from where reading begins.
    confidence: float32[C], the reader's probability of each character, 0 to 1. boxes: float32[C, 4], each character's
    x1, y1, x2, y2 in shares of the page. features: float16[C, F], what the reader saw of it before it named it.
    """

    text: str
    row: int
    corners: NDArray[np.float32]
    confidence: NDArray[np.float32]
    boxes: NDArray[np.float32]
    features: NDArray[np.float16]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The upright box around its characters: x1, y1, x2, y2 in shares of the page."""
        (x1, y1), (x2, y2) = self.boxes[:, :2].min(0).tolist(), self.boxes[:, 2:].max(0).tolist()
        return x1, y1, x2, y2


@dataclass(frozen=True)
class Page:
    """Its lines in reading order: row by row, but column by column where text runs in columns."""

    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The lines' text; every row ends with a line break."""
        return "".join(self.before(number) + line.text for number, line in enumerate(self.lines)) + "\n"

    def before(self, number: int) -> str:
        """What stands between a line and the one before it."""
        if number == 0:
            return ""
        return BESIDE if self.lines[number].row == self.lines[number - 1].row else "\n"
