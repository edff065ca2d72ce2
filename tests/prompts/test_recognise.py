"""Formats recognised by what a chat template writes, and our formats as templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vitrail.contracts.messages import ImagePart, Message, TextPart
from vitrail.export.chat_template import chat_template
from vitrail.prompts.config import PICTURES, PictureConfig, PromptConfig
from vitrail.prompts.recognise import TALK, USER, Formatted, recognise, spelled
from vitrail.prompts.templates import TEMPLATES, Template

PICTURE = PictureConfig("<pic'>", "<row>", "<done>")
every_template = pytest.mark.parametrize("chat", TEMPLATES.values(), ids=TEMPLATES.keys())


def program(source: str) -> Formatted:
    """A chat template as transformers runs it."""
    compiled = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)

    def formatted(messages: Sequence[Mapping[str, Any]]) -> str:
        return compiled.render(messages=list(messages), add_generation_prompt=True)

    return formatted


@every_template
@pytest.mark.parametrize("system", ["", "Be 'brief'.\n\\n is two letters. {{ so }} {% is %} this."])
def test_our_formats_are_recognised_as_programs(chat: Template, system: str) -> None:
    prompt = PromptConfig(chat.name, system, PICTURE)
    formatted = program(chat_template(chat, prompt))
    assert recognise(formatted, PICTURE) == prompt
    said = [{"role": "system", "content": "No."}, {"role": "user", "content": [{"type": "text", "text": " A\n"}]}]
    turns = (Message("system", (TextPart("No."),)), Message("user", (TextPart(" A\n"),)))
    assert formatted(said) == spelled(turns, chat, PICTURE)


@pytest.mark.parametrize("style", [name for name, style in PICTURES.items() if style.token])
@pytest.mark.parametrize("name", ["chatml", "llama2", "deepseek", "minigpt4"])
def test_pictures_of_every_style_are_written_by_the_program(name: str, style: str) -> None:
    prompt = PromptConfig(name, "Be brief.", PICTURES[style])
    formatted = program(chat_template(TEMPLATES[name], prompt))
    assert recognise(formatted, PICTURES[style]) == prompt
    parts = [{"type": "text", "text": " A "}, {"type": "image"}, {"type": "image"}, {"type": "text", "text": "\nB "}]
    said = (TextPart(" A "), ImagePart(b""), ImagePart(b""), TextPart("\nB "))
    system = Message("system", (TextPart("Be brief."),))
    expected = spelled((system, Message("user", said)), TEMPLATES[name], PICTURES[style])
    assert formatted([{"role": "user", "content": parts}]) == expected


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_a_language_models_template_is_recognised_without_media(name: str) -> None:
    source = chat_template(TEMPLATES[name], PromptConfig(name)).replace("is string", "is string or true")
    assert recognise(program(source), PictureConfig()) == PromptConfig(name)


@every_template
def test_without_an_opened_answer_the_last_turn_is_the_end(chat: Template) -> None:
    source = chat_template(chat, PromptConfig(chat.name, "", PICTURE))
    closed = ImmutableSandboxedEnvironment().from_string(source)
    written = closed.render(messages=[{"role": "user", "content": "A"}])
    opened = closed.render(messages=[{"role": "user", "content": "A"}], add_generation_prompt=True)
    assert opened.startswith(written)


def test_formats_are_told_apart() -> None:
    spellings = {spelled(TALK, chat, PICTURE) for chat in TEMPLATES.values()}
    assert len(spellings) == len(TEMPLATES)


def test_mistrals_format_is_the_published_string() -> None:
    assert spelled(TALK, TEMPLATES["mistral"], PictureConfig("[IMG]")) == (
        "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST][IMG]What is it?[/INST]A cup.</s>[INST]Of what?[/INST]"
    )


@pytest.mark.parametrize(
    "source",
    [
        "",
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{% endfor %}",
        "{{ raise_exception('no') }}",
        "{% if messages | length > 3 %}"
        + chat_template(TEMPLATES["chatml"], PromptConfig("chatml", "", PICTURE))
        # The talk is ChatML, a single question is not.
        + "{% else %}Q: {{ messages[0]['content'] }}{% endif %}",
    ],
)
def test_other_formats_are_not(source: str) -> None:
    assert recognise(program(source), PICTURE) is None


def test_a_question_alone_ends_with_an_opened_answer() -> None:
    assert spelled((USER,), TEMPLATES["chatml"], PICTURE) == (
        "<|im_start|>user\nOf what?<|im_end|>\n<|im_start|>assistant\n"
    )
