"""What stands in a picture, learnt at the picture's own places: each predicts the token that begins on it.

For pictures whose characters are known. A language model that only answers has to find, among all places, the one that
its next token stands on, before it can learn what a place says; here each place is told so itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitrail.contracts.messages import Mark
from vitrail.contracts.protocols import Tokenizer
from vitrail.contracts.samples import MediaSlot


def tokens_on(marks: Sequence[Mark], slot: MediaSlot, tokenizer: Tokenizer) -> dict[int, int]:
    """Place in the sample -> id of the first token that begins on it, for one view that shows the whole picture."""
    columns = slot.view.token_columns
    rows = slot.view.tokens // columns
    places = list(slot.places)
    found: dict[int, int] = {}
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
            found.setdefault(places[row * columns + column], number)
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
