"""Sounds of any origin: what a header says of them, and their samples, mono, at the rate that is wanted.

A header is enough to learn length and rate; limits hold before a sample is decoded. Channels are averaged. WAV files
are read here without any library, FLAC, Ogg and MP3 by soundfile, and soxr changes rates: a core does some hundreds of
seconds of sound a second.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import MediaError, MissingExtraError
from vitrail.contracts.messages import AudioPart
from vitrail.media import wav
from vitrail.media.config import SOUND_SUFFIXES

MAX_SECONDS = 3600.0
"""Longest sound that is opened."""
MAX_BYTES = 2 * 2**30
"""Largest file."""
LEAST_RATE, MAX_RATE = 1000, 384_000
"""Samples a second that a header may claim."""
MAX_CHANNELS = 64
"""Most channels that a header may claim."""
SHORT = 0.1
"""A file may hold fewer samples than its header says by this share of them; silence then stands for the rest."""

EXCERPT, EXCERPT_RATE = 8.0, 16_000
"""Seconds of a sound that a page plays, and at most so many samples of each."""

ALLOWED = "no WAV, FLAC, Ogg or MP3 file"
EXTRA = "pip install 'vitrail[audio]'"


@dataclass(frozen=True)
class Recording:
    """What a header says. samples: of each channel. rate: of them a second."""

    samples: int
    rate: int
    channels: int

    def samples_at(self, rate: int) -> int:
        """How many there are at another rate, the last one begun."""
        return -(-self.samples * rate // self.rate)


def is_audio(given: object) -> bool:
    """Whether a caller's file is one, by its suffix, or an array: it has one axis."""
    if isinstance(given, np.ndarray):
        return given.ndim == 1
    return isinstance(given, str | Path) and Path(given).suffix.lower() in SOUND_SUFFIXES


def describe(part: AudioPart) -> str:
    """How a message to the user names a sound, on one line."""
    if isinstance(part.audio, str | Path):
        return f"sound {ascii(str(part.audio))[:200]}"
    return f"sound given as {type(part.audio).__name__}"


def header(part: AudioPart) -> Recording:
    """Length, rate and channels, from the header alone. Raises MediaError for what cannot be used."""
    if isinstance(part.audio, np.ndarray):
        return _of_array(part, part.audio)
    with _opened(part) as (found, _):
        return found


def load(part: AudioPart, rate: int) -> NDArray[np.float32]:
    """All of it, float32[`header(part).samples_at(rate)`], channels averaged, from -1 to 1.

    Raises MediaError for a sound that turns out damaged, MissingExtraError without the library that it needs.
    """
    if isinstance(part.audio, np.ndarray):
        found, samples = _of_array(part, part.audio), part.audio.astype(np.float32, copy=False)
    else:
        with _opened(part) as (found, blocks):
            samples = _decoded(part, found, blocks)
    if not np.isfinite(samples).all():
        raise MediaError(f"{describe(part)} holds samples that are no numbers")
    return resampled(samples, found.rate, rate)


def excerpt(part: AudioPart) -> bytes:
    """How it begins, as a small WAV file for a page to play. Raises MediaError, MissingExtraError."""
    rate = min(header(part).rate, EXCERPT_RATE)
    return wav.wav_bytes(load(part, rate)[: round(EXCERPT * rate)], rate)


def resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """float32[T] to float32[ceil(T * wanted / rate)], band-limited. Raises MissingExtraError without soxr."""
    if rate == wanted:
        return samples
    count = -(-len(samples) * wanted // rate)
    made = np.asarray(resampler(rate, wanted).resample(samples, rate, wanted), np.float32)[:count]
    return np.pad(made, (0, count - len(made)))


def resampler(rate: int, wanted: int) -> Any:
    """soxr. Raises MissingExtraError."""
    try:
        import soxr
    except ImportError as error:
        raise MissingExtraError(
            f"a sound of {rate} samples a second needs the soxr package to be heard at {wanted}: {EXTRA}"
        ) from error
    return soxr


def _decoded(part: AudioPart, found: Recording, blocks: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mono, of the length that the header says, whatever the file goes on to hold."""
    mono, seen = np.zeros(found.samples, np.float32), 0
    for block in blocks:
        taken = block[: found.samples - seen].mean(1)
        mono[seen : seen + len(taken)] = taken
        seen += len(taken)
        if seen == found.samples:
            break
    if seen < (1 - SHORT) * found.samples:
        raise MediaError(f"{describe(part)} says it has {found.samples} samples, {seen} could be read")
    return mono


def _of_array(part: AudioPart, samples: NDArray[Any]) -> Recording:
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise MediaError(f"samples must be float32[T] from -1 to 1, got {samples.dtype}{list(samples.shape)}")
    if part.rate is None:
        raise MediaError(f"{describe(part)} does not say how many samples a second it has: AudioPart(samples, rate)")
    return _within(part, Recording(len(samples), part.rate, 1))


def _within(part: AudioPart, found: Recording) -> Recording:
    """Raises MediaError for what is over a limit."""
    said = describe(part)
    if not LEAST_RATE <= found.rate <= MAX_RATE:
        raise MediaError(f"{said} has {found.rate} samples a second, must be from {LEAST_RATE} to {MAX_RATE}")
    if not 1 <= found.channels <= MAX_CHANNELS:
        raise MediaError(f"{said} has {found.channels} channels, must be from 1 to {MAX_CHANNELS}")
    if found.samples < 1:
        raise MediaError(f"{said} is empty: it has no samples")
    if found.samples > MAX_SECONDS * found.rate:
        seconds = found.samples / found.rate
        raise MediaError(f"{said} lasts {seconds:.0f} s, at most {MAX_SECONDS:.0f} s are opened")
    return found


@contextmanager
def _opened(part: AudioPart) -> Iterator[tuple[Recording, Iterator[NDArray[np.float32]]]]:
    """What the header of a file says, within the limits, and its blocks of samples float32[T, channels].

    Whatever is raised inside comes out as a MediaError: on hostile bytes, decoders raise errors of every kind.
    """
    given = part.audio
    try:
        if not isinstance(given, bytes | str | Path):
            raise MediaError(f"a sound must be a file, bytes or samples, got {type(given).__name__}")
        with io.BytesIO(given) if isinstance(given, bytes) else Path(given).open("rb") as file:
            head = wav.read_header(file) if _is_wav(part, file) else None
            if head is not None:
                yield _within(part, Recording(head.frames, head.rate, head.channels)), wav.read_blocks(file, head)
                return
            file.seek(0)
            with _soundfile(part).SoundFile(file) as sound:
                found = _within(part, Recording(int(sound.frames), int(sound.samplerate), int(sound.channels)))
                yield found, sound.blocks(wav.BLOCK, dtype="float32", always_2d=True)
    except (MediaError, MissingExtraError):
        raise
    except Exception as error:
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
        raise MediaError(f"{describe(part)} cannot be read: {reason}") from error


def _is_wav(part: AudioPart, file: BinaryIO) -> bool:
    """By the file's first bytes. Raises MediaError for a kind of file that is not opened."""
    head = file.read(12)
    size = file.seek(0, io.SEEK_END)
    if size > MAX_BYTES:
        raise MediaError(f"{describe(part)} has {size} bytes, at most {MAX_BYTES} are opened")
    if not size:
        raise MediaError(f"{describe(part)} is empty: it has no bytes")
    mp3 = head[:3] == b"ID3" or (head[0] == 0xFF and len(head) > 1 and head[1] & 0xE6 == 0xE2)
    if not (wav.is_wav(head) or head[:4] in (b"fLaC", b"OggS") or mp3):
        raise MediaError(f"{describe(part)} is {ALLOWED}")
    return wav.is_wav(head)


def _soundfile(part: AudioPart) -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MissingExtraError(f"{describe(part)}: all but plain WAV needs the soundfile package: {EXTRA}") from error
    return soundfile
