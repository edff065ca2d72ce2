"""Tokenizers' own chat templates: what is learnt is derived, or refused; never guessed.

The templates are written after those of published models, in the same ways of going about it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.build import build_template
from vitrail.contracts.errors import DataError, RecipeError
from vitrail.contracts.messages import BoxPart, Conversation, ImagePart, Message, Role, TextPart, ToolCall
from vitrail.contracts.samples import IGNORE, View
from vitrail.models.backbones.tokenizer import HFTokenizer, NoTokenizer, byte_tokenizer, small_tokenizer
from vitrail.prompts.config import PICTURES, PictureConfig, PromptConfig
from vitrail.prompts.program import ProgramTemplate, tokenizer_template
from vitrail.prompts.recognise import spelled
from vitrail.prompts.render import Rendered, render
from vitrail.prompts.templates import template

PICTURE = ImagePart("never opened here")

CHATML = """
{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
LLAMA3 = """
{%- for message in messages %}
    {%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'
        + message['content'] | trim + '<|eot_id|>' %}
    {%- if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
    {{- content }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""
MISTRAL = """
{{- bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
    {%- else %}{{ ' ' + message['content'] + eos_token }}{% endif %}
{%- endfor %}
"""
QWEN2_VL = """
{%- set image_count = namespace(value=0) %}
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['content'] is string %}{{ message['content'] }}
    {%- else %}
        {%- for part in message['content'] %}
            {%- if part['type'] == 'image' or 'image' in part %}
                {%- set image_count.value = image_count.value + 1 %}
                {%- if add_vision_id %}Picture {{ image_count.value }}: {% endif %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif 'text' in part %}{{ part['text'] }}{% endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
DEEPSEEK = """
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}
    {%- elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}
    {%- else %}{{ message['content'] + '\\n\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}
"""
GENERATION = """
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{ message['content'] + '<|im_end|>\\n' }}{% endgeneration %}
    {%- else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
# After Qwen3's: the thinking of earlier turns is dropped.
THINKING = """
{%- set last = namespace(query=0) %}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{% set last.query = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message['content'] %}
    {%- if message['role'] == 'assistant' and loop.index0 < last.query %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- elif message['role'] == 'assistant' and '</think>' not in content %}
        {%- set content = '<think>\\n\\n</think>\\n\\n' + content %}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
# After Mistral's of early 2024: the system text stands in the last question.
SYSTEM_MOVES = """
{%- set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- '[INST]' + (system + '\\n\\n' if loop.last or loop.index0 >= messages | length - 2 else '') }}
        {{- message['content'] + '[/INST]' }}
    {%- elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}
{%- endfor %}
"""
NO_END = """
{%- for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}
"""
ENDS = (
    *("<|im_start|>", "<|im_end|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>"),
    "[INST]",
    "[/INST]",
)
VISION = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|box_start|>", "<|box_end|>")
TOKENIZER = byte_tokenizer((*ENDS, *VISION, "<|object_ref_start|>", "<|object_ref_end|>", "<s>", "</s>"))
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


def own(source: str, picture: PictureConfig | None = None, tokenizer: HFTokenizer = TOKENIZER) -> ProgramTemplate:
    return tokenizer_template(source, NAMES, tokenizer.specials, tokenizer.whole, picture or PictureConfig())


def talk(*texts: str | Sequence[str | ImagePart], system: str = "") -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = [Message("system", (TextPart(system),))] if system else []
    for number, text in enumerate(texts):
        parts = [text] if isinstance(text, str) else text
        said = tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
        messages.append(Message(roles[number % 2], said))
    return Conversation("talk", tuple(messages), location="talk.jsonl:7")


def made_of(
    chat: ProgramTemplate, conversation: Conversation, prompt: PromptConfig | None = None, *, ask: bool = False
) -> Rendered:
    views = [(View(8, 12, 2, 6, 1, 3),)] * len(conversation.media)
    return render(conversation, views, chat, TOKENIZER, prompt or PromptConfig(picture=chat.picture), ask=ask)


def text_of(ids: Sequence[int] | np.ndarray) -> str:
    return TOKENIZER.decode([int(number) for number in ids], show_special=True)


def learnt(made: Rendered) -> str:
    return text_of(made.labels[made.labels != IGNORE])


@pytest.mark.parametrize(
    ("source", "whole", "answers"),
    [
        (
            CHATML,
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nA?<|im_end|>\n"
            "<|im_start|>assistant\nB.<|im_end|>\n"
            "<|im_start|>user\nC?<|im_end|>\n<|im_start|>assistant\nD.<|im_end|>\n",
            "B.<|im_end|>D.<|im_end|>",
        ),
        (
            LLAMA3,
            "<s><|start_header_id|>user<|end_header_id|>\n\nA?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
            "B.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nC?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nD.<|eot_id|>",
            "B.<|eot_id|>D.<|eot_id|>",
        ),
        (MISTRAL, "<s>[INST] A? [/INST] B.</s>[INST] C? [/INST] D.</s>", " B.</s> D.</s>"),
        (
            QWEN2_VL,
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nA?<|im_end|>\n"
            "<|im_start|>assistant\nB.<|im_end|>\n<|im_start|>user\nC?<|im_end|>\n<|im_start|>assistant\nD.<|im_end|>\n",
            "B.<|im_end|>D.<|im_end|>",
        ),
        (DEEPSEEK, "<s>User: A?\n\nAssistant: B.</s>User: C?\n\nAssistant: D.</s>", " B.</s> D.</s>"),
        (
            GENERATION,
            "<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\nB.<|im_end|>\n"
            "<|im_start|>user\nC?<|im_end|>\n<|im_start|>assistant\nD.<|im_end|>\n",
            "B.<|im_end|>\nD.<|im_end|>\n",
        ),
    ],
    ids=["chatml", "llama3", "mistral", "qwen2_vl", "deepseek", "generation"],
)
def test_what_is_written_and_what_is_learnt(source: str, whole: str, answers: str) -> None:
    made = made_of(own(source), talk("A?", "B.", "C?", "D."))
    assert text_of(made.ids) == whole
    assert learnt(made) == answers
    assert made.ids.tolist() == TOKENIZER.whole(whole)


SOURCES = {"chatml": CHATML, "mistral": MISTRAL, "qwen2_vl": QWEN2_VL, "deepseek": DEEPSEEK, "generation": GENERATION}
HOSTILE = ["<|im_end|>", "</s>", "<|im_start|>assistant\n", "<|image_pad|>", "{{ x }}", "{% generation %}", "é😀\0"]
WORDS = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=9))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@settings(deadline=None, max_examples=25)
@given(texts=st.lists(WORDS.filter(str.strip), min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
def test_exactly_the_answers_are_learnt_and_nobody_types_a_special_token(source: str, texts: list[str]) -> None:
    chat = own(source)
    made, tame = made_of(chat, talk(*texts)), made_of(chat, talk(*("x" for _ in texts)))
    after = "\n" if source == GENERATION else ""
    assert learnt(made) == "".join(chat.lead + text + chat.end.name + after for text in texts[1::2])
    specials = {TOKENIZER.special(name) for name in TOKENIZER.specials}
    assert [n for n in made.ids.tolist() if n in specials] == [n for n in tame.ids.tolist() if n in specials]
    asked = made_of(chat, talk(*texts[:-1]), ask=True)
    assert asked.ids.tolist() == made.ids[: len(asked.ids)].tolist()
    assert made.labels[len(asked.ids) - 1] == made.ids[len(asked.ids)] != IGNORE


def test_it_is_what_our_own_format_writes() -> None:
    conversation = talk((PICTURE, "What?"), "A cup.", "Sure?", system="Be brief.")
    mine = own(QWEN2_VL, PICTURES["qwen2_vl"])
    ours = template("chatml")
    prompt = PromptConfig(picture=PICTURES["qwen2_vl"])
    views = [(View(8, 12, 2, 6, 1, 3),)]
    one = render(conversation, views, mine, TOKENIZER, prompt, ask=True)
    two = render(conversation, views, ours, TOKENIZER, prompt, ask=True)
    assert one.ids.tolist() == two.ids.tolist()
    assert one.slots == two.slots
    assert spelled(conversation.messages, mine, prompt.picture) == spelled(conversation.messages, ours, prompt.picture)


# Pictures


def test_pictures_stand_where_the_template_writes_their_token() -> None:
    chat = own(QWEN2_VL, PICTURES["qwen2_vl"])
    assert chat.parts
    made = made_of(chat, talk(("Is ", PICTURE, " like ", PICTURE, "?"), "No.", (PICTURE,), "Yes."))
    assert [slot.media for slot in made.slots] == [0, 1, 2]
    pads = "<|vision_start|><|image_pad|><|image_pad|><|image_pad|><|vision_end|>"
    assert f"Is {pads} like {pads}?<|im_end|>" in text_of(made.ids)
    assert f"<|im_start|>user\n{pads}<|im_end|>" in text_of(made.ids)
    assert learnt(made) == "No.<|im_end|>Yes.<|im_end|>"


def test_what_the_template_leaves_out_around_a_picture_is_added() -> None:
    """Mistral Small 3.1 writes the token alone; the breaks between rows and the end are the processor's business."""
    source = QWEN2_VL.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image_pad|>")
    made = made_of(own(source, PICTURES["qwen2_vl"]), talk((PICTURE, "?"), "No."))
    assert "<|vision_start|><|image_pad|><|image_pad|><|image_pad|><|vision_end|>?" in text_of(made.ids)


@pytest.mark.parametrize("source", [CHATML, LLAMA3, DEEPSEEK], ids=["chatml", "llama3", "deepseek"])
def test_a_template_that_knows_no_pictures_has_them_in_its_text(source: str) -> None:
    chat = own(source, PICTURES["qwen2_vl_numbered"])
    assert not chat.parts
    made = made_of(chat, talk((PICTURE, "Same as ", PICTURE, "?"), "No."))
    pads = "<|vision_start|><|image_pad|><|image_pad|><|image_pad|><|vision_end|>"
    assert f"Picture 1: {pads}Same as Picture 2: {pads}?" in text_of(made.ids)
    assert len(made.slots) == 2


def test_a_template_that_drops_pictures_is_refused() -> None:
    source = QWEN2_VL.replace(
        "part['type'] == 'image' or 'image' in part", "image_count.value < 1 and 'text' not in part"
    )
    chat = own(source, PICTURES["qwen2_vl"])
    assert chat.parts
    with pytest.raises(DataError, match=r"^talk\.jsonl:7: the tokenizer's chat template drops, moves or repeats"):
        made_of(chat, talk((PICTURE, PICTURE, "?"), "No."))


def test_boxes_are_special_tokens_in_it() -> None:
    prompt = PromptConfig(picture=PICTURES["qwen2_vl"], boxes="qwen2_vl")
    box = Message("assistant", (TextPart("There: "), BoxPart(((0.1, 0.2, 0.3, 0.4),))))
    conversation = Conversation("talk", (*talk((PICTURE, "Where?")).messages, box))
    made = made_of(own(QWEN2_VL, prompt.picture), conversation, prompt)
    assert learnt(made) == "There: <|box_start|>(100,200),(300,400)<|box_end|><|im_end|>"
    assert TOKENIZER.special("<|box_start|>") in made.ids


# What cannot be derived is refused


@pytest.mark.parametrize(
    ("source", "texts", "message"),
    [
        (LLAMA3, ("A?", "B. "), "changes the text"),
        (LLAMA3, (" A?", "B."), "changes the text"),
        (THINKING, ("A?", "<think>x</think>B.", "C?", "D."), "changes the text"),
        (THINKING, ("A?", "B.", "C?", "D."), "another way once it goes on"),
        (SYSTEM_MOVES, ("A?", "B.", "C?", "D."), "drops, moves or repeats"),
        (CHATML.replace("message['content']", "message['content'] | upper"), ("A?", "b."), "changes the text"),
        (CHATML.replace("messages %}", "messages | reverse %}"), ("A?", "B."), "a question and then its answer"),
        (CHATML.replace("messages %}", "messages[-2:] %}"), ("A?", "B.", "C?", "D."), "drops, moves or repeats"),
    ],
    ids=["strips an answer", "strips a question", "drops thinking", "writes the past anew", "moves the system text",
         "capitals", "reorders", "forgets"],
)  # fmt: skip
def test_a_conversation_whose_mask_cannot_be_derived(source: str, texts: tuple[str, ...], message: str) -> None:
    with pytest.raises((DataError, RecipeError), match=message):
        made_of(own(source), talk(*texts, system="S." if source == SYSTEM_MOVES else ""))


def test_a_single_answer_of_those_can_be() -> None:
    assert learnt(made_of(own(THINKING), talk("A?", "B."))) == "<think>\n\n</think>\n\nB.<|im_end|>"
    assert learnt(made_of(own(SYSTEM_MOVES), talk("A?", "B.", system="S."))) == "B.</s>"
    assert own(THINKING).said("<think>\n\n</think>\n\nB.") == ("B.", False)


def test_white_space_that_the_template_drops_is_no_matter_when_it_is_asked() -> None:
    chat = own(LLAMA3)
    assert made_of(chat, talk(" A? "), ask=True).ids.tolist() == made_of(chat, talk("A?"), ask=True).ids.tolist()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "it has none"),
        (NO_END, "closes an answer with no special token"),
        ("{{ raise_exception('never') }}", "refuses the conversation: never"),
        ("{% for x in", "refuses the conversation"),
        ("{{ strftime_now('%Y') }}" + CHATML, "'strftime_now' is undefined"),
        ("{{ messages[0]['content'] }}", "a question and then its answer"),
        ("{{ ''.__class__.__mro__ }}" + CHATML, "refuses the conversation"),
        (CHATML.replace("assistant\\n' }}{% endif", "bot\\n' }}{% endif"), "another way once it goes on"),
        (
            GENERATION.replace("+ '<|im_end|>\\n' }}{% endg", "}}{% endg").replace("n %}\n    {%- else", "n %}"
            "{{ '<|im_end|>\\n' }}{%- else"),
            "leaves out some of the answer, or the token",
        ),
    ],
    ids=["none", "no end", "raises", "broken", "the date", "half", "escapes", "another prompt", "block without end"],
)  # fmt: skip
def test_a_template_that_cannot_be_used_says_why(source: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        own(source)


def test_what_the_template_refuses_is_said_with_its_words_and_the_row() -> None:
    with pytest.raises(DataError, match=r"^talk\.jsonl:7: .* roles must alternate"):
        made_of(own(MISTRAL), talk("A?", "B.", system="S."))


def test_a_token_across_the_border_of_an_answer_is_refused() -> None:
    """The small tokenizer has a piece of two letters that the border would part."""
    tokenizer = small_tokenizer(("<e>",))
    joined = next(
        (piece[0], piece[1:])
        for piece in sorted(tokenizer.hf.get_vocab())
        if len(piece) == 2 and piece.isalpha() and piece.isascii() and len(tokenizer.encode(piece)) == 1
    )
    source = (
        "{% for m in messages %}{{ m['content'] if m['role'] == 'user' else 'LEAD' + m['content'] + '<e>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'LEAD' }}{% endif %}"
    ).replace("LEAD", joined[0])
    chat = own(source, tokenizer=tokenizer)
    with pytest.raises(DataError, match="cannot be told apart: the tokenizer joins characters"):
        render(talk("?", joined[1]), [], chat, tokenizer)
    assert render(talk("?", "!"), [], chat, tokenizer).weights.sum() == 2


# Calls


def test_calls_are_learnt_and_their_results_are_not() -> None:
    source = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>' + call.function.name + ' ' + (call.function.arguments | tojson) + '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
    call = Message("assistant", (), (ToolCall("click", {"at": [1, 2]}),))
    result = Message("tool", (TextPart("done"),))
    answer = Message("assistant", (TextPart("Clicked."),))
    conversation = Conversation("talk", (*talk("Click!").messages, call, result, answer), location="talk.jsonl:7")
    made = made_of(own(source), conversation)
    assert learnt(made) == '<tool_call>click {"at": [1, 2]}</tool_call><|im_end|>Clicked.<|im_end|>'
    hostile = Message("assistant", (), (ToolCall("click", {"at": "<|im_end|>"}),))
    with pytest.raises(DataError, match=r"^talk\.jsonl:7: a tool or a call spells the special token '<\|im_end\|>'"):
        made_of(own(source), Conversation("talk", (*talk("Hm?").messages, hostile), location="talk.jsonl:7"))


def test_a_program_goes_to_another_process() -> None:
    chat = own(CHATML)
    made = made_of(pickle.loads(pickle.dumps(chat)), talk("A?", "B."))
    assert made.ids.tolist() == made_of(chat, talk("A?", "B.")).ids.tolist()


def test_a_recipe_asks_for_the_tokenizers_own() -> None:
    tokenizer = byte_tokenizer(("<|im_start|>", "<|im_end|>"))
    with pytest.raises(RecipeError, match="it has none"):
        build_template(PromptConfig("tokenizer"), tokenizer)
    tokenizer.hf.chat_template = CHATML
    chat = build_template(PromptConfig("tokenizer"), tokenizer)
    made = render(talk("A?", "B.", system="S."), [], chat, tokenizer)
    ours = render(talk("A?", "B.", system="S."), [], build_template(PromptConfig("chatml"), tokenizer), tokenizer)
    assert made.ids.tolist() == ours.ids.tolist()
    assert made.labels.tolist() == ours.labels.tolist()
    with pytest.raises(RecipeError, match="needs a tokenizer that comes with a chat template"):
        build_template(PromptConfig("tokenizer"), NoTokenizer("none"))
