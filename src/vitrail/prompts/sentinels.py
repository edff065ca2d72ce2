"""Conversations with a sentinel instead of every text: what tells, in a program's output, whose words are whose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.prompts.config import PictureConfig
from vitrail.prompts.tools import to_json
from vitrail.prompts.turns import Content, Piece, Slot, Special, Tools, Turn

SENTINEL = re.compile("\ue000(\\d+)\ue001")
"""The number of a text, or of a picture in one, between two characters of private use."""

Found = tuple[int, int, Content]
"""From where to where, and what stands there."""


def sentinel(number: int) -> str:
    """What stands for the content of that number, counted through the conversation."""
    return f"\ue000{number}\ue001"


def _name(piece: Content, number: int) -> str:
    """How a content stands in the conversation as it is; a picture in a text has its sentinel there too."""
    return piece.name if isinstance(piece, Special) else sentinel(number) if isinstance(piece, Slot) else piece


def messages_of(turns: Sequence[Turn], *, parts: bool, listed: bool, sentinels: bool) -> list[dict[str, Any]]:
    """OpenAI's messages. parts: media are parts of their own. listed: lists of parts even for text alone."""
    messages = []
    number = 0
    for turn in turns:
        pictures = parts and any(isinstance(piece, Slot) for piece in turn.content)
        content: list[dict[str, str]] = []
        for piece in turn.content:
            if isinstance(piece, Slot) and pictures:
                content.append({"type": "image" if piece.kind == "picture" else piece.kind})
            else:
                text = sentinel(number) if sentinels else _name(piece, number)
                if content and content[-1]["type"] == "text":
                    content[-1]["text"] += text
                else:
                    content.append({"type": "text", "text": text})
            number += 1
        alone = "".join(part.get("text", "") for part in content)
        message: dict[str, Any] = {"role": turn.role, "content": content if pictures or listed else alone}
        if turn.calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
                for call in turn.calls
            ]
        messages.append(message)
    return messages


def spelled_out(text: str, contents: Sequence[Content]) -> str:
    """A text of sentinels with the contents instead of them, pictures excepted."""
    return SENTINEL.sub(lambda found: _name(contents[int(found[1])], int(found[1])), text)


def checked_calls(turns: Sequence[Turn], tools: Tools, known: Sequence[str]) -> None:
    """Raises DataError when a tool, or the call of one, spells a special token.

    A template writes those as JSON, where no sentinel can stand for a text.
    """
    for value in (*tools, *({call.name: call.arguments} for turn in turns for call in turn.calls)):
        text = to_json(value)
        name = next((name for name in (*known, "\ue000", "\ue001", "\ue002", "\ue003") if name in text), None)
        if name is not None:
            raise DataError(f"a tool or a call spells the special token {name!r}")


def found_in(
    text: str, contents: Sequence[Content], known: Sequence[str], picture: PictureConfig | None
) -> list[Found]:
    """Special tokens, contents and pictures in a text of sentinels. Raises DataError when contents are not in order.

    picture: where the template writes pictures itself, what it writes for one.
    """
    names = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True)) or r"(?!)"
    slots = iter([number for number, piece in enumerate(contents) if isinstance(piece, Slot)])
    seen: list[int] = []
    found: list[Found] = []
    for match in re.finditer(f"{SENTINEL.pattern}|{names}", text):
        number = int(match[1]) if match[1] else None
        content: Content = Special(match[0])
        if picture and match[0] == picture.token:
            number = next(slots, None)
            if number is None:
                raise DataError("the tokenizer's chat template writes more pictures than the conversation has")
        if number is not None:
            content = contents[number]
            seen.append(number)
            if isinstance(content, Slot) and picture:
                content = _around(content, text[: match.start()], text[match.end() :], picture)
        found.append((match.start(), match.end(), content))
    if seen != list(range(len(contents))):
        raise DataError("the tokenizer's chat template drops, moves or repeats some of the conversation")
    return found


def _around(slot: Slot, before: str, after: str, picture: PictureConfig) -> Slot:
    """A picture that the template wrote, with what of its surroundings is there already."""
    opening = picture.start + picture.inside + picture.content
    if opening:
        opened = before.endswith(opening)
    else:
        opened = bool(picture.label) and before.endswith(picture.label.replace("{number}", str(slot.number + 1)))
    closing = picture.end or picture.after
    return replace(slot, opened=opened, closed=bool(closing) and after.startswith(closing))


def stretches(text: str, found: Sequence[Found], edges: Sequence[int]) -> Iterator[tuple[int, Content]]:
    """The whole text in pieces, each with its position; the template's own text is cut at the edges."""
    position = 0
    for start, end, content in (*found, (len(text), len(text), "")):
        cuts = sorted({position, start, *(edge for edge in edges if position < edge < start)})
        pieces: list[tuple[int, Piece]] = [(cut, text[cut:to]) for cut, to in pairwise(cuts)]
        yield from pieces
        if content != "":
            yield start, content
        position = end
