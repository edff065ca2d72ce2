"""Conversations in the formats people have.

openai    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", ...}]}, ...]}
sharegpt  {"image": "a.png", "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}]}
          (LLaVA)
tags      {"images": ["a.png"], "messages": [{"role": "user", "content": "<image>..."}, ...]}
          (LLaMA-Factory, ms-swift)

Pictures without any `<image>` tag open the first user turn, as TRL and ms-swift have it; a number of tags that is
neither zero nor the number of pictures is an error.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError, nearest
from vitrail.contracts.messages import Conversation, ImagePart, Message, Part, Role, Row, TextPart
from vitrail.contracts.protocols import Source
from vitrail.data.config import DialectName

TAG = "<image>"
ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}

Reader = Callable[[Row], tuple[Message, ...]]


def to_conversation(row: Row, dialect: DialectName = "auto") -> Conversation:
    """Reads a row. Raises DataError, naming the row's place, when it does not fit its dialect."""
    messages = to_messages(row, dialect)
    if not any(message.role == "assistant" for message in messages):
        raise DataError(f"{_where(row)}: no assistant turn")
    known = ("id", "messages", "conversations", "images", "image", "kind")
    extra = {name: value for name, value in row.fields.items() if name not in known}
    kind = row.fields.get("kind")
    return Conversation(row.id, messages, "" if kind is None else str(kind), row.place, extra)


def to_messages(row: Row, dialect: DialectName = "auto") -> tuple[Message, ...]:
    """The turns of a row alone; they need not hold an answer."""
    return READERS[recognise(row) if dialect == "auto" else dialect](row)


def recognise(row: Row) -> str:
    """The dialect of a row. Raises DataError that shows its keys when it is none of the three."""
    fields = row.fields
    if "conversations" in fields:
        return "sharegpt"
    messages = fields.get("messages")
    if isinstance(messages, list):
        parts = any(isinstance(message, dict) and isinstance(message.get("content"), list) for message in messages)
        return "openai" if parts and "images" not in fields else "tags"
    raise DataError(
        f"{_where(row)}: a row needs 'messages' or 'conversations'{nearest('messages', fields)};"
        f" it has: {_shown(', '.join(fields))}"
    )


def dialect_of(source: Source, rows: int = 5) -> DialectName:
    """The dialect of a source's first rows. Raises DataError when they disagree, or when none can be read.

    A bad row among good ones is the ledger's business, here as anywhere else in the source.
    """
    seen: dict[str, int] = {}
    bad: list[DataError] = []
    for index in range(min(rows, len(source))):
        try:
            row = source.row(index)
            name = recognise(row)
        except DataError as error:
            bad.append(error)
            continue
        text_alone = name == "tags" and row.fields.get("images", row.fields.get("image")) is None
        seen.setdefault("text" if text_alone else name, index)
    if not seen:
        raise bad[0]
    # Rows of text alone look alike in `openai` and `tags`: one with picture parts decides.
    text = seen.pop("text", None)
    if text is not None and "openai" not in seen:
        seen.setdefault("tags", text)
    if len(seen) > 1:
        places = ", ".join(f"row {index} is {name}" for name, index in sorted(seen.items(), key=lambda item: item[1]))
        raise DataError(f"{source.name}: rows are written in different dialects ({places}); name one with `dialect:`")
    return "openai" if "openai" in seen else "sharegpt" if "sharegpt" in seen else "tags"


def _openai(row: Row) -> tuple[Message, ...]:
    images = iter(_images(row))
    messages = []
    for turn in _turns(row, "messages"):
        content = turn.get("content")
        pieces = content if isinstance(content, list) else [{"type": "text", "text": content}]
        parts = tuple(_part(piece, row, images) for piece in pieces)
        messages.append(Message(_role(turn.get("role"), row), parts))
    _none_left(images, row)
    return tuple(messages)


def _part(piece: Any, row: Row, images: Iterator[ImagePart]) -> Part:
    if not isinstance(piece, dict):
        raise DataError(f"{_where(row)}: a content part must be an object with 'type', got {piece!r:.60}")
    kind = piece.get("type")
    if kind == "text":
        return TextPart(_text(piece.get("text"), row))
    if kind == "image_url":
        url = piece.get("image_url")
        return _image(url.get("url") if isinstance(url, dict) else url, row)
    if kind == "image":
        given = next((piece[name] for name in ("image", "path", "url") if piece.get(name) is not None), None)
        return _image(given, row) if given is not None else _next(images, row)
    raise DataError(f"{_where(row)}: unknown part type {kind!r:.60}; allowed: text, image, image_url")


