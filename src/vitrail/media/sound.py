"""Sounds as a media stream: views from headers, frames of a log-mel spectrogram end to end.

A second of sound is a hundred frames, and with Whisper's stride of 2 fifty features. What a frame holds is worked out
where the sound is decoded, and travels between processes as float32: at 80 bands as many bytes as 16-bit samples have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.messages import AudioPart, MediaPart
from vitrail.contracts.protocols import Alter
from vitrail.contracts.samples import View
from vitrail.media import audio
from vitrail.media.config import LogMelConfig
from vitrail.media.log_mel import HOP, RATE, log_mel
from vitrail.media.sequences import Sequences


@dataclass(frozen=True)
class Sound(Sequences):
    """What sounds become.

    token_grid: rows and columns of tokens that a projector makes of every view, whatever its length; None where
    `merge` features become one token.
    """

    config: LogMelConfig
    token_grid: tuple[int, int] | None = None

    @property
    def in_use(self) -> Sound:
        """The same: how long sounds may be does not depend on what they are for."""
        return self

    def reads(self, part: MediaPart) -> bool:
        """Sounds."""
        return isinstance(part, AudioPart)

    def views(self, part: MediaPart, most_tokens: int | None = None) -> tuple[View, ...]:
        """One for each `seconds` begun, from the header alone. Raises MediaError.

        most_tokens: not heeded, since a sound has no smaller form; one too long for a pack is not used at all.
        """
        assert isinstance(part, AudioPart), "this stream reads sounds"
        found = audio.header(part)
        if found.rate != RATE:
            audio.resampler(found.rate, RATE)  # said now, and not once for every row
        return tuple(self._view(length) for length in self._lengths(found.samples_at(RATE)))

    def decoded(self, part: MediaPart, views: Sequence[View], alter: Alter | None = None) -> list[NDArray[Any]]:
        """Frames of each view, float32[frames, bands]. alter: for pictures; sounds stay as they are."""
        assert isinstance(part, AudioPart), "this stream reads sounds"
        samples = audio.load(part, RATE)
        longest = self.config.view_frames * HOP
        cut = [samples[number * longest : (number + 1) * longest] for number in range(len(views))]
        return [
            log_mel(np.pad(piece, (0, view.columns * HOP - len(piece))), self.config.bands)
            for piece, view in zip(cut, views, strict=True)
        ]

    def tokens(self, seconds: float) -> int:
        """Of a sound of that length."""
        return sum(self._view(length).tokens for length in self._lengths(round(seconds * RATE)))

    def _lengths(self, samples: int) -> list[int]:
        """Frames of each view of a sound of so many samples: whole tokens, two frames at least."""
        longest, unit = self.config.view_frames, self.config.stride * self.config.merge
        whole, rest = divmod(samples, longest * HOP)
        if self.config.padded:
            return [longest] * (whole + bool(rest))
        # The mirror at a sound's ends needs more than one frame.
        last = [max(-(-rest // (HOP * unit)), -(-2 // unit)) * unit] if rest else []
        return [longest] * whole + last

    def _view(self, frames: int) -> View:
        rows, columns = self.token_grid or (1, frames // (self.config.stride * self.config.merge))
        return View(0, 0, 1, frames, rows, columns)
