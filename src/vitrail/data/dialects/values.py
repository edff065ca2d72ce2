"""Checked pieces of a row: its turns, their roles and text. What is wrong becomes a line with the row's location."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from vitrail.contracts.errors import DataError, MediaError, nearest
from vitrail.contracts.messages import Message, Role, Row, is_url
from vitrail.data.confined import check_inside
from vitrail.data.dialects.keys import Keys, inside
from vitrail.media.intake import Medium, data_of, is_data_url

ADDRESS = re.compile(r"file:(?://(?:localhost(?=/))?)?", re.IGNORECASE)
"""How an address of a file of this machine begins."""

ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
}


@dataclass(frozen=True)
class Read:
    """What a dialect makes of a row. rejected, shared, tools: as in Conversation.

    answers: those that are accepted; None where the row's own stand.
    """

    messages: tuple[Message, ...]
    rejected: tuple[Message, ...] = ()
    answers: tuple[str, ...] | None = None
    shared: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()


def where(row: Row) -> str:
    """The row's location, for messages; its name when it has none."""
    return row.location or row.id


def turns(row: Row, name: str) -> list[Keys]:
    """The list of turns under `name`. Raises DataError, which shows the row, when there is none."""
    if name not in row.fields:
        raise DataError(f"{where(row)}: no '{name}' in the row {shown_row(row.fields)}")
    found = row.fields[name]
    if not isinstance(found, list) or not found or not all(isinstance(turn, Mapping) for turn in found):
        raise DataError(f"{where(row)}: '{name}' must be a list of turns")
    return [inside(turn, row, f"turn {number} of '{name}'") for number, turn in enumerate(found)]


def role(given: Any, row: Row) -> Role:
    """A role by any of its names."""
    if not isinstance(given, str) or given not in ROLES:
        raise DataError(
            f"{where(row)}: unknown role {given!r:.60}{nearest(str(given), ROLES)}; allowed: {', '.join(ROLES)}"
        )
    return ROLES[given]


def text(given: Any, row: Row, what: str = "a turn's text") -> str:
    """A string that tokenizers can read."""
    if not isinstance(given, str):
        raise DataError(f"{where(row)}: {what} must be a string, got {type(given).__name__}")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        # JSON can spell it, no tokenizer can read it.
        raise DataError(f"{where(row)}: {what} holds half a surrogate pair: {shown(given)}") from error
    return given


def located(given: str, row: Row, medium: Medium = "picture") -> Path | bytes | str:
    """A medium's path from the row's folder, the bytes of a data URL, or an address as it is.

    Raises MediaError for a file that a confined row must not name.
    """
    if is_data_url(given):
        try:
            return data_of(given, medium=medium)
        except MediaError as error:
            raise MediaError(f"{where(row)}: {error}") from error
    if is_url(given):
        return given  # fetched, or refused, where the medium is opened
    path = _path(given, row.folder)
    if row.confined:
        check_inside(path, row.folder, where(row))
    return path


def _path(given: str, folder: Path | None) -> Path:
    """A path, or a `file:` address, whose `%20` and the like stand for characters, unless a file has them in its name.

    Relative ones, which some write as addresses too, begin in the folder.
    """
    name = given[found.end() :] if (found := ADDRESS.match(given)) else given
    coded = name != given
    path = Path(name) if folder is None else folder / name
    if not coded or "%" not in name:
        return path
    decoded = unquote(name)
    other = Path(decoded) if folder is None else folder / decoded
    try:
        return path if path.exists() and not other.exists() else other
    except (OSError, ValueError):  # a name that no file can have
        return other


def shown(said: str, most: int = 80) -> str:
    """Text out of a row, for a message: on one line, and not too long."""
    return (said if said.isprintable() else ascii(said)[1:-1])[:most]


def shown_row(fields: Mapping[str, Any]) -> str:
    """A row as JSON, for a message: long values cut, bytes counted, on one line of at most 300 characters."""
    return shown(json.dumps({str(name): _short(value) for name, value in fields.items()}, ensure_ascii=False), 300)


def _short(value: Any, depth: int = 3) -> Any:
    if isinstance(value, str):
        return value if len(value) <= 40 else value[:40] + "..."
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if depth and isinstance(value, Mapping):
        return {str(name): _short(inner, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        first = [_short(inner, depth - 1) for inner in value[:3]]
        return [*first, "..."] if len(value) > 3 else first
    return f"<{type(value).__name__}>"
