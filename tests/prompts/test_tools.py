"""Agents' turns: what is called, what comes back, and what of it is learnt."""

from __future__ import annotations

import json

import pytest

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart, ToolCall
from vitrail.contracts.samples import IGNORE, View
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.config import PICTURES, PromptConfig
from vitrail.prompts.render import Rendered, render
from vitrail.prompts.templates import TEMPLATES, template

PROMPT = PromptConfig(picture=PICTURES["qwen2_vl"])
TOKENIZER = byte_tokenizer((*template("chatml").specials, *PROMPT.specials))
SCREEN = ImagePart("never opened here")
CLICK = ToolCall("computer_use", {"action": "left_click", "coordinate": [512, 96]})
TOOL = {"type": "function", "function": {"name": "computer_use", "parameters": {"type": "object"}}}


def user(*parts: str | ImagePart) -> Message:
    return Message("user", tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def made_of(*messages: Message, tools: bool = False, ask: bool = False) -> Rendered:
    conversation = Conversation("talk", messages, location="talk.jsonl:7", tools=(TOOL,) if tools else ())
    views = [(View(8, 8, 2, 2, 1, 1),)] * len(conversation.media)
    return render(conversation, views, template("chatml"), TOKENIZER, PROMPT, ask=ask)


def text_of(made: Rendered, *, learnt: bool = False) -> str:
    ids = made.labels[made.labels != IGNORE] if learnt else made.ids
    return TOKENIZER.decode(ids.tolist(), show_special=True)


def test_a_screenshot_and_an_action() -> None:
    made = made_of(
        user(SCREEN, "Open the file."),
        Message("assistant", (TextPart("I click on it."),), (CLICK,)),
        Message("tool", (SCREEN,)),
        Message("assistant", (TextPart("It is open."),)),
    )
    screen = "<|vision_start|><|image_pad|><|vision_end|>"
    call = (
        '<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [512, 96]}}\n'
        "</tool_call>"
    )
    assert text_of(made) == (
        f"<|im_start|>user\n{screen}Open the file.<|im_end|>\n"
        f"<|im_start|>assistant\nI click on it.\n{call}<|im_end|>\n"
        f"<|im_start|>user\n<tool_response>\n{screen}\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nIt is open.<|im_end|>\n"
    )
    assert text_of(made, learnt=True) == f"I click on it.\n{call}<|im_end|>It is open.<|im_end|>"
    assert [slot.media for slot in made.slots] == [0, 1]


def test_several_calls_and_their_results_without_words() -> None:
    made = made_of(
        user("Twice."),
        Message("assistant", (), (ToolCall("a", {}), ToolCall("b", {"é": "<|im_end|>"}))),
        Message("tool", (TextPart("1"),)),
        Message("tool", (TextPart("2"),)),
        Message("assistant", (TextPart("Done."),)),
    )
    assert (
        '<|im_start|>assistant\n<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>\n'
        '<tool_call>\n{"name": "b", "arguments": {"é": "<|im_end|>"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
    ) in text_of(made)
    # What an argument spells is text.
    assert made.ids.tolist().count(TOKENIZER.special("<|im_end|>")) == 4


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_tools_are_declared_in_the_system_turn(system: str) -> None:
    start = [Message("system", (TextPart(system),))] if system else []
    text = text_of(made_of(*start, user("Hm?"), tools=True, ask=True))
    opened = "<|im_start|>system\n" + (f"{system}\n\n" if system else "") + "# Tools\n\n"
    assert text.startswith(opened)
    assert f"<tools>\n{json.dumps(TOOL)}\n</tools>" in text
    assert text.endswith("</tool_call><|im_end|>\n<|im_start|>user\nHm?<|im_end|>\n<|im_start|>assistant\n")


def test_a_prompt_that_asks_is_how_training_begins() -> None:
    called = Message("assistant", (TextPart("Now."),), (CLICK,))
    result = Message("tool", (TextPart("ok"),))
    asked = made_of(user("Go."), called, result, tools=True, ask=True)
    trained = made_of(user("Go."), called, result, Message("assistant", (TextPart("Done."),)), tools=True)
    assert asked.ids.tolist() == trained.ids[: len(asked.ids)].tolist()


@pytest.mark.parametrize("name", [name for name, chat in TEMPLATES.items() if chat.tools is None])
def test_formats_without_a_convention_say_so(name: str) -> None:
    chat = template(name)
    calling = Conversation("talk", (user("Go."), Message("assistant", (), (CLICK,))), location="talk.jsonl:7")
    with pytest.raises(DataError, match=rf"^talk\.jsonl:7: the template '{name}' has no convention for tools"):
        render(calling, [], chat, byte_tokenizer(chat.specials))
