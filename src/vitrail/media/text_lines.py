"""Pages as a media stream: the tokens of their text, each with what the reader saw of its characters.

A view is a row of the page. Its ids stand in the text as if the text had been pasted; beside each travel the mean of
its characters' features, the least of their confidences, the box around them and that of their line. How many tokens a
page has is known only when it is read, so pages are read while rows are encoded, and what was read is kept
(`media.kept_pages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.messages import ImagePart, MediaPart, VideoPart
from vitrail.contracts.pages import Line, Page
from vitrail.contracts.protocols import Alter, Tokenizer
from vitrail.contracts.samples import View
from vitrail.media.config import TextLinesConfig
from vitrail.media.kept_pages import KeptPages
from vitrail.media.sequences import Sequences

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """A row of a page as tokens: ids of N tokens; values: float32[N, F + 9], features, confidence, its box, its line's.

    Of a token between lines nothing was seen: its values are zeros.
    """

    ids: tuple[int, ...]
    values: Values


@dataclass(frozen=True)
class TextLines(Sequences):
    """What pages become. tokenizer: the language model's own. boxes: whether every line begins with its box."""

    pages: KeptPages
    tokenizer: Tokenizer
    boxes: bool = False

    @property
    def in_use(self) -> TextLines:
        """The same: pages are read alike whatever for."""
        return self

    def reads(self, part: MediaPart) -> bool:
        """Pictures, but no videos."""
        return isinstance(part, ImagePart) and not isinstance(part, VideoPart)

    def text(self, part: MediaPart) -> str:
        """What stands on a page. Raises MediaError."""
        assert isinstance(part, ImagePart), "this stream reads pictures"
        return self.pages.page(part.image).text

    def views(self, part: MediaPart, most_tokens: int | None = None) -> tuple[View, ...]:
        """One for each row of the page. Raises MediaError.

        most_tokens: not heeded, since text has no smaller form; a page too long for a pack is not used at all.
        """
        return tuple(_view(row) for row in self._rows(part))

    def decoded(self, part: MediaPart, views: Sequence[View], alter: Alter | None = None) -> list[NDArray[Any]]:
        """What was seen of each row's tokens, float32[N, F + 9]. alter: not heeded; the page was read before it."""
        rows = self._rows(part)
        assert [row.ids for row in rows] == [view.ids for view in views], "a page reads the same each time"
        return [row.values for row in rows]

    def _rows(self, part: MediaPart) -> list[Row]:
        assert isinstance(part, ImagePart), "this stream reads pictures"
        return rows_of(self.pages.page(part.image), self.tokenizer, boxes=self.boxes)


def rows_of(page: Page, tokenizer: Tokenizer, *, boxes: bool = False) -> list[Row]:
    """The rows of a page, cut into tokens as one text; a page without lines is a row of a line break alone.

    boxes: as of `TextLines`.
    """
    text, seen, owner = _seen(page, boxes=boxes)
    starts = tokenizer.starts(text)
    begins = np.array([start for _, start in starts])
    # Several tokens may begin at one character, and share it: each then ends behind it.
    ends = np.append(begins[1:], len(text))
    ends = np.maximum(ends, begins + 1)
    values = np.zeros((len(starts), seen.shape[1]), np.float32)
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        own = owner[begin:end]
        if (own >= 0).any():
            values[number] = _together(seen[own[own >= 0]])
    row = np.array([text.count("\n", 0, begin) for begin in begins])
    borders = np.append(np.flatnonzero(np.diff(row, prepend=-1)), len(starts))
    ids = [identity for identity, _ in starts]
    return [Row(tuple(ids[begin:end]), values[begin:end]) for begin, end in pairwise(borders)]


def _seen(page: Page, *, boxes: bool) -> tuple[str, Values, NDArray[np.int64]]:
    """The page's text, what was seen of the characters of all lines, float32[C, F + 9], and which of them each one of
    the text is, -1 for what stands between lines."""
    text, owner, count = "", [], 0
    parts = [np.zeros((0, TextLinesConfig().patch_values), np.float32)]
    for number, line in enumerate(page.lines):
        before, after = page.before(number), _written(line) if boxes else ""
        text += before + line.text + after
        owner += [-1] * len(before) + [*range(count, count + len(line.text))] + [-1] * len(after)
        count += len(line.text)
        around = np.broadcast_to(np.array(line.box, np.float32), line.boxes.shape)
        parts.append(
            np.concatenate([line.features.astype(np.float32), line.confidence[:, None], line.boxes, around], 1)
        )
    return text + "\n", np.concatenate(parts), np.array([*owner, -1])


def _written(line: Line) -> str:
    """A line's box as text, with a blank before it."""
    return " " + "".join(f"{min(99, round(100 * edge)):02d}" for edge in line.box)


def _together(characters: Values) -> Values:
    """What was seen of a token, by its characters: float32[C, F + 9] to float32[F + 9]."""
    low, high = characters.min(0), characters.max(0)
    around = [corner for at in (-8, -4) for corner in (low[at : at + 2], high[at + 2 : at + 4 or None])]
    together: Values = np.concatenate([characters[:, :-9].mean(0), low[-9:-8], *around])
    return together


def _view(row: Row) -> View:
    """Without a size, so that its tokens count up as text does."""
    count = len(row.ids)
    return View(0, 0, 1, count, 1, count, ids=row.ids)
