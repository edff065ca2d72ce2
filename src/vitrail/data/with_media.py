"""How many rows have a picture, a video or a sound, said before a run spends any time: none is blind unasked.

The first rows of each source are read, without opening their media: about 100 us each. Only where none of
them has any, rows from all over the source are looked at too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import MediaPart, Row
from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.data.config import Reading
from vitrail.data.dialects import to_messages

FIRST, MORE = 64, 4096
"""Rows looked at: at the beginning, and from there to the end where those have no media."""


@dataclass(frozen=True)
class WithMedia:
    """Of a source: how many rows could be read, and how many of them have media."""

    name: str
    looked_at: int
    found: int
    first: bool

    def __str__(self) -> str:
        which = f"the first {self.looked_at:,}" if self.first else f"{self.looked_at:,}"
        return f"{self.name}: {self.found:,} of {which} rows have a picture, a video or a sound"


def with_media(source: Source | StreamedSource, reading: Reading, first: int = FIRST) -> WithMedia:
    """Counts them. Rows that cannot be read are left to those who use them. first: rows to look at in any case."""
    found = [_has_media(row, reading) for row in _first(source, first)]
    known = [one for one in found if one is not None]
    if any(known) or hasattr(source, "rows") or len(source) <= first:
        return WithMedia(source.name, len(known), sum(known), first=True)
    step = max(1, len(source) // MORE)
    for index in range(first, len(source), step):
        one = _has_media(_row(source, index), reading)
        known += [] if one is None else [one]
        if one:
            break
    return WithMedia(source.name, len(known), sum(known), first=step == 1)


def _first(source: Source | StreamedSource, rows: int) -> Iterator[Row | DataError]:
    if hasattr(source, "rows"):
        yield from (row for row, _ in islice(source.rows(0, None), rows))
        return
    yield from (_row(source, index) for index in range(min(rows, len(source))))


def _row(source: Source, index: int) -> Row | DataError:
    try:
        return source.row(index)
    except DataError as error:
        return error


def _has_media(row: Row | DataError, reading: Reading) -> bool | None:
    """None for a row that cannot be read."""
    if isinstance(row, DataError):
        return None
    try:
        messages = to_messages(row, reading)
    except DataError:
        return None
    return any(isinstance(part, MediaPart) for message in messages for part in message.parts)
