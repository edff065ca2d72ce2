"""Pictures as rows give them: paths, bytes, pixels, in columns or where `<image>` stands in a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import ImagePart, Message, Part, RefPart, Role, Row, TextPart
from vitrail.data.dialects.agents import boxes
from vitrail.data.dialects.values import text, where
from vitrail.media.data_url import decoded, is_data_url
from vitrail.media.fetch import is_url

TAG = "<image>"


def images(row: Row) -> list[ImagePart]:
    """The pictures of the row's `images`, else of its `image`."""
    given = row.fields.get("images")
    if given is None:
        given = row.fields.get("image")
    if given is None:
        return []
    return [image(one, row) for one in (given if isinstance(given, list | tuple) else [given])]


def image(given: Any, row: Row) -> ImagePart:
    """A path, a data URL, {"path": ...} or {"bytes": ...} as `datasets` writes it, pixels, or an ImagePart."""
    if isinstance(given, ImagePart):
        return given
    if isinstance(given, Mapping):
        given = given.get("bytes") or given.get("path") or given.get("url")
    if isinstance(given, str):
        return ImagePart(_located(given, row))
    if given is None:
        raise DataError(f"{where(row)}: a picture is null")
    return ImagePart(given)


def part(piece: Any, row: Row, left: Iterator[ImagePart]) -> Part:
    """A content part of OpenAI's chat API. left: the row's own pictures, for parts that name none."""
    if not isinstance(piece, dict):
        raise DataError(f"{where(row)}: a content part must be an object with 'type', got {piece!r:.60}")
    kind = piece.get("type")
    if kind == "text":
        return TextPart(text(piece.get("text"), row))
    if kind == "image_url":
        url = piece.get("image_url")
        return image(url.get("url") if isinstance(url, dict) else url, row)
    if kind == "image":
        given = next((piece[name] for name in ("image", "path", "url") if piece.get(name) is not None), None)
        return image(given, row) if given is not None else following(left, row)
    if kind == "ref":
        return RefPart(text(piece.get("text"), row))
    if kind == "box":
        return boxes(piece, row)
    raise DataError(f"{where(row)}: unknown part type {kind!r:.60}; allowed: text, image, image_url, box, ref")


def following(left: Iterator[ImagePart], row: Row) -> ImagePart:
    """The next picture. Raises DataError when there is none left."""
    found = next(left, None)
    if found is None:
        raise DataError(f"{where(row)}: more image parts than pictures")
    return found


def none_left(left: Iterator[ImagePart], row: Row) -> None:
    """Raises DataError for pictures that no part has taken."""
    count = len(list(left))
    if count:
        raise DataError(f"{where(row)}: {count} pictures have no image part")


def tagged(said: list[tuple[Role, str]], row: Row) -> tuple[Message, ...]:
    """Puts pictures where `<image>` stands; in user and system turns only: an answer may speak of the tag."""
    given = images(row)
    left = iter(given)
    tags = sum(words.count(TAG) for role, words in said if role != "assistant")
    if given and not tags:
        first = next((index for index, (role, _) in enumerate(said) if role == "user"), None)
        if first is None:
            raise DataError(f"{where(row)}: {len(given)} pictures but no user turn for them to open")
        said[first] = (said[first][0], f"{TAG}\n" * len(given) + said[first][1])
    elif tags != len(given):
        raise DataError(f"{where(row)}: {tags} {TAG} tags but {len(given)} pictures")
    messages = []
    for role, words in said:
        parts: list[Part] = []
        pieces = words.split(TAG) if role != "assistant" else [words]
        for number, piece in enumerate(pieces):
            if number:
                parts.append(following(left, row))
            if piece:
                parts.append(TextPart(piece))
        messages.append(Message(role, tuple(parts)))
    return tuple(messages)


def _located(given: str, row: Row) -> Path | bytes | str:
    if is_data_url(given):
        try:
            return decoded(given)
        except MediaError as error:
            raise MediaError(f"{where(row)}: {error}") from error
    if is_url(given):
        return given  # fetched, or refused, where the picture is opened
    path = Path(given.removeprefix("file://"))
    return path if path.is_absolute() or row.folder is None else row.folder / path
