"""Samples to Whisper's log-mel spectrogram: a hundred frames a second; 10 seconds of sound take about 50 ms.

Windows of 400 samples every 160, the sound mirrored at its ends; power in bands that are even on Slaney's mel scale up
to 8 kHz, each weighted by the inverse of its width; base-10 logarithms, at most 8 below the view's loudest; then
(x + 4) / 4. Computed in float64, so that it is the same with every version of numpy.
Source: Whisper, arXiv 2212.04356, section 2.2; openai/whisper, `audio.py`; Slaney's Auditory Toolbox for the scale.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RATE, WINDOW, HOP = 16_000, 400, 160
FLOOR, RANGE = 1e-10, 8.0
"""Least power of a band; by how many powers of ten the faintest may lie below the loudest."""

KNEE, KNEE_MEL = 1000.0, 15.0
"""Where the mel scale turns from even steps to even ratios: hertz, mel."""
STEEPNESS = 27.0 / np.log(6.4)
"""Mel of a factor e above the knee."""


def log_mel(samples: NDArray[np.float32], bands: int) -> NDArray[np.float32]:
    """float32[T] at 16 kHz, T a multiple of 160 and above 200, to float32[T / 160, bands]."""
    assert len(samples) % HOP == 0, f"{len(samples)} samples are no whole frames"
    assert len(samples) > WINDOW // 2, f"{len(samples)} samples are too few to be mirrored"
    mirrored = np.pad(samples.astype(np.float64), WINDOW // 2, mode="reflect")
    # The frame that begins where the sound ends is left out, as Whisper has it.
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW)[: len(samples) : HOP]
    spectrum = np.fft.rfft(windows * _hann(), axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    logs = np.log10(np.maximum(power @ filters(bands), FLOOR))
    found: NDArray[np.float32] = ((np.maximum(logs, logs.max() - RANGE) + 4.0) / 4.0).astype(np.float32)
    return found


@lru_cache(maxsize=1)
def _hann() -> NDArray[np.float64]:
    """Periodic: one sample longer it would be symmetric."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


@lru_cache(maxsize=4)
def filters(bands: int) -> NDArray[np.float64]:
    """Triangles from frequencies to bands, float64[201, bands]."""
    top = KNEE_MEL + np.log(RATE / 2 / KNEE) * STEEPNESS
    mels = np.linspace(0.0, top, bands + 2)
    edges = np.where(
        mels < KNEE_MEL, mels * KNEE / KNEE_MEL, KNEE * np.exp((np.maximum(mels, KNEE_MEL) - KNEE_MEL) / STEEPNESS)
    )
    frequencies = np.linspace(0.0, RATE / 2, WINDOW // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (high - low))
    return triangles
