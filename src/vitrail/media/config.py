"""What can be said in a recipe about how pictures become patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class NativeResolutionConfig:
    """Pictures keep their shape: sides are rounded to whole merged patches, and scaled only to fit the token limits.

    patch: side of a patch, px. merge: patches that become one token, per side.
    min_tokens, max_tokens: of one picture. sides: rounded to the nearest whole number of tokens, or up (Pixtral's way).
    max_side: a picture with a longer side is scaled down to it first, px; null for no such limit.
    mean, std: per channel, applied to values in [0, 1].
    """

    kind: Literal["native"] = "native"
    patch: int = 14
    merge: int = 2
    min_tokens: int = 4
    max_tokens: int = 1024
    sides: Literal["nearest", "up"] = "nearest"
    max_side: int | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.patch < 1 or self.merge < 1:
            raise ValueError("patch and merge must be at least 1")
        if self.max_side is not None and self.max_side < 1:
            raise ValueError(f"max_side ({self.max_side}) must be at least 1")
        if not 1 <= self.min_tokens <= self.max_tokens:
            raise ValueError(f"min_tokens ({self.min_tokens}) must be from 1 to max_tokens ({self.max_tokens})")
