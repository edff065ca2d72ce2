"""What rows of agents hold beside text and pictures, as OpenAI's chat API writes it.

calls     {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function":
          {"name": "click", "arguments": "{\\"coordinate\\": [512, 96]}"}}]}
results   {"role": "tool", "content": ...}, after the turn that calls
tools     {"messages": [...], "tools": [{"type": "function", "function": {"name": ..., "parameters": ...}}]}

and, among the parts of a turn, boxes in a picture: {"type": "box", "box": [x1, y1, x2, y2], "scale": 1000} or several
in "boxes", and the words for them: {"type": "ref", "text": "the dog"}. scale: what the whole width and height are in
those numbers, or [width, height] for pixels; there is no default, since none can be told from the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import BoxPart, Row, ToolCall
from vitrail.data.dialects.values import text, where
from vitrail.prompts.boxes import scaled


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


def boxes(piece: Mapping[str, Any], row: Row) -> BoxPart:
    """A part of boxes in a picture."""
    given: Any = piece.get("boxes", [piece.get("box")])
    scale: Any = piece.get("scale")
    pair = isinstance(scale, list) and len(scale) == 2
    if not (_number(scale) or (pair and all(map(_number, scale)))):
        raise DataError(f"{where(row)}: a box needs a 'scale': 1, 100, 1000, or the picture's [width, height]")
    if not isinstance(given, list) or not given or not all(map(_is_box, given)):
        raise DataError(f"{where(row)}: a box must be [x1, y1, x2, y2], got {given!r:.60}")
    return BoxPart(tuple(scaled(box, scale) for box in given))


def _number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and given > 0


def _is_box(given: Any) -> bool:
    numbers = isinstance(given, list) and len(given) == 4
    return numbers and all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in given)
