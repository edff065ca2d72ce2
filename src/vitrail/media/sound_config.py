"""What can be said in a recipe about sounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")
"""By which a file is taken for a sound where nothing else says so."""

FRAMES_A_SECOND = 100
"""Frames of a log-mel spectrogram: one every 160 samples of 16,000 a second."""


@dataclass(frozen=True)
class LogMelConfig:
    """Sounds as Whisper hears them: mono, 16 kHz, a hundred frames a second, each `bands` numbers of a spectrogram.

    seconds: of one view; a longer sound is several of them. padded: every view is filled up with silence to `seconds`,
    which is all that official Whisper weights know; false takes a sound as long as it is, for encoders that learn so.
    stride: frames of which the encoder makes one feature. merge: features that become one token.

    Source: Whisper, arXiv 2212.04356, section 2.2; 128 bands since its large-v3.
    """

    kind: Literal["log_mel"] = "log_mel"
    bands: int = 80
    seconds: float = 30.0
    padded: bool = True
    stride: int = 2
    merge: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.bands <= 200 or self.stride < 1 or self.merge < 1:
            raise ValueError("bands must be from 1 to 200, stride and merge at least 1")
        if not 0 < self.seconds <= 600:
            raise ValueError(f"seconds ({self.seconds:g}) must be more than 0 and at most 600")
        frames, unit = self.seconds * FRAMES_A_SECOND, self.stride * self.merge
        if abs(frames - self.view_frames) > 1e-6 or self.view_frames % unit or self.view_frames < 2:
            raise ValueError(
                f"seconds ({self.seconds:g}) are {frames:g} frames, must be stride x merge ({unit}) times a whole "
                "number, and 2 at least"
            )

    @property
    def view_frames(self) -> int:
        """Frames of the longest view."""
        return round(self.seconds * FRAMES_A_SECOND)

    @property
    def patch_values(self) -> int:
        """Numbers in one frame."""
        return self.bands

    @property
    def patches_per_token(self) -> int:
        """Features that become one token: of sound there is one row of them."""
        return self.merge
