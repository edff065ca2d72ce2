"""Dialects of turns.

openai    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", ...}]}, ...]}
sharegpt  {"image": "a.png", "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}]}
tags      {"images": ["a.png"], "messages": [{"role": "user", "content": "<image>..."}, ...]}
turns     {"images": [{"bytes": ...}], "texts": [{"user": "...", "assistant": "..."}, ...]}

and what agents' turns hold beside text and pictures, as OpenAI's chat API writes it.

calls     {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function":
          {"name": "click", "arguments": "{\\"coordinate\\": [512, 96]}"}}]}
results   {"role": "tool", "content": ...}, after the turn that calls
tools     {"messages": [...], "tools": [{"type": "function", "function": {"name": ..., "parameters": ...}}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Message, Role, Row, ToolCall
from vitrail.data.dialects.media import none_left, own, part, tagged
from vitrail.data.dialects.values import Read, role, text, turns, where


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


def calls(turn: Mapping[str, Any], row: Row) -> tuple[ToolCall, ...]:
    """What a turn calls. Raises DataError for a call without a name, or whose arguments are no JSON object."""
    given = turn.get("tool_calls")
    if given is None:
        return ()
    if not isinstance(given, list):
        raise DataError(f"{where(row)}: 'tool_calls' must be a list, got {given!r:.60}")
    if given and turn.get("role") not in ("assistant", "gpt", "model"):
        raise DataError(f"{where(row)}: only the assistant calls tools, not the {turn.get('role')!r:.60}")
    return tuple(_call(one, row) for one in given)


def _call(given: Any, row: Row) -> ToolCall:
    function = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(
            f"{where(row)}: a call needs {{'function': {{'name': ..., 'arguments': ...}}}}, got {given!r:.60}"
        )
    arguments = _json(function.get("arguments") or {}, f"the arguments of the call of '{function['name']}'", row)
    if not isinstance(arguments, Mapping):
        raise DataError(f"{where(row)}: the arguments of the call of '{function['name']}' must be a JSON object")
    return ToolCall(text(function["name"], row), arguments)


def tools(row: Row) -> tuple[Mapping[str, Any], ...]:
    """What the row declares that the assistant may call."""
    given = _json(row.fields.get("tools") or [], "'tools'", row)
    if not isinstance(given, list) or not all(isinstance(tool, Mapping) for tool in given):
        raise DataError(f"{where(row)}: 'tools' must be a list of objects")
    return tuple(given)


def _json(given: Any, what: str, row: Row) -> Any:
    """A value, or JSON that spells it."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(text(given, row, what))
    except ValueError as error:
        raise DataError(f"{where(row)}: {what} are no JSON: {error}") from error
