"""What can be said about generation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GenerationConfig:
    """How an answer is made.

    max_tokens: of the answer. temperature: 0 takes the likeliest token every time. top_p: nucleus. seed: of sampling.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
