"""Which of our chat formats a model from elsewhere was trained with, told by what its own chat template writes.

A published model brings its format as a program (jinja). Reading that program is hopeless, running it is easy: it is
given a short conversation, and what it writes is compared with what each of our formats would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitrail.contracts.messages import ImagePart, Message, TextPart
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.templates import TEMPLATES, Piece, Special, Template

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


def recognise(formatted: Formatted, picture: PictureConfig) -> PromptConfig | None:
    """The prompt whose format writes what `formatted` writes, with its own default system turn; None if none does.

    formatted: may raise whatever it likes for a conversation it does not allow.
    """
    for name, chat in TEMPLATES.items():
        if _written(formatted, TALK) == spelled(TALK, chat, picture):
            system = _default_system(_written(formatted, (USER,)) or "", chat, picture)
            return None if system is None else PromptConfig(name, system, picture)
    return None


def spelled(messages: Sequence[Message], chat: Template, picture: PictureConfig) -> str:
    """A prompt as one string, special tokens by name and one token for a picture; it ends with an opened answer."""
    text = _text(chat.start)
    for message in messages:
        text += _text(chat.before[message.role])
        text += "".join(part.text if isinstance(part, TextPart) else picture.token for part in message.parts)
        if message.role == "assistant":
            text += chat.end.name
        text += _text(chat.after[message.role])
    return text + _text(chat.before["assistant"])


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.name if isinstance(piece, Special) else piece for piece in pieces)


def _default_system(written: str, chat: Template, picture: PictureConfig) -> str | None:
    """What the system turn says when a conversation has none; "" for no turn, None when something else is written."""
    if written == spelled((USER,), chat, picture):
        return ""
    mark = "\0"
    before, _, after = spelled((Message("system", (TextPart(mark),)), USER), chat, picture).partition(mark)
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
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
        for part in message.parts
    ]
    return {"role": message.role, "content": parts}
