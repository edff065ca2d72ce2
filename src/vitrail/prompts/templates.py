"""Chat formats: what stands before and after each turn. Special tokens are named, so text can never imitate them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.contracts.messages import Role


@dataclass(frozen=True)
class Special:
    """A special token, by name."""

    name: str


Piece = str | Special


@dataclass(frozen=True)
class Template:
    """A chat format.

    before: what opens a turn of each role. end: the token that closes an assistant's turn; it is learnt, and it stops
    generation. after: what closes a turn of each role; for the assistant, what follows `end`, not learnt.
    start: what stands before the first turn.
    """

    name: str
    before: Mapping[Role, tuple[Piece, ...]]
    after: Mapping[Role, tuple[Piece, ...]]
    end: Special
    start: tuple[Piece, ...] = ()

    @property
    def specials(self) -> tuple[str, ...]:
        """Names of the special tokens the format needs."""
        turns = (piece for turn in (self.before, self.after) for row in turn.values() for piece in row)
        pieces = [self.end, *self.start, *turns]
        return tuple(dict.fromkeys(piece.name for piece in pieces if isinstance(piece, Special)))


_OPEN, _CLOSE = Special("<|im_start|>"), Special("<|im_end|>")

TEMPLATES = {
    # Source: the chat template of HuggingFaceTB/SmolLM2-135M-Instruct, which is ChatML as OpenAI published it.
    "chatml": Template(
        name="chatml",
        before={
            "system": (_OPEN, "system\n"),
            "user": (_OPEN, "user\n"),
            "assistant": (_OPEN, "assistant\n"),
        },
        after={"system": (_CLOSE, "\n"), "user": (_CLOSE, "\n"), "assistant": ("\n",)},
        end=_CLOSE,
    ),
    # Source: the chat template of mistralai/Mistral-Small-3.1-24B-Instruct-2503 (the format "V7-Tekken").
    "mistral": Template(
        name="mistral",
        before={"system": (Special("[SYSTEM_PROMPT]"),), "user": (Special("[INST]"),), "assistant": ()},
        after={"system": (Special("[/SYSTEM_PROMPT]"),), "user": (Special("[/INST]"),), "assistant": ()},
        end=Special("</s>"),
        start=(Special("<s>"),),
    ),
    # For models trained from nothing on bytes, where every token of format is a token to pay for.
    "terse": Template(
        name="terse",
        before={"system": (), "user": (), "assistant": (Special("<|answer|>"),)},
        after={"system": (Special("<|end|>"),), "user": (), "assistant": ()},
        end=Special("<|end|>"),
    ),
}


def template(name: str) -> Template:
    """The chat format of that name. Raises RecipeError for an unknown one."""
    if name not in TEMPLATES:
        raise RecipeError(
            f"prompt.template: unknown template '{name}'{nearest(name, TEMPLATES)}; known: {', '.join(TEMPLATES)}"
        )
    return TEMPLATES[name]
