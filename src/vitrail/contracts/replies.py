"""What a model answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitrail.contracts.messages import MediaPart, Part


@dataclass(frozen=True)
class Reply:
    """An answer. `str(reply)` is its text; boxes in it are written `[x1, y1, x2, y2]`, in thousandths, whatever the
    model's own way is.

    stopped: True when the model ended its turn itself, False when the token limit cut it off. likelihood: the model's
    probability of its least likely token, the end among them, 0 to 1. chance: of being right, 0 to 1, as held-out
    answers of that likelihood were (`metrics.calibration`); None where that was not measured.
    """

    parts: tuple[Part, ...]
    prompt_tokens: int = 0
    tokens: int = 0
    stopped: bool = True
    likelihood: float = field(default=1.0, compare=False)
    chance: float | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return "".join(part.text for part in self.parts if not isinstance(part, MediaPart))
