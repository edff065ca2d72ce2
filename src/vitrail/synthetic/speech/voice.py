"""A small formant synthesiser: steady sounds to samples, about 3 ms for a second of speech.

A train of pulses and a hiss are shaped, every 10 ms, by the resonances of the mouth at that moment: spectra are
multiplied, and overlapping windows added. It is understood by those who know the words, and nobody takes it for a
person; a model that knows it knows nothing of recorded speech.
Source: Klatt 1980, "Software for a cascade/parallel formant synthesizer", for resonances in cascade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vitrail.media.dice import Dice
from vitrail.synthetic.speech.words import Phone

RATE, HOP, WINDOW, POINTS = 16_000, 160, 320, 512
STEP = 5
"""Milliseconds from one target to the next."""
SMOOTH = 7
"""Targets over which the mouth moves from one sound to the next."""
FOURTH = 3500
"""The fourth formant, Hz, which hardly moves."""
_HISS = 2**16

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Voice:
    """pitch: Hz. scale: of the formants, 1 for an average man, above for smaller heads. slowness: of the lengths."""

    pitch: float
    scale: float
    slowness: float


def speak(dice: Dice, phones: Sequence[Phone], voice: Voice, noise: float) -> NDArray[np.float32]:
    """float32[T], at most 0.9 loud. noise: of the room, as a share of the voice."""
    tracks = _tracks(dice, phones, voice)
    count = len(tracks) * STEP * RATE // 1000
    voiced, hissed = _pulses(dice, tracks, voice, count), _hiss(dice, count)
    samples = _shaped(voiced, hissed, tracks, voice.scale, count)
    samples *= dice.between(35, 90) / 100 / max(1e-6, float(np.abs(samples).max()))
    room = _hiss(dice, count)
    level = float(np.sqrt(np.mean(samples**2)))
    return np.clip(samples + noise * level * room, -1, 1).astype(np.float32)


def _tracks(dice: Dice, phones: Sequence[Phone], voice: Voice) -> Floats:
    """first, second, third, voice, hiss, centre every 5 ms, float64[N, 6], the mouth moving smoothly between them."""
    rows = []
    for phone in phones:
        length = phone.length * voice.slowness * dice.between(85, 115) / 100
        rows += [phone[:6]] * max(2, round(length / STEP))
    given = np.array(rows, np.float64)
    edges = np.pad(given, ((SMOOTH // 2, SMOOTH // 2), (0, 0)), mode="edge")
    smooth: Floats = np.lib.stride_tricks.sliding_window_view(edges, SMOOTH, axis=0).mean(-1)
    # A burst is sudden: what opens and closes moves less smoothly than what turns.
    smooth[:, 3:5] = (given[:, 3:5] + smooth[:, 3:5]) / 2
    return smooth


def _pulses(dice: Dice, tracks: Floats, voice: Voice, count: int) -> Floats:
    """One pulse a period of the pitch, which falls over the phrase and trembles a little."""
    times = np.arange(count) / count
    fall, wave = dice.between(5, 25) / 100, dice.between(0, 100) / 100
    pitch = voice.pitch * (1.08 - fall * times + 0.03 * np.sin(2 * np.pi * (3 * times + wave)))
    phase = np.cumsum(pitch / RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    # As loud whatever the pitch.
    found: Floats = pulses * np.sqrt(RATE / pitch)
    return found


def _hiss(dice: Dice, count: int) -> Floats:
    """Noise of deviation 1, from anywhere in a table."""
    found: Floats = _table().take(np.arange(count) + dice.below(_HISS), mode="wrap")
    return found


@lru_cache(maxsize=1)
def _table() -> Floats:
    """Sums of uniform draws, which come out the same with every version of numpy."""
    dice = Dice("hiss")
    uniform = np.array([dice.spread(1.0) for _ in range(_HISS)])
    found: Floats = uniform + np.roll(uniform, 7919) + np.roll(uniform, 30011)
    return found


def _shaped(voiced: Floats, hissed: Floats, tracks: Floats, scale: float, count: int) -> Floats:
    """Both sources through the mouth, float64[count]."""
    frames = count // HOP + 1
    at = np.minimum(np.arange(frames) * HOP * 1000 // (RATE * STEP), len(tracks) - 1)
    first, second, third, loud, hiss, centre = tracks[at].T[:, :, None]
    frequencies: Floats = np.linspace(0.0, RATE / 2, POINTS // 2 + 1)[None]
    mouth = np.ones((frames, frequencies.shape[1]))
    for formant, width in ((first, 70.0), (second, 90.0), (third, 130.0), (first * 0 + FOURTH, 200.0)):
        mouth *= _resonance(frequencies, formant * scale, width)
    # A glottis is softer the higher, lips brighter: together 6 dB an octave.
    mouth *= loud / (1 + frequencies / 300)
    breath = 0.9 * hiss * np.exp(-(((frequencies - centre) / 1300.0) ** 2)) + 0.02 * loud
    window = np.hanning(WINDOW + 1)[:WINDOW]
    made = np.zeros(frames * HOP + POINTS)
    for source, envelope in ((voiced, mouth), (hissed, breath)):
        padded = np.pad(source, (WINDOW // 2, WINDOW))
        pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames] * window
        shaped = np.fft.irfft(np.fft.rfft(pieces, POINTS) * envelope, POINTS)
        # What rings before a window's start wraps around to its end: put back where it belongs.
        rung = np.roll(shaped, (POINTS - WINDOW) // 2, axis=1)
        for number in range(frames):
            made[number * HOP : number * HOP + POINTS] += rung[number]
    start = WINDOW // 2 + (POINTS - WINDOW) // 2
    found: Floats = made[start : start + count]
    return found


def _resonance(frequencies: Floats, formant: Floats, width: float) -> Floats:
    """What a resonator lets through, 1 at 0 Hz."""
    ratio = (frequencies / formant) ** 2
    through: Floats = 1 / np.sqrt((1 - ratio) ** 2 + ratio * (width / formant) ** 2)
    return through
