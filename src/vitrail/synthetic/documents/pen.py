"""A font at one size, with every letter drawn once: text is then laid letter by letter, ten times as fast.

Kerning is left out: at these sizes it moves a letter by one pixel at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from vitrail.synthetic.typefaces import Typeface, lettering_on_baseline

SIDE = 4
"""Room at each side of a mask for letters that reach out of their width, px."""


@dataclass(frozen=True)
class Pen:
    """A font at one size, px."""

    face: Typeface
    size: int

    def width(self, text: str) -> int:
        """From the start of the first letter to the end of the last, px."""
        return _letters(self.face, self.size).starts(text)[-1]

    def mask(self, text: str) -> NDArray[np.uint8]:
        """The text as uint8[h, w + 2 * SIDE]; it starts `SIDE` px from the left."""
        return _letters(self.face, self.size).mask(text)

    def middles(self, text: str) -> list[tuple[str, float, float, str]]:
        """Each character that shows, and its middle: px right of the text's start, and px above the baseline.

        The last of the four is what stands before it: a line break at the start, a blank, or nothing.
        """
        starts = _letters(self.face, self.size).starts(text)
        high = self.face.cap * self.size / 2
        before = ["\n", *(" " if character == " " else "" for character in text)]
        spots = zip(text, pairwise(starts), before, strict=False)
        return [(c, (x + end) / 2, high, apart) for c, (x, end), apart in spots if c != " "]

    @property
    def ascent(self) -> int:
        """From the top of a mask to the baseline, px."""
        return _letters(self.face, self.size).ascent

    def sized(self, size: int) -> Pen:
        """The same font at another size."""
        return Pen(self.face, size)


class _Letters:
    """The letters of one font at one size that were needed so far."""

    def __init__(self, face: Typeface, size: int) -> None:
        self._face, self._size = face, size
        self._font = ImageFont.truetype(str(face.path), size, layout_engine=ImageFont.Layout.BASIC)
        self.ascent, self._descent = self._font.getmetrics()
        self._steps: dict[str, int] = {}
        self._masks: dict[str, tuple[int, NDArray[np.uint8]]] = {}

    def starts(self, text: str) -> list[int]:
        """Where each letter starts, and where the text ends, px."""
        return list(accumulate(map(self._step, text), initial=0))

    def mask(self, text: str) -> NDArray[np.uint8]:
        starts = self.starts(text)
        sheet = np.zeros((self.ascent + self._descent, starts[-1] + 2 * SIDE), np.uint8)
        for at, letter in zip(starts, text, strict=False):
            if letter == " ":
                continue
            left, glyph = self._letter(letter)
            start = at + SIDE + left
            spot = sheet[:, start : start + glyph.shape[1]]
            np.maximum(spot, glyph, out=spot)
        return sheet

    def _step(self, letter: str) -> int:
        step = self._steps.get(letter)
        if step is None:
            step = self._steps[letter] = round(self._font.getlength(letter))
        return step

    def _letter(self, letter: str) -> tuple[int, NDArray[np.uint8]]:
        """A letter's mask, and how far right of the letter's start it begins, px."""
        if letter not in self._masks:
            mask = lettering_on_baseline(letter, self._face, self._size)
            self._masks[letter] = (int(self._font.getbbox(letter)[0]) - 1, mask)
        return self._masks[letter]


@lru_cache(maxsize=512)
def _letters(face: Typeface, size: int) -> _Letters:
    return _Letters(face, size)
