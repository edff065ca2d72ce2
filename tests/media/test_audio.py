"""Sounds of any origin: WAV without any library, others with one; what is refused, and by which words."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrail.contracts.errors import MediaError, MissingExtraError
from vitrail.contracts.messages import AudioPart, ImagePart, VideoPart
from vitrail.media import audio, wav
from vitrail.media.rule import media_part

RATE = 16_000
TONE = (0.5 * np.sin(np.arange(RATE) / 10)).astype(np.float32)


def wav_file(
    data: bytes,
    *,
    kind: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    extensible: bool = False,
    length: int | None = None,
    before: bytes = b"",
) -> bytes:
    block = channels * bits // 8
    coding = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, channels, rate, rate * block % 2**32, block, bits)
    if extensible:
        coding += struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", kind) + bytes(14)
    chunks = before + b"fmt " + struct.pack("<I", len(coding)) + coding
    chunks += b"data" + struct.pack("<I", len(data) if length is None else length) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def coded(samples: NDArray[np.float32], bits: int, floats: bool) -> bytes:
    if floats:
        return samples.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return np.round(samples * 128 + 128).clip(0, 255).astype(np.uint8).tobytes()
    whole = np.round(samples.astype(np.float64) * 2 ** (bits - 1)).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if bits == 24:
        return whole.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return whole.astype(f"<i{bits // 8}").tobytes()


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("bits", "floats"), [(8, False), (16, False), (24, False), (32, False), (32, True), (64, True)]
)
def test_wav_files_of_every_plain_coding(bits: int, floats: bool, extensible: bool) -> None:
    data = wav_file(coded(TONE, bits, floats), kind=3 if floats else 1, bits=bits, extensible=extensible)
    part = AudioPart(data)
    assert audio.header(part) == audio.Recording(RATE, RATE, 1)
    assert np.abs(audio.load(part, RATE) - TONE).max() <= (0 if floats else 1.01 / 2**bits)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = TONE, 0.5 * TONE[::-1]
    stereo = np.stack([left, right], 1).reshape(-1)
    path = tmp_path / "stereo.wav"
    path.write_bytes(wav_file(coded(stereo, 32, True), kind=3, bits=32, channels=2, before=b"LIST\x05\0\0\0artist"))
    for given in (path, str(path)):
        assert audio.header(AudioPart(given)) == audio.Recording(RATE, RATE, 2)
        assert np.allclose(audio.load(AudioPart(given), RATE), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_a_length_that_is_left_open_is_the_files(length: int) -> None:
    part = AudioPart(wav_file(coded(TONE, 16, False), length=length))
    assert audio.header(part).samples == RATE


def test_a_length_beyond_the_file_is_the_files() -> None:
    part = AudioPart(wav_file(coded(TONE, 16, False), length=2**31))
    assert audio.header(part).samples == len(audio.load(part, RATE)) == RATE


def test_what_is_written_can_be_read() -> None:
    part = AudioPart(wav.wav_bytes(TONE, 8000))
    assert audio.header(part) == audio.Recording(RATE, 8000, 1)
    assert np.abs(audio.load(part, 8000) - TONE).max() <= 1.01 / 2**16


def test_samples_are_as_they_are() -> None:
    assert audio.load(AudioPart(TONE, RATE), RATE) is TONE
    assert audio.load(AudioPart(TONE.astype(np.float64), RATE), RATE).dtype == np.float32


HALF = coded(TONE, 16, False)
REFUSED = {
    "other": (b"GIF89a" + bytes(20), "sound given as bytes is no WAV, FLAC, Ogg or MP3 file"),
    "empty": (b"", "sound given as bytes is empty: it has no bytes"),
    "silent": (wav_file(b""), "sound given as bytes is empty: it has no samples"),
    "torn": (wav_file(HALF)[:20], "sound given as bytes cannot be read: its header is broken off"),
    "no format": (
        b"RIFF\xff\xff\xff\xffWAVEdata\x04\0\0\0abcd",
        "sound given as bytes cannot be read: its samples come before the header that says what they are",
    ),
    "chunks": (
        b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 1001 + wav_file(HALF)[12:],
        "sound given as bytes cannot be read: its header is broken off",
    ),
    "slow": (wav_file(HALF, rate=10), "sound given as bytes has 10 samples a second, must be from 1000 to 384000"),
    "quick": (wav_file(HALF, rate=2**30), "has 1073741824 samples a second, must be from 1000 to 384000"),
    "channels": (wav_file(bytes(400), channels=100), "has 100 channels, must be from 1 to 64"),
    "no channel": (wav_file(bytes(400), channels=0), "sound given as bytes cannot be read: "),
    "long": (wav_file(bytes(2 * 3601 * 1000), rate=1000), "lasts 3601 s, at most 3600 s are opened"),
    "no numbers": (
        wav_file(np.full(400, np.nan, "<f4").tobytes(), kind=3, bits=32),
        "sound given as bytes holds samples that are no numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_one_line(name: str) -> None:
    data, said = REFUSED[name]
    with pytest.raises(MediaError) as caught:
        audio.load(AudioPart(data), RATE)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (AudioPart("gone.wav"), "sound 'gone.wav' cannot be read: No such file or directory"),
        (AudioPart(TONE), "sound given as ndarray does not say how many samples a second it has"),
        (AudioPart(TONE[None], RATE), "samples must be float32[T] from -1 to 1, got float32[1, 16000]"),
        (AudioPart(np.zeros(9, np.int16), RATE), "samples must be float32[T] from -1 to 1, got int16[9]"),
        (AudioPart(np.zeros(0, np.float32), RATE), "sound given as ndarray is empty: it has no samples"),
        (AudioPart(3), "a sound must be a file, bytes or samples, got int"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_sound_is_one_line(part: AudioPart, said: str) -> None:
    with pytest.raises(MediaError) as caught:
        audio.header(part)
    assert said in str(caught.value)


def test_large_files_are_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "MAX_BYTES", 1000)
    with pytest.raises(MediaError, match="has 32044 bytes, at most 1000 are opened"):
        audio.header(AudioPart(wav_file(HALF)))


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_library_that_is_missing_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    data = b"fLaC" + bytes(40) if library == "soundfile" else wav_file(HALF, rate=8000)
    with pytest.raises(MissingExtraError, match=rf"needs the {library} package.*pip install 'vitrail\[audio\]'"):
        audio.load(AudioPart(data), RATE)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3", "mu-law"])
def test_other_files_by_soundfile(kind: str, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "sound"
    format_, subtype = ("WAV", "ULAW") if kind == "mu-law" else (kind, None)
    soundfile.write(path, np.stack([TONE, TONE], 1), RATE, format=format_, subtype=subtype)
    found = audio.header(AudioPart(path))
    assert (found.rate, found.channels) == (RATE, 2)
    assert abs(found.samples - RATE) <= 2400, "MP3 may hold a little silence more"
    for given in (path, path.read_bytes()):
        samples = audio.load(AudioPart(given), RATE)
        assert len(samples) == found.samples
        assert np.corrcoef(samples[:RATE], TONE[: len(samples)])[0, 1] > 0.99


def test_a_torn_file_is_one_line() -> None:
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).uniform(-1, 1, 40_000), RATE, format="FLAC")
    with pytest.raises(MediaError, match="sound given as bytes "):
        audio.load(AudioPart(file.getvalue()[:9000]), RATE)


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_rates_are_changed(rate: int) -> None:
    """A tone stays the tone it was, and is as long as the header lets expect."""
    pytest.importorskip("soxr")
    part = AudioPart(np.sin(2 * np.pi * 440 * np.arange(rate + 7) / rate).astype(np.float32), rate)
    samples = audio.load(part, RATE)
    assert len(samples) == audio.header(part).samples_at(RATE) == -(-(rate + 7) * RATE // rate)
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert np.abs(samples[1000:15_000] - expected[1000:15_000]).max() < 1e-3


def test_excerpts_are_short() -> None:
    long = AudioPart(np.tile(TONE, 20), RATE)
    found = audio.header(AudioPart(audio.excerpt(long)))
    assert (found.rate, found.samples) == (RATE, 8 * RATE)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("a.wav", AudioPart),
        (Path("a.MP3"), AudioPart),
        (TONE, AudioPart),
        ("a.mp4", VideoPart),
        ("a.png", ImagePart),
        (np.zeros((4, 4, 3), np.uint8), ImagePart),
    ],
)
def test_a_caller_need_not_say_which_it_is(given: object, kind: type) -> None:
    assert type(media_part(given)) is kind
