"""Prompts: what is learnt, where pictures stand, and that nobody can type a special token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import DataError, RecipeError
from vitrail.contracts.messages import Conversation, ImagePart, Message, Part, Role, TextPart
from vitrail.contracts.samples import IGNORE, View
from vitrail.models.backbones.tokenizer import HFTokenizer, byte_tokenizer
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.render import Rendered, render
from vitrail.prompts.templates import TEMPLATES, Special, TurnTemplate, known, template

PICTURE = ImagePart("never opened here")
VIEWS = (View(8, 8, 2, 2, 1, 1), View(8, 16, 2, 4, 1, 2), View(16, 16, 4, 4, 2, 2))
TOKENIZERS = {name: byte_tokenizer(one.specials) for name, one in TEMPLATES.items()}
HOSTILE = [
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<|end|>",
    "<|answer|>",
    "<image>",
    "</s>",
    "\n<|im_end|>\n",
    "é😀\0",
]
WORDS = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
ANSWERS = WORDS.filter(lambda text: text.strip() != "")

every_template = pytest.mark.parametrize("chat", TEMPLATES.values(), ids=TEMPLATES.keys())


def turn(role: Role, *parts: str | ImagePart) -> Message:
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def talk(*messages: Message) -> Conversation:
    return Conversation("talk", messages, location="talk.jsonl:7")


def views_of(conversation: Conversation) -> list[Sequence[View]]:
    """One or two views a picture, all different."""
    return [VIEWS[number % 3 : number % 3 + 2] for number in range(len(conversation.media))]


def rendered(conversation: Conversation, chat: TurnTemplate, *, system: str = "", ask: bool = False) -> Rendered:
    return render(
        conversation, views_of(conversation), chat, TOKENIZERS[chat.name], PromptConfig(system=system), ask=ask
    )


def shown(ids: Sequence[int] | np.ndarray, chat: TurnTemplate, *, show_special: bool = True) -> str:
    return TOKENIZERS[chat.name].decode([int(number) for number in ids], show_special=show_special)


def learnt(made: Rendered) -> list[int]:
    return made.labels[made.labels != IGNORE].tolist()


@st.composite
def talks(draw: st.DrawFn, *, open_ended: bool = False) -> Conversation:
    """Some turns of asking and answering, pictures among the words, now and then a system turn.

    open_ended: it ends with a question.
    """
    messages = [turn("system", draw(WORDS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        asked: list[Part] = draw(st.lists(st.one_of(WORDS.map(TextPart), st.just(PICTURE)), max_size=4))
        messages += [Message("user", tuple(asked)), turn("assistant", draw(ANSWERS))]
    if open_ended:
        messages.append(turn("user", draw(WORDS), PICTURE, draw(WORDS)))
    return talk(*messages)


def answers(conversation: Conversation, chat: TurnTemplate) -> list[str]:
    """What is to be learnt of each answer."""
    texts = [message.text for message in conversation.messages if message.role == "assistant"]
    texts = [chat.lead + (text.strip() if chat.strips else text) for text in texts]
    ended = chat.tail + end(chat)
    return [text + ended * (not chat.end_last_only or number == len(texts)) for number, text in enumerate(texts, 1)]


def end(chat: TurnTemplate) -> str:
    return chat.end.name if isinstance(chat.end, Special) else chat.end


# What the formats look like


def test_chatml_is_the_published_string() -> None:
    made = rendered(talk(turn("user", "What is it?"), turn("assistant", "A cat.")), template("chatml"))
    assert shown(made.ids, template("chatml")) == (
        "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
    )


def test_chatml_of_several_turns_with_a_system_turn() -> None:
    conversation = talk(
        turn("system", "Be brief."),
        turn("user", "One?"),
        turn("assistant", "1"),
        turn("user", "Two?"),
        turn("assistant", "2"),
    )
    assert shown(rendered(conversation, template("chatml")).ids, template("chatml")) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
    )


def test_the_question_in_chatml_ends_with_an_opened_answer() -> None:
    made = rendered(talk(turn("user", "What is it?")), template("chatml"), ask=True)
    assert shown(made.ids, template("chatml")) == ("<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n")
    assert learnt(made) == []


def test_the_terse_format() -> None:
    conversation = talk(turn("system", "Be brief."), turn("user", "One?"), turn("assistant", "1"), turn("user", "2?"))
    assert shown(rendered(conversation, template("terse")).ids, template("terse")) == (
        "Be brief.<|end|>One?<|answer|>1<|end|>2?"
    )


@every_template
def test_a_system_text_is_for_conversations_that_have_none(chat: TurnTemplate) -> None:
    asked, answered = turn("user", "Hm?"), turn("assistant", "Yes.")
    own = rendered(talk(turn("system", "Its own."), asked, answered), chat)
    assert np.array_equal(rendered(talk(asked, answered), chat, system="Its own.").ids, own.ids)
    kept = rendered(talk(turn("system", "Its own."), asked, answered), chat, system="Another.")
    assert np.array_equal(kept.ids, own.ids)
    assert "Its own." in shown(own.ids, chat)
    assert "Its own." not in shown(rendered(talk(asked, answered), chat).ids, chat)


def test_names_of_templates() -> None:
    for name, chat in TEMPLATES.items():
        assert template(name) is chat
        assert chat.name == name
        assert isinstance(chat.end, str) or chat.end.name in chat.specials
        assert chat.filler in chat.specials
        assert len(set(chat.specials)) == len(chat.specials)
        named = [*chat.before.values(), *chat.after.values(), *chat.joined.values()]
        assert {piece.name for row in named for piece in row if isinstance(piece, Special)} <= set(chat.specials)
    with pytest.raises(RecipeError, match=r"unknown template 'chatlm' \(did you mean 'chatml'\?\); known: chatml, .*"):
        template("chatlm")
    known("tokenizer")
    with pytest.raises(RecipeError, match="once the tokenizer is"):
        template("tokenizer")


# What is learnt


@every_template
@settings(deadline=None, max_examples=25)
@given(conversation=talks())
def test_exactly_the_answers_and_their_ends_are_learnt(chat: TurnTemplate, conversation: Conversation) -> None:
    made = rendered(conversation, chat)
    said = answers(conversation, chat)
    assert shown(learnt(made), chat) == "".join(said)
    if chat.stop:
        ends = learnt(made).count(TOKENIZERS[chat.name].special(chat.stop.name))
        assert ends == (1 if chat.end_last_only else len(said))


@every_template
@settings(deadline=None, max_examples=25)
@given(conversation=talks())
def test_labels_are_the_ids_one_place_on(chat: TurnTemplate, conversation: Conversation) -> None:
    made = rendered(conversation, chat)
    assert made.ids.dtype == made.labels.dtype == np.int64
    assert made.weights.dtype == np.float32
    assert len(made.ids) == len(made.labels) == len(made.weights)
    places = np.flatnonzero(made.labels != IGNORE)
    assert np.array_equal(made.labels[places], made.ids[places + 1])
    assert np.array_equal(made.weights, made.labels != IGNORE)


@every_template
@settings(deadline=None, max_examples=25)
@given(conversation=talks(open_ended=True), answer=ANSWERS)
def test_a_prompt_that_asks_is_how_training_begins(chat: TurnTemplate, conversation: Conversation, answer: str) -> None:
    asked = rendered(conversation, chat, ask=True)
    trained = rendered(Conversation("talk", (*conversation.messages, turn("assistant", answer))), chat)
    assert np.array_equal(asked.ids, trained.ids[: len(asked.ids)])
    assert asked.slots == trained.slots
    # The first thing learnt after it is the answer: the place that predicts it is the prompt's last.
    assert trained.labels[len(asked.ids) - 1] == trained.ids[len(asked.ids)]
    rest = trained.labels[len(asked.ids) - 1 :]
    said = answers(talk(turn("assistant", answer)), chat)
    assert shown(rest[rest != IGNORE], chat) == "".join(said)


@every_template
def test_an_answer_around_a_picture_is_learnt_before_it_and_after_it(chat: TurnTemplate) -> None:
    made = rendered(talk(turn("user", "Draw."), turn("assistant", "Here: ", PICTURE, " done")), chat)
    assert shown(learnt(made), chat) == chat.lead + "Here:  done" + chat.tail + end(chat)
    (first, second) = made.slots
    assert (made.weights[first.start - 1 : second.start + second.view.tokens - 1] == 0).all()


@every_template
@pytest.mark.parametrize("empty", ["", "  \n\t"])
def test_an_empty_answer_is_refused_wherever_it_stands(chat: TurnTemplate, empty: str) -> None:
    turns = [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")]
    for place in (1, 3):
        poisoned = [*turns[:place], turn("assistant", empty), *turns[place + 1 :]]
        with pytest.raises(DataError, match=r"^talk\.jsonl:7: empty answer$"):
            rendered(talk(*poisoned), chat)


@every_template
def test_nothing_to_learn_is_refused_unless_asking(chat: TurnTemplate) -> None:
    conversation = talk(turn("user", "Hm?"))
    with pytest.raises(DataError, match=r"^talk\.jsonl:7: no assistant turn to learn from$"):
        rendered(conversation, chat)
    assert len(rendered(conversation, chat, ask=True).ids)


# Pictures


@every_template
@settings(deadline=None, max_examples=25)
@given(conversation=talks())
def test_slots_point_to_fillers_in_reading_order(chat: TurnTemplate, conversation: Conversation) -> None:
    made = rendered(conversation, chat)
    views = views_of(conversation)
    wanted = [(number, view) for number, views_ in enumerate(views) for view in views_]
    assert [(slot.media, slot.view) for slot in made.slots] == wanted
    filler = TOKENIZERS[chat.name].special(chat.filler)
    taken = np.zeros(len(made.ids), bool)
    for slot in made.slots:
        span = slice(slot.start, slot.start + slot.view.tokens)
        assert (made.ids[span] == filler).all()
        assert not taken[span].any()
        taken[span] = True
    # Without its pictures it is the same conversation in the same words.
    bare = tuple(
        Message(message.role, tuple(part for part in message.parts if isinstance(part, TextPart)))
        for message in conversation.messages
    )
    words = shown(made.ids[~taken], chat)
    if chat.strips:  # White space beside a picture is not at the end of a turn.
        bare = tuple(Message(turn.role, (TextPart("".join(part.text for part in turn.parts)),)) for turn in bare)
        assert "".join(words.split()) == "".join(shown(rendered(Conversation("talk", bare), chat).ids, chat).split())
    else:
        assert words == shown(rendered(Conversation("talk", bare), chat).ids, chat)


@every_template
def test_pictures_stand_where_the_message_has_them(chat: TurnTemplate) -> None:
    made = rendered(talk(turn("user", "first ", PICTURE, " second"), turn("assistant", "yes")), chat)
    start, end = made.slots[0].start, made.slots[-1].start + made.slots[-1].view.tokens
    assert shown(made.ids[:start], chat).endswith("first ")
    assert shown(made.ids[end:], chat).startswith(" second")
    assert sum(slot.view.tokens for slot in made.slots) == end - start


# Text stays text


def count_specials(made: Rendered, tokenizer: HFTokenizer, chat: TurnTemplate) -> list[int]:
    """How often each special token stands outside of the pictures."""
    taken = np.zeros(len(made.ids), bool)
    for slot in made.slots:
        taken[slot.start : slot.start + slot.view.tokens] = True
    words = made.ids[~taken].tolist()
    return [words.count(tokenizer.special(name)) for name in chat.specials]


@every_template
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_typed_special_token_stays_text(chat: TurnTemplate, role: Role) -> None:
    tokenizer = TOKENIZERS[chat.name]

    def made_with(text: str) -> Rendered:
        said = {"system": "s", "user": "u", "assistant": "a"} | {role: f"x{text}y"}
        return rendered(
            talk(
                turn("system", said["system"]),
                turn("user", PICTURE, said["user"]),
                turn("assistant", said["assistant"]),
            ),
            chat,
        )

    plain = made_with("")
    for typed in HOSTILE:
        hostile = made_with(typed)
        assert count_specials(hostile, tokenizer, chat) == count_specials(plain, tokenizer, chat), typed
        assert [slot.view for slot in hostile.slots] == [slot.view for slot in plain.slots], typed
        # Every byte of it is there, as bytes.
        assert len(hostile.ids) - len(plain.ids) == len(typed.encode()), typed
        assert f"x{typed}y" in shown(hostile.ids, chat, show_special=False)


@every_template
@settings(deadline=None, max_examples=25)
@given(conversation=talks())
def test_only_the_format_makes_special_tokens(chat: TurnTemplate, conversation: Conversation) -> None:
    plain = tuple(
        Message(message.role, tuple(TextPart("x") if isinstance(part, TextPart) else part for part in message.parts))
        for message in conversation.messages
    )
    tokenizer = TOKENIZERS[chat.name]
    made, tame = rendered(conversation, chat), rendered(Conversation("talk", plain), chat)
    assert count_specials(made, tokenizer, chat) == count_specials(tame, tokenizer, chat)


def test_rows_of_a_picture_are_parted_and_closed_as_asked() -> None:
    chat = template("terse")
    around = PictureConfig(token="<|at|>", row_break="<|row|>", end="<|done|>")
    tokenizer = byte_tokenizer((*chat.specials, *around.specials))
    conversation = talk(Message("user", (ImagePart("a"), TextPart("?"))), turn("assistant", "2"))
    view = View(height=32, width=48, rows=4, columns=6, token_rows=2, token_columns=3)
    out = render(conversation, [(view,)], chat, tokenizer, PromptConfig(picture=around))
    at, row, done = map(tokenizer.special, around.specials)
    assert out.ids[:8].tolist() == [at, at, at, row, at, at, at, done]
    assert [out.ids[index] for index in out.slots[0].indices] == [at] * 6
    assert (out.slots[0].start, out.slots[0].end) == (0, 7)


def asked_with(views: Sequence[View], around: PictureConfig) -> Rendered:
    chat = template("terse")
    tokenizer = byte_tokenizer((*chat.specials, *around.specials))
    conversation = talk(Message("user", (ImagePart("a"), TextPart("?"))), turn("assistant", "2"))
    return render(conversation, [views], chat, tokenizer, PromptConfig(picture=around))


@pytest.mark.parametrize("row_break", ["", "<|row|>"])
def test_a_view_has_as_many_placeholders_as_tokens_whatever_its_patches(row_break: str) -> None:
    """30 x 34 patches that a projector makes 8 x 8 tokens of."""
    view = View(height=420, width=476, rows=30, columns=34, token_rows=8, token_columns=8)
    made = asked_with([view], PictureConfig(token="<|at|>", row_break=row_break))
    (slot,) = made.slots
    assert len(slot.indices) == view.tokens == 64
    assert len(set(made.ids[list(slot.indices)])) == 1
    assert (made.ids == made.ids[slot.start]).sum() == 64
    assert slot.end - slot.start == 64 + (7 if row_break else 0)


def test_another_number_of_placeholders_is_our_own_mistake() -> None:
    class Boastful(View):
        @property
        def tokens(self) -> int:
            return super().tokens + 1

    with pytest.raises(AssertionError, match="64 placeholders for 65 tokens"):
        asked_with([Boastful(420, 476, 30, 34, 8, 8)], PictureConfig(token="<|at|>"))


def test_what_is_not_spliced_has_a_slot_and_no_placeholders() -> None:
    """The language model sees it by cross-attention; its slot says where it stands, what is around it stays."""
    around = PictureConfig(token="<|at|>", end="<|done|>")
    view = View(420, 476, 30, 34, 8, 8)
    beside = replace(view, spliced=False)
    made, spliced = asked_with([beside], around), asked_with([view], around)
    (slot,) = made.slots
    assert len(slot.indices) == 0
    assert slot.start == slot.end == spliced.slots[0].start
    assert len(spliced.ids) - len(made.ids) == 64
    assert made.ids.tolist() == np.delete(spliced.ids, list(spliced.slots[0].indices)).tolist()


# What a turn weighs


@every_template
def test_a_turn_weighs_what_it_says_and_every_id_stays(chat: TurnTemplate) -> None:
    plain = talk(turn("user", "a"), turn("assistant", "No."), turn("user", "b"), turn("assistant", "Yes."))
    first, last = plain.messages[1], plain.messages[3]
    messages = (plain.messages[0], replace(first, weight=0), plain.messages[2], replace(last, weight=0.5))
    whole, made = rendered(plain, chat), rendered(replace(plain, messages=messages), chat)
    assert np.array_equal(made.ids, whole.ids)
    middle = len(rendered(replace(plain, messages=plain.messages[:3]), chat, ask=True).ids) - 1
    assert not made.weights[:middle].any()
    assert (made.labels[:middle] == IGNORE).all()
    assert np.array_equal(made.labels[middle:], whole.labels[middle:])
    assert np.array_equal(made.weights[middle:], whole.weights[middle:] / 2)
    nothing = tuple(replace(one, weight=0) for one in plain.messages)
    with pytest.raises(DataError, match="no assistant turn to learn from"):
        rendered(replace(plain, messages=nothing), chat)


def test_a_label_that_the_message_writes_itself_is_not_written_twice() -> None:
    chat, prompt = template("chatml"), PromptConfig(picture=PictureConfig(label="Picture {number}: ", after="\n"))
    tokenizer = byte_tokenizer(chat.specials)
    picture = ImagePart("a.png")
    texts = []
    for parts in ((picture, "b"), ("Picture 1: ", picture, "\nb")):
        conversation = talk(turn("user", *parts), turn("assistant", "c"))
        made = render(conversation, views_of(conversation), chat, tokenizer, prompt)
        texts.append(tokenizer.decode(made.ids.tolist(), show_special=True))
    assert texts[0] == texts[1]
