"""WAV files without any library: what the header says, samples as float32, and samples to bytes.

Plain PCM of 8, 16, 24 and 32 bits and floating point of 32 and 64; all other codings are left to soundfile. A header is
read chunk by chunk, so that one of four gigabytes costs no more than its file has.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

PCM, FLOATS, EXTENSIBLE = 1, 3, 0xFFFE
MAX_CHUNKS = 1000
"""Chunks before the samples; a recorder writes a handful."""
BLOCK = 2**18
"""Samples of each channel that are converted at once."""


@dataclass(frozen=True)
class WavHeader:
    """rate: samples a second. frames: samples of each channel. width: bytes of one. start: of the samples, bytes."""

    rate: int
    channels: int
    frames: int
    width: int
    floats: bool
    start: int


def is_wav(head: bytes) -> bool:
    """Whether a file that begins so is one."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def read_header(file: BinaryIO) -> WavHeader | None:
    """From the start of a file; None where the samples are coded in a way that is not read here (mu-law and its like).

    Raises ValueError for a broken one.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(12)
    coding: tuple[int, int, int, int] | None = None
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if name == b"fmt ":
            coding = _coding(file.read(min(length, 40)))
            if coding is None:
                return None
            file.seek(length - min(length, 40) + length % 2, io.SEEK_CUR)
        elif name == b"data":
            if coding is None:
                raise ValueError("its samples come before the header that says what they are")
            kind, channels, rate, width = coding
            start = file.tell()
            # Recorders that stream leave the length open; it is never more than the file has.
            held = size - start if length in (0, 0xFFFFFFFF) else min(length, size - start)
            return WavHeader(rate, channels, held // (width * channels), width, kind == FLOATS, start)
        else:
            file.seek(length + length % 2, io.SEEK_CUR)
    raise ValueError("its header is broken off")


def _coding(chunk: bytes) -> tuple[int, int, int, int] | None:
    """Kind, channels, rate and bytes of a sample."""
    if len(chunk) < 16:
        raise ValueError("its header is broken off")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == EXTENSIBLE and len(chunk) >= 26:
        kind = int.from_bytes(chunk[24:26], "little")
    if (kind, bits) not in {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOATS, 32), (FLOATS, 64)}:
        return None
    return kind, channels, rate, bits // 8


def read_blocks(file: BinaryIO, header: WavHeader) -> Iterator[NDArray[np.float32]]:
    """Samples from -1 to 1, some float32[T, channels] after each other."""
    file.seek(header.start)
    left = header.frames
    while left > 0:
        count = min(left, BLOCK)
        data = file.read(count * header.width * header.channels)
        count = len(data) // (header.width * header.channels)
        if not count:
            return
        yield _samples(data[: count * header.width * header.channels], header).reshape(count, header.channels)
        left -= count


def _samples(data: bytes, header: WavHeader) -> NDArray[np.float32]:
    whole: NDArray[Any]
    if header.floats:
        return np.frombuffer(data, f"<f{header.width}").astype(np.float32)
    if header.width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if header.width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole = wide.view("<i4")[:, 0]
    else:
        whole = np.frombuffer(data, f"<i{header.width}")
    made: NDArray[np.float32] = (whole / -float(np.iinfo(whole.dtype).min)).astype(np.float32)
    return made


def wav_bytes(samples: NDArray[np.float32], rate: int) -> bytes:
    """Mono samples from -1 to 1 as a WAV file of 16 bits; what is louder is clipped."""
    data = np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2").tobytes()
    coding = struct.pack("<HHIIHH", PCM, 1, rate, 2 * rate, 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(coding)) + coding + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
