"""What stands in a picture, learnt at the picture's own places, for pictures whose characters are known.

A language model that only answers has to find, among all places, the one that its next token stands on, before it can
learn what a place says; here each place is told so itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.messages import Mark
from vitrail.contracts.protocols import Tokenizer
from vitrail.contracts.samples import IGNORE, MediaSlot


def tokens_on(marks: Sequence[Mark], slot: MediaSlot, tokenizer: Tokenizer, most: int) -> NDArray[np.int64]:
    """Ids of the first tokens that begin on each of a view's places, at `most` so many, int64[tokens, most].

    IGNORE follows the last. A place that nothing begins on has a blank, but for pictures without marks, of which
    nothing is known. The view shows the whole picture.
    """
    columns = slot.view.token_columns
    rows = slot.view.tokens // columns
    found = np.full((slot.view.tokens, most), IGNORE, np.int64)
    count = np.zeros(slot.view.tokens, np.int64)
    for line in _lines(marks):
        # A blank belongs to the token of the word after it, and stands where that begins.
        text, at = "", list[Mark]()
        for mark in line:
            before = mark.before if text else ""
            text += before + mark.text
            at += [mark] * len(before + mark.text)
        for number, start in tokenizer.starts(text):
            mark = at[start]
            row, column = min(rows - 1, int(mark.y * rows)), min(columns - 1, int(mark.x * columns))
            place = row * columns + column
            if count[place] < most:
                found[place, count[place]] = number
                count[place] += 1
    if marks:
        found[count == 0, 0] = tokenizer.encode(" ")[0]
    return found


def _lines(marks: Sequence[Mark]) -> Iterator[list[Mark]]:
    line: list[Mark] = []
    for mark in marks:
        if mark.before == "\n" and line:
            yield line
            line = []
        line.append(mark)
    if line:
        yield line