def _tags(row: Row) -> tuple[Message, ...]:
    turns = [(_role(turn.get("role"), row), turn.get("content")) for turn in _turns(row, "messages")]
    if any(isinstance(content, list) for _, content in turns):
        return _openai(row)
    return _tagged([(role, _text(content, row)) for role, content in turns], row)


def _sharegpt(row: Row) -> tuple[Message, ...]:
    turns = [(_role(turn.get("from"), row), _text(turn.get("value"), row)) for turn in _turns(row, "conversations")]
    return _tagged(turns, row)


READERS: Mapping[str, Reader] = {"openai": _openai, "sharegpt": _sharegpt, "tags": _tags}


def _tagged(turns: list[tuple[Role, str]], row: Row) -> tuple[Message, ...]:
    """Puts pictures where `<image>` stands; in user and system turns only: an answer may speak of the tag."""
    given = _images(row)
    images = iter(given)
    tags = sum(text.count(TAG) for role, text in turns if role != "assistant")
    if given and not tags:
        first = next((index for index, (role, _) in enumerate(turns) if role == "user"), None)
        if first is None:
            raise DataError(f"{_where(row)}: {len(given)} pictures but no user turn for them to open")
        turns[first] = (turns[first][0], f"{TAG}\n" * len(given) + turns[first][1])
    elif tags != len(given):
        raise DataError(f"{_where(row)}: {tags} {TAG} tags but {len(given)} pictures")
    messages = []
    for role, text in turns:
        parts: list[Part] = []
        pieces = text.split(TAG) if role != "assistant" else [text]
        for number, piece in enumerate(pieces):
            if number:
                parts.append(_next(images, row))
            if piece:
                parts.append(TextPart(piece))
        messages.append(Message(role, tuple(parts)))
    return tuple(messages)


def _images(row: Row) -> list[ImagePart]:
    given = row.fields.get("images")
    if given is None:
        given = row.fields.get("image")
    if given is None:
        return []
    return [_image(image, row) for image in (given if isinstance(given, list | tuple) else [given])]


def _image(given: Any, row: Row) -> ImagePart:
    """A path, a data URL, {"path": ...} or {"bytes": ...} as `datasets` writes it, pixels, or an ImagePart."""
    if isinstance(given, ImagePart):
        return given
    if isinstance(given, Mapping):
        given = given.get("bytes") or given.get("path") or given.get("url")
    if isinstance(given, str):
        return ImagePart(_located(given, row))
    if given is None:
        raise DataError(f"{_where(row)}: a picture is null")
    return ImagePart(given)


def _located(given: str, row: Row) -> Path | bytes:
    if given.startswith("data:"):
        try:
            return base64.b64decode(given.partition(",")[2], validate=True)
        except ValueError as error:
            raise DataError(f"{_where(row)}: a picture's data URL is not base64: {error}") from error
    if given.startswith(("http://", "https://")):
        raise DataError(f"{_where(row)}: pictures are not fetched from the network: '{_shown(given)}'")
    path = Path(given.removeprefix("file://"))
    return path if path.is_absolute() or row.folder is None else row.folder / path


def _turns(row: Row, name: str) -> list[dict[str, Any]]:
    turns = row.fields.get(name)
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{_where(row)}: '{name}' must be a list of turns")
    return turns


def _role(given: Any, row: Row) -> Role:
    if not isinstance(given, str) or given not in ROLES:
        raise DataError(
            f"{_where(row)}: unknown role {given!r:.60}{nearest(str(given), ROLES)}; allowed: {', '.join(ROLES)}"
        )
    return ROLES[given]


def _text(given: Any, row: Row) -> str:
    if not isinstance(given, str):
        raise DataError(f"{_where(row)}: a turn's text must be a string, got {type(given).__name__}")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        # JSON can spell it, no tokenizer can read it.
        raise DataError(f"{_where(row)}: a turn's text holds half a surrogate pair: {_shown(given)}") from error
    return given


def _next(images: Iterator[ImagePart], row: Row) -> ImagePart:
    image = next(images, None)
    if image is None:
        raise DataError(f"{_where(row)}: more image parts than pictures")
    return image


def _none_left(images: Iterator[ImagePart], row: Row) -> None:
    left = len(list(images))
    if left:
        raise DataError(f"{_where(row)}: {left} pictures have no image part")


def _shown(text: str) -> str:
    """Text out of a row, for a message: on one line, and not too long."""
    return (text if text.isprintable() else ascii(text)[1:-1])[:80]


def _where(row: Row) -> str:
    return row.place or row.id
