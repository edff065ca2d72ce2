"""Our chat formats as the programs (jinja) that other readers run."""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.contracts.messages import Role
from vitrail.prompts.config import PromptConfig
from vitrail.prompts.templates import Piece, Special, Template

ROLES: tuple[Role, ...] = ("system", "user", "assistant")


def chat_template(chat: Template, prompt: PromptConfig) -> str:
    """A jinja program that writes OpenAI's messages as `render` does, with one token for a picture.

    Content is a string, or a list of `image` and `text` parts. Text between special tokens is written as it comes: the
    reader's tokenizer turns special tokens that a user types into special tokens, which `render` never does.
    """
    lines = [_print(chat.start)]
    if prompt.system:
        turn = _print((*chat.before["system"], prompt.system, *chat.after["system"]))
        lines.append("{%- if not messages or messages[0]['role'] != 'system' %}" + turn + "{%- endif %}")
    lines.append("{%- for message in messages %}")
    for number, role in enumerate(ROLES):
        ends = (chat.end, *chat.after[role]) if role == "assistant" else chat.after[role]
        lines += [
            "{%- " + ("elif" if number else "if") + f" message['role'] == '{role}' %}}",
            _print(chat.before[role]) + CONTENT.replace("PICTURE", _quoted(prompt.picture.token)) + _print(ends),
        ]
    lines += ["{%- endif %}", "{%- endfor %}"]
    lines.append("{%- if add_generation_prompt %}" + _print(chat.before["assistant"]) + "{%- endif %}")
    return "".join(lines)


CONTENT = (
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}"
    "{%- for part in message['content'] %}"
    "{%- if part['type'] == 'image' %}{{- PICTURE }}{%- elif part['type'] == 'text' %}{{- part['text'] }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
)


def _print(pieces: Sequence[Piece]) -> str:
    text = "".join(piece.name if isinstance(piece, Special) else piece for piece in pieces)
    return "{{- " + _quoted(text) + " }}" if text else ""


def _quoted(text: str) -> str:
    """A jinja string: escapes are Python's."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
