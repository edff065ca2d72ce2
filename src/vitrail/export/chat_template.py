"""Our chat formats as the programs (jinja) that other readers run."""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.messages import Role
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.program import ProgramTemplate
from vitrail.prompts.turns import Piece, Special, Template, TurnTemplate, picture_spelled

ROLES: tuple[Role, ...] = ("system", "user", "assistant")


def chat_template(chat: Template, prompt: PromptConfig) -> str:
    """A jinja program that writes OpenAI's messages as `render` does, with one token for a picture.

    Content is a string, or a list of `image` and `text` parts. Text between special tokens is written as it comes: the
    reader's tokenizer turns special tokens that a user types into special tokens, which `render` never does. Calls and
    their results are not written. A template that came with the tokenizer is handed on as it is.
    Raises WeightsError for a format of another kind.
    """
    if isinstance(chat, ProgramTemplate):
        return chat.source
    if not isinstance(chat, TurnTemplate):
        raise WeightsError(f"the template '{chat.name}' cannot be written as a chat template")
    lines = [
        "{%- set pictures = namespace(seen=0) %}" if "{number}" in prompt.picture.label else "",
        _print(chat.start),
    ]
    if prompt.system:
        turn = _print((*chat.before["system"], prompt.system, *chat.after["system"]))
        lines.append("{%- if not messages or messages[0]['role'] != 'system' %}" + turn + "{%- endif %}")
    lines.append("{%- for message in messages %}")
    for number, role in enumerate(ROLES):
        lines += [
            "{%- " + ("elif" if number else "if") + f" message['role'] == '{role}' %}}",
            _opening(chat, role, bool(prompt.system)) + (_print((chat.lead,)) if role == "assistant" else ""),
            _content(chat, prompt.picture),
            _closing(chat, role),
        ]
    lines += ["{%- endif %}", "{%- endfor %}"]
    lines.append("{%- if add_generation_prompt %}" + _print(chat.before["assistant"]) + "{%- endif %}")
    return "".join(lines)


def _opening(chat: TurnTemplate, role: Role, system: bool) -> str:
    """What opens a turn, by the turn before it. system: whether there is a system turn of the recipe's."""
    cases = ""
    for (previous, then), pieces in chat.joined.items():
        if then == role:
            test = f"loop.previtem is defined and loop.previtem['role'] == '{previous}'"
            if previous == "system" and system:
                test = f"loop.first or ({test})"
            cases += ("{%- elif " if cases else "{%- if ") + test + " %}" + _print(pieces)
    if not cases:
        return _print(chat.before[role])
    return cases + "{%- else %}" + _print(chat.before[role]) + "{%- endif %}"


def _closing(chat: TurnTemplate, role: Role) -> str:
    if role != "assistant":
        return _print(chat.after[role])
    end = _print((chat.tail, chat.end))
    if chat.end_last_only:
        end = "{%- if loop.last %}" + end + "{%- endif %}"
    return end + _print(chat.after[role])


def _content(chat: TurnTemplate, picture: PictureConfig) -> str:
    """A turn's content; white space goes where `render` leaves it out."""
    trim = " | trim" if chat.strips else ""
    text = "part['text']"
    if chat.strips:
        text = f"({text}.lstrip() if loop.first else {text})"
        text = f"({text}.rstrip() if loop.last else {text})"
    if picture.after != picture.after.rstrip():
        after = "loop.previtem is defined and loop.previtem['type'] == 'image'"
        text = f"({text}.lstrip() if {after} else {text})"
    count = "{%- set pictures.seen = pictures.seen + 1 %}" if "{number}" in picture.label else ""
    shown = " ~ pictures.seen ~ ".join(_quoted(piece) for piece in picture_spelled(picture).split("{number}"))
    return (
        "{%- if message['content'] is string %}{{- message['content']" + trim + " }}{%- else %}"
        "{%- for part in message['content'] %}"
        "{%- if part['type'] == 'image' %}" + count + "{{- " + shown + " }}"
        "{%- elif part['type'] == 'text' %}{{- " + text + " }}{%- endif %}"
        "{%- endfor %}{%- endif %}"
    )


def _print(pieces: Sequence[Piece]) -> str:
    text = "".join(piece.name if isinstance(piece, Special) else piece for piece in pieces)
    return "{{- " + _quoted(text) + " }}" if text else ""


def _quoted(text: str) -> str:
    """A jinja string: escapes are Python's."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
