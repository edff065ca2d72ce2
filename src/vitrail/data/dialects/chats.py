"""Dialects of turns.

openai    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", ...}]}, ...]}
sharegpt  {"image": "a.png", "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}]}
tags      {"images": ["a.png"], "messages": [{"role": "user", "content": "<image>..."}, ...]}
turns     {"images": [{"bytes": ...}], "texts": [{"user": "...", "assistant": "..."}, ...]}

and what turns hold beside text and pictures: what agents call, as OpenAI's chat API writes it, and what is learnt.

calls     {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function":
          {"name": "click", "arguments": "{\\"coordinate\\": [512, 96]}"}}]}
results   {"role": "tool", "content": ...}, after the turn that calls
tools     {"messages": [...], "tools": [{"type": "function", "function": {"name": ..., "parameters": ...}}]}
weights   {"role": "assistant", "content": "...", "loss": false} (ms-swift), "weight": 0 (OpenAI), "train": false
          (Axolotl), "loss_scale": 0.5: a number is the loss weight of the answer's tokens, false is 0
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Message, Role, Row, TextPart, ToolCall
from vitrail.data.dialects.keys import Keys, inside
from vitrail.data.dialects.media import Left, none_left, own, part
from vitrail.data.dialects.tags import tagged
from vitrail.data.dialects.values import Read, role, text, turns, where

WEIGHTS = ("loss", "weight", "train", "loss_scale")
"""What toolkits call the loss weight of a turn."""


def openai(row: Row) -> Read:
    """Messages made of parts; bare image parts take the next of the row's pictures, and so do videos and sounds."""
    return in_parts(turns(row, "messages"), row)


def tags(row: Row) -> Read:
    """Messages of plain text with tags; where one of them is made of parts, all are read so."""
    return chat(turns(row, "messages"), row)


def sharegpt(row: Row) -> Read:
    """LLaVA's turns, or MiniCPM-V's, which have the keys of messages."""
    return chat(turns(row, "conversations"), row)


def chat(given: Sequence[Keys], row: Row) -> Read:
    """Turns of plain text with tags; where one of them is made of parts, all are read so."""
    if any(isinstance(_content(turn), list) for turn in given):
        return in_parts(given, row)
    called = [calls(turn, row) for turn in given]
    said = [
        (role(_role(turn), row), "" if _content(turn) is None and calling else text(_content(turn), row))
        for turn, calling in zip(given, called, strict=True)
    ]
    messages = tagged(said, row)
    return Read(
        tuple(
            replace(message, calls=calling, weight=weight(turn, message.role, row))
            for turn, message, calling in zip(given, messages, called, strict=True)
        )
    )


def in_parts(given: Sequence[Keys], row: Row, left: Left | None = None) -> Read:
    """Turns made of parts. Text is text, also where it spells a tag. left: media for bare parts; the row's if None."""
    left = own(row) if left is None else left
    messages = []
    for turn in given:
        content, called = _content(turn), calls(turn, row)
        if called and content is None:
            content = []
        pieces = content if isinstance(content, list) else [{"type": "text", "text": content}]
        parts = tuple(part(piece, row, left) for piece in pieces)
        whose = role(_role(turn), row)
        messages.append(Message(whose, parts, called, weight(turn, whose, row)))
    none_left(left, row)
    return Read(tuple(messages))


def exchanges(row: Row) -> Read:
    """Questions and answers in pairs. Some sets write a system's turn into the first of them."""
    said: list[tuple[Role, str]] = []
    for turn in turns(row, "texts"):
        if turn.get("system"):
            said.append(("system", text(turn["system"], row)))
        said += [("user", text(turn.get("user"), row)), ("assistant", text(turn.get("assistant"), row))]
    return Read(tagged(said, row))


def with_system(read: Read, row: Row) -> Read:
    """With the system's turn that stands in a column of its own (LLaMA-Factory, ms-swift).

    Raises DataError where the turns begin with another one.
    """
    given = row.fields.get("system")
    if given is None or given == "":
        return read
    turn = Message("system", (TextPart(text(given, row, "'system'")),))
    if any(message.role == "system" for message in read.messages):
        if read.messages[0].text == turn.text:
            return read
        raise DataError(f"{where(row)}: a system turn and another text in 'system'")
    return replace(read, messages=(turn, *read.messages), shared=read.shared + 1 if read.rejected else read.shared)


def weight(turn: Keys, whose: Role, row: Row) -> float:
    """Loss weight of a turn. Raises DataError for what is none, for two that differ, and for a turn that is no answer.

    A turn that is no answer may say that it is not learnt: it never is.
    """
    said = {name: turn[name] for name in WEIGHTS if name in turn}
    for name, given in said.items():
        if not isinstance(given, bool | int | float) or not 0 <= given < math.inf:
            raise DataError(
                f"{where(row)}: '{name}' of a turn must be true, false or a number from 0, got {given!r:.60}"
            )
        if given and whose != "assistant":
            raise DataError(
                f"{where(row)}: '{name}' is {given}, but only answers are learnt, not what the {whose} says"
            )
    if len(set(map(float, said.values()))) > 1:
        raise DataError(f"{where(row)}: {' and '.join(map(repr, said))} of a turn differ")
    return float(next(iter(said.values()), 1.0)) if whose == "assistant" else 1.0


def calls(turn: Keys, row: Row) -> tuple[ToolCall, ...]:
    """What a turn calls. Raises DataError for a call without a name, or whose arguments are no JSON object."""
    if _role(turn) == "tool":
        turn.get("tool_call_id"), turn.get("name")  # which call it is the result of: they stand in order
    given = turn.get("tool_calls")
    if given is None:
        return ()
    if not isinstance(given, list):
        raise DataError(f"{where(row)}: 'tool_calls' must be a list, got {given!r:.60}")
    if given and role(_role(turn), row) != "assistant":
        raise DataError(f"{where(row)}: only the assistant calls tools, not the {_role(turn)!r:.60}")
    return tuple(_call(one, row) for one in given)


def _role(turn: Keys) -> Any:
    return turn.get("from") if "from" in turn else turn.get("role")


def _content(turn: Keys) -> Any:
    return turn.get("value") if "value" in turn else turn.get("content")


def _call(given: Any, row: Row) -> ToolCall:
    call = inside(given, row, "a call") if isinstance(given, Mapping) else None
    function: Any = call
    if call is not None and "function" in call:
        function = call["function"]
        call.get("type"), call.get("index")
    if isinstance(function, Mapping):
        function = inside(function, row, "a call")
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
