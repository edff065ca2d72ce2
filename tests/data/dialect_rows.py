"""Rows as line 3 of a file gives them, and what is said of one that its dialect refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row, TextPart
from vitrail.data.dialects import to_conversation
from vitrail.data.sources.config import DialectName

FOLDER = Path("/data")
Said = list[tuple[str, list[Any]]]


def row(fields: dict[str, Any], folder: Path = FOLDER) -> Row:
    """The row of those fields."""
    return Row("r", fields, folder, "my.jsonl:3")


def said(fields: dict[str, Any], dialect: DialectName = "auto") -> Said:
    """Role and parts of every turn: text, or what a picture was given as."""
    conversation = to_conversation(row(fields), dialect)
    return [
        (message.role, [part.text if isinstance(part, TextPart) else part.image for part in message.parts])  # type: ignore[union-attr]
        for message in conversation.messages
    ]


def refusal(fields: dict[str, Any], dialect: DialectName = "auto") -> str:
    """The one line that a row is refused with, without its location."""
    with pytest.raises(DataError) as caught:
        to_conversation(row(fields), dialect)
    message = str(caught.value)
    assert message.startswith("my.jsonl:3: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix("my.jsonl:3: ")
