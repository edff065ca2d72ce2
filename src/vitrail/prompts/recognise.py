"""Which of our chat formats a model from elsewhere was trained with, told by what its own chat template writes.

A published model brings its format as a program (jinja). Reading that program is hopeless, running it is easy: it is
given a short conversation, and what it writes is compared with what each of our formats would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitrail.contracts.messages import Conversation, ImagePart, MediaPart, Message, TextPart
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.render import turns_of
from vitrail.prompts.templates import TEMPLATES, Special, Template
from vitrail.prompts.turns import Slot, Turn, picture_spelled

Formatted = Callable[[Sequence[Mapping[str, Any]]], str]
"""OpenAI's messages to the prompt that ends with an opened answer."""

USER = Message("user", (TextPart("Of what?"),))
TALK = (
    Message("system", (TextPart("Be brief."),)),
    Message("user", (ImagePart(b""), TextPart("What is it?"))),
    Message("assistant", (TextPart("A cup."),)),
    USER,
)
"""A turn of every role, one of them with a picture."""

WORDS = (TALK[0], Message("user", (TextPart("What is it?"),)), *TALK[2:])
"""The same for a language model, whose chat template knows of no picture."""


def recognise(formatted: Formatted, picture: PictureConfig) -> PromptConfig | None:
    """The prompt whose format writes what `formatted` writes, with its own default system turn; None if none does.

    picture: what stands around pictures; where it has no token, the format is that of a language model.
    formatted: may raise whatever it likes for a conversation it does not allow.
    """
    talk = TALK if picture.token else WORDS
    written = _written(formatted, talk)
    for name, chat in TEMPLATES.items():
        if written == spelled(talk, chat, picture):
            system = _default_system(_written(formatted, (USER,)) or "", chat, picture)
            return None if system is None else PromptConfig(name, system, picture)
    return None


def spelled(messages: Sequence[Message], chat: Template, picture: PictureConfig) -> str:
    """A prompt as one string, special tokens by name and one token for a picture; it ends with an opened answer."""
    turns: Sequence[Turn] = turns_of(Conversation("", tuple(messages)), PromptConfig(picture=picture))
    text = ""
    for span in chat.spans(turns, ask=True):
        if isinstance(span.piece, Slot):
            text += picture_spelled(picture, span.piece)
        else:
            text += span.piece.name if isinstance(span.piece, Special) else span.piece
    return text


def _default_system(written: str, chat: Template, picture: PictureConfig) -> str | None:
    """What the system turn says when a conversation has none; "" for no turn, None when something else is written."""
    if written == spelled((USER,), chat, picture):
        return ""
    sentinel = "\0"
    before, _, after = spelled((Message("system", (TextPart(sentinel),)), USER), chat, picture).partition(sentinel)
    if written.startswith(before) and written.endswith(after) and len(written) >= len(before) + len(after):
        return written[len(before) : len(written) - len(after)]
    return None


def _written(formatted: Formatted, messages: Sequence[Message]) -> str | None:
    try:
        return formatted([_as_openai(message) for message in messages])
    except Exception:  # the template is someone else's program
        return None


def _as_openai(message: Message) -> dict[str, Any]:
    if all(isinstance(part, TextPart) for part in message.parts):
        return {"role": message.role, "content": message.text}
    parts = [
        {"type": "image"} if isinstance(part, MediaPart) else {"type": "text", "text": part.text}
        for part in message.parts
    ]
    return {"role": message.role, "content": parts}
