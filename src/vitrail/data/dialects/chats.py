"""Dialects of turns.

openai    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", ...}]}, ...]}
sharegpt  {"image": "a.png", "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}]}
tags      {"images": ["a.png"], "messages": [{"role": "user", "content": "<image>..."}, ...]}
turns     {"images": [{"bytes": ...}], "texts": [{"user": "...", "assistant": "..."}, ...]}
"""

from __future__ import annotations

from dataclasses import replace

from vitrail.contracts.messages import Message, Role, Row
from vitrail.data.dialects.agents import calls
from vitrail.data.dialects.media import none_left, own, part, tagged
from vitrail.data.dialects.values import Read, role, text, turns


def openai(row: Row) -> Read:
    """Messages made of parts; bare image parts take the next of the row's pictures, and so do videos and sounds."""
    left = own(row)
    messages = []
    for turn in turns(row, "messages"):
        content, called = turn.get("content"), calls(turn, row)
        if called and content is None:
            content = []
        pieces = content if isinstance(content, list) else [{"type": "text", "text": content}]
        parts = tuple(part(piece, row, left) for piece in pieces)
        messages.append(Message(role(turn.get("role"), row), parts, called))
    none_left(left, row)
    return Read(tuple(messages))


def tags(row: Row) -> Read:
    """Messages of plain text with tags; where one of them is made of parts, all are read so."""
    given = turns(row, "messages")
    if any(isinstance(turn.get("content"), list) for turn in given):
        return openai(row)
    called = [calls(turn, row) for turn in given]
    said = [
        (role(turn.get("role"), row), "" if turn.get("content") is None and calling else text(turn.get("content"), row))
        for turn, calling in zip(given, called, strict=True)
    ]
    messages = tagged(said, row)
    return Read(tuple(replace(message, calls=calling) for message, calling in zip(messages, called, strict=True)))


def sharegpt(row: Row) -> Read:
    """LLaVA's turns."""
    said = [(role(turn.get("from"), row), text(turn.get("value"), row)) for turn in turns(row, "conversations")]
    return Read(tagged(said, row))


def exchanges(row: Row) -> Read:
    """Questions and answers in pairs. Some sets write a system's turn into the first of them."""
    said: list[tuple[Role, str]] = []
    for turn in turns(row, "texts"):
        if turn.get("system"):
            said.append(("system", text(turn["system"], row)))
        said += [("user", text(turn.get("user"), row)), ("assistant", text(turn.get("assistant"), row))]
    return Read(tagged(said, row))
