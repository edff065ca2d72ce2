"""Calls and their results as text: the convention of Hermes, which Qwen2.5 and later Qwen models write too.

An agent's screenshot and its action are such a pair: the picture comes with a user's turn or in a tool's result, the
action is a call whose arguments hold the coordinates.
Source: the chat template of Qwen/Qwen2.5-7B-Instruct; NousResearch/Hermes-Function-Calling, README.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vitrail.contracts.messages import ToolCall
from vitrail.prompts.turns import Content, Tools, Turn

_DECLARED = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML "
    'tags:\n<tool_call>\n{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)


def hermes(turns: Sequence[Turn], tools: Tools) -> list[Turn]:
    """Turns of system, user and assistant alone.

    Tools are declared at the end of the system turn; a call follows the assistant's text; results that stand together
    make one user turn.
    """
    written = _declared(list(turns), tools) if tools else list(turns)
    made: list[Turn] = []
    results = False
    for turn in written:
        if turn.role == "tool":
            content: tuple[Content, ...] = ("<tool_response>\n", *turn.content, "\n</tool_response>")
            if results:
                made[-1] = replace(made[-1], content=(*made[-1].content, "\n", *content))
            else:
                made.append(Turn("user", content))
        elif turn.calls:
            content = (*turn.content, _called(turn.calls, after_text=not _silent(turn)))
            made.append(Turn(turn.role, content, weight=turn.weight))
        else:
            made.append(turn)
        results = turn.role == "tool"
    return made


def _declared(turns: list[Turn], tools: Tools) -> list[Turn]:
    text = _DECLARED.format(tools="\n".join(to_json(tool) for tool in tools))
    if turns and turns[0].role == "system":
        return [replace(turns[0], content=(*turns[0].content, "\n\n", text)), *turns[1:]]
    return [Turn("system", (text,)), *turns]


def _silent(turn: Turn) -> bool:
    return not any(turn.content)


def _called(calls: Sequence[ToolCall], *, after_text: bool) -> str:
    texts = [
        f'<tool_call>\n{{"name": {to_json(call.name)}, "arguments": {to_json(dict(call.arguments))}}}\n</tool_call>'
        for call in calls
    ]
    return "\n" * after_text + "\n".join(texts)


def to_json(value: Any, **options: Any) -> str:
    """JSON as the `tojson` of transformers writes it: on one line, letters as they are, unless `options` differ."""
    return json.dumps(value, **{"ensure_ascii": False, **options})
