"""Rows whose answer is not written yet, counted before a run spends any time on the others.

The lines of a file are only searched, a few microseconds each; those with something empty in them, and the rows of a
JSON list, are read: about 100 us each.
"""

from __future__ import annotations

import re

from vitrail.contracts.errors import DataError
from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.data.config import Reading
from vitrail.data.dialects import to_messages
from vitrail.data.sources.jsonl import JsonlSource

EMPTY = re.compile(rb':\s*"(?:\s|\\[nrt])*"|\[\s*\]')
"""JSON with a value of blanks, or with an empty list. Rarer white space is left to where rows are used."""


def check_answered(source: Source | StreamedSource, reading: Reading, allowed: float | None) -> str:
    """One line about the rows with an empty answer; "" when there are none.

    allowed: share of the rows that may be lost, which the ledger records too; None for held-out rows, none of which
    may be. Raises DataError with the line when there are more. A row that cannot be read is left to those who use it.
    """
    if not isinstance(source, JsonlSource):
        return ""
    first, count = "", 0
    for index in source.matching(EMPTY):
        try:
            row = source.row(index)
            messages = to_messages(row, reading)
        except DataError:
            continue
        if any(message.role == "assistant" and not message.text.strip() for message in messages):
            first, count = first or row.location, count + 1
    if not count:
        return ""
    said = f"{count} of {len(source)} rows unanswered, the first is {first}"
    if allowed is None:
        raise DataError(f"{said}: every held-out row needs its answer")
    if count > allowed * len(source):
        raise DataError(f"{said}: write the answers, or take the lines out (data.max_lost allows {allowed:.1%})")
    return f"{said}: left out"
