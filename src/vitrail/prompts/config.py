"""What can be said in a recipe about the prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptConfig:
    """How conversations are written.

    template: a name from `prompts.templates`. system: what the system turn says when a conversation has none; "" for
    no turn.
    """

    template: str = "chatml"
    system: str = ""
