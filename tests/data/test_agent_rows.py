"""Rows of agents: calls, results, tools, and boxes in pictures."""

from __future__ import annotations

from typing import Any

import pytest

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import BoxPart, ImagePart, RefPart, Row, TextPart, ToolCall
from vitrail.data.dialects import to_conversation

TOOL = {"type": "function", "function": {"name": "click"}}


def row(*messages: dict[str, Any], **more: Any) -> Row:
    return Row("7", {"messages": list(messages), **more}, location="rows.jsonl:7")


def called(arguments: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": "click", "arguments": arguments}}], **more}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts) or "Go."}


@pytest.mark.parametrize("arguments", ['{"at": [5, 9]}', {"at": [5, 9]}])
@pytest.mark.parametrize("tools", ['[{"type": "function", "function": {"name": "click"}}]', [TOOL]])
def test_a_screenshot_and_an_action(arguments: Any, tools: Any) -> None:
    shot = {"type": "image", "image": "/a.png"}
    read = to_conversation(
        row(
            user(shot, {"type": "text", "text": "Go."}),
            called(arguments, content=None),
            {"role": "tool", "content": [shot]},
            {"role": "assistant", "content": "Done."},
            tools=tools,
        )
    )
    assert [message.role for message in read.messages] == ["user", "assistant", "tool", "assistant"]
    assert read.messages[1].calls == (ToolCall("click", {"at": [5, 9]}),)
    assert read.messages[1].parts == ()
    assert isinstance(read.messages[2].parts[0], ImagePart)
    assert read.tools == (TOOL,)
    assert "tools" not in read.extra


def test_calls_beside_texts_with_tags() -> None:
    read = to_conversation(
        row(
            {"role": "user", "content": "<image>Go."},
            called("{}", content="I go."),
            {"role": "tool", "content": "<image>"},
            {"role": "assistant", "content": "Done."},
            images=["/a.png", "/b.png"],
        )
    )
    assert read.messages[1].calls == (ToolCall("click", {}),)
    assert read.messages[1].text == "I go."
    assert len(read.media) == 2


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (called("{"), "arguments of the call of 'click' are no JSON"),
        (called("[1]"), "must be a JSON object"),
        ({"role": "assistant", "content": "", "tool_calls": [{"name": 3}]}, "a call needs"),
        ({"role": "assistant", "content": "", "tool_calls": "click"}, "'tool_calls' must be a list"),
        ({"role": "user", "content": "", "tool_calls": [{"name": "click"}]}, "only the assistant calls tools"),
        ({"role": "function", "content": ""}, "unknown role"),
    ],
)
def test_what_is_no_call_is_said_with_the_row(turn: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"^rows\.jsonl:7: .*{message}"):
        to_conversation(row(user(), turn))


def test_tools_are_a_list() -> None:
    with pytest.raises(DataError, match=r"^rows\.jsonl:7: 'tools' must be a list of objects"):
        to_conversation(row(user(), {"role": "assistant", "content": "a"}, tools=["click"]))


@pytest.mark.parametrize(
    ("scale", "box"), [(1000, [100, 200, 300, 400]), (1, [0.1, 0.2, 0.3, 0.4]), ([200, 100], [20, 20, 60, 40])]
)
def test_boxes_are_in_shares_of_the_picture(scale: Any, box: list[float]) -> None:
    answer = {
        "role": "assistant",
        "content": [{"type": "ref", "text": "the dog"}, {"type": "box", "box": box, "scale": scale}],
    }
    read = to_conversation(row(user({"type": "text", "text": "Where?"}), answer))
    assert read.messages[1].parts == (RefPart("the dog"), BoxPart(((0.1, 0.2, 0.3, 0.4),)))
    assert read.messages[0].parts == (TextPart("Where?"),)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "box", "box": [1, 2, 3, 4]}, "a box needs a 'scale'"),
        ({"type": "box", "box": [1, 2, 3, 4], "scale": 0}, "a box needs a 'scale'"),
        ({"type": "box", "box": [1, 2, 3], "scale": 1000}, "a box must be"),
        ({"type": "box", "boxes": [], "scale": 1000}, "a box must be"),
    ],
)
def test_a_box_says_its_scale(part: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"^rows\.jsonl:7: {message}"):
        to_conversation(row(user(part), {"role": "assistant", "content": "a"}))
