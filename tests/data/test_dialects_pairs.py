"""Preference pairs of every convention: a conversation that ends with the better answer, the worse one beside it."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_rows import FOLDER, refusal, row

from vitrail.contracts.messages import Conversation, ImagePart
from vitrail.data.dialects import recognise, to_conversation

A = FOLDER / "a.png"
USER = {"role": "user", "content": "What?"}
GOOD, BAD = {"role": "assistant", "content": "An ant."}, {"role": "assistant", "content": "A bird."}


def read(fields: dict[str, Any]) -> Conversation:
    assert recognise(row(fields)) == "preference"
    return to_conversation(row(fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "What?", "chosen": "An ant.", "rejected": "A bird."},
        {"question": "What?", "chosen": "An ant.", "rejected": "A bird."},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [USER], "chosen": "An ant.", "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "What?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {
            "conversations": [{"from": "human", "value": "What?"}],
            "chosen": {"from": "gpt", "value": "An ant."},
            "rejected": {"from": "gpt", "value": "A bird."},
        },
        {"instruction": "What?", "input": "", "chosen": "An ant.", "rejected": "A bird."},
        {"messages": [USER, GOOD], "rejected_response": "A bird."},
    ],
)
@pytest.mark.parametrize("pictures", [{}, {"image": "a.png"}, {"images": ["a.png"]}])
def test_every_convention_says_the_same(fields: dict[str, Any], pictures: dict[str, Any]) -> None:
    conversation = read({**fields, **pictures, "kind": "insects"})
    asked, answered = conversation.messages
    assert (asked.role, asked.text) == ("user", "\nWhat?" if pictures else "What?")
    assert (answered.role, answered.text) == ("assistant", "An ant.")
    assert [(message.role, message.text) for message in conversation.rejected] == [("assistant", "A bird.")]
    assert conversation.media == ((ImagePart(A),) if pictures else ())
    assert conversation.kind == "insects"
    assert not {"chosen", "rejected", "prompt"} & set(conversation.extra)


def test_the_input_of_an_instruction() -> None:
    fields = {"instruction": "Which?", "input": "Ant or bird", "chosen": "x", "rejected": "y"}
    assert read(fields).messages[0].text == "Which?\nAnt or bird"


def test_parts_and_tags_in_the_prompt() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "What?"}]
    for content in (parts, "<image>What?"):
        turn = {"role": "user", "content": content}
        answer = [{"type": "text", "text": "An ant."}] if content is parts else "An ant."
        chosen = [{"role": "assistant", "content": answer}]
        conversation = read({"prompt": [turn], "images": ["a.png"], "chosen": chosen, "rejected": [BAD]})
        assert conversation.messages[0].parts[0] == ImagePart(A)
        assert conversation.messages[0].text == "What?"
        assert conversation.rejected[0].text == "A bird."


def test_a_common_beginning_of_several_turns() -> None:
    more = [USER, GOOD, {"role": "user", "content": "Sure?"}]
    conversation = read({"chosen": [*more, GOOD], "rejected": [*more, BAD]})
    assert [message.text for message in conversation.messages] == ["What?", "An ant.", "Sure?", "An ant."]
    assert [message.text for message in conversation.rejected] == ["A bird."]
    other = [USER, BAD, {"role": "user", "content": "Sure?"}, BAD]
    conversation = read({"chosen": [*more, GOOD], "rejected": other})
    assert [message.text for message in conversation.rejected] == ["A bird.", "Sure?", "A bird."]
    assert len(conversation.messages) == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "?", "chosen": "x"}, """no 'rejected' in the row {"prompt": "?", "chosen": "x"}"""),
        (
            {"chosen": "x", "rejected": "y"},
            """a pair needs its 'prompt'; the row: {"chosen": "x", "rejected": "y"}""",
        ),
        ({"prompt": "?", "chosen": "x", "rejected": "x"}, "'chosen' and 'rejected' are the same"),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "'chosen' and 'rejected' are the same"),
        ({"prompt": "?", "chosen": [USER], "rejected": [BAD]}, "'chosen' must go on with an assistant's turn"),
        ({"chosen": [USER, GOOD], "rejected": [USER, USER]}, "'rejected' must go on with an assistant's turn"),
        ({"prompt": 5, "chosen": "x", "rejected": "y"}, "'prompt' must be a text or a list of turns"),
        ({"prompt": "?", "chosen": [], "rejected": "y"}, "'chosen' must be a text or a list of turns"),
        ({"messages": [USER, GOOD], "rejected_response": 5}, "a turn's text must be a string, got int"),
        ({"messages": [USER], "rejected_response": "y"}, "'chosen' must go on with an assistant's turn"),
        ({"prompt": "<image>", "chosen": "x", "rejected": "y"}, "1 <image> tags but 0 pictures"),
        (
            {"prompt": "?", "chosen": "x", "rejected": [{"role": "assistant"}]},
            "a turn's text must be a string, got NoneType",
        ),
    ],
)
def test_pairs_that_are_none(fields: dict[str, Any], message: str) -> None:
    assert refusal(fields, "preference") == message
