"""What a drawn row asks and answers."""

from __future__ import annotations

from vitrail.contracts.messages import Row
from vitrail.data.dialects import to_conversation


def turns(row: Row) -> list[tuple[str, str, str]]:
    """(kind, question, answer) of every turn."""
    said = [message.text.removeprefix("\n") for message in to_conversation(row).messages]
    return list(zip(row.fields["kinds"], said[::2], said[1::2], strict=True))
