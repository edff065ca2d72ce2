"""Videos of any origin: what a header says of them, which frames are looked at, and those frames as uint8[n, H, W, 3].

A header is enough to learn length and rate, and the first frame to learn how large it is upright (`display.py`);
limits hold before a frame is decoded. To take frames a file is decoded from its beginning to the last frame that is
wanted: a core does some hundred frames of 480 px a second. Frames that are files of their own are opened alone.
Frames are counted, not timed: in a video whose rate changes, equal steps are equal numbers of frames.
Sources: sampling, transformers 5.23, `Qwen2VLVideoProcessor.sample_frames`; limits of size, the same and
`qwen_vl_utils`; 16384 tokens a video, arXiv 2409.12191, section 2.2.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import MediaError, MissingExtraError
from vitrail.contracts.messages import VideoPart
from vitrail.contracts.protocols import PictureRule
from vitrail.contracts.samples import View
from vitrail.media import image
from vitrail.media.config import VIDEO_SUFFIXES
from vitrail.media.display import STORED, Display, display_of
from vitrail.media.native import NativeResolution

MAX_SECONDS = 4 * 3600.0
"""Longest video that is opened."""
MAX_FRAMES = 1_000_000
"""Most frames a header may claim."""
MAX_PIXELS = 4096 * 4096
"""Largest frame decoded, in pixels."""
MAX_BYTES = 2 * 2**30
"""Largest file."""
MAX_RATE = 1000.0
"""Most frames a second a header may claim."""
SHORT = 0.1
"""A file may hold fewer frames than its header says by this share of them; the last one then stands for the rest."""


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are looked at, and how large.

    fps: so many a second, but at least min_frames and at most max_frames. min_tokens, max_tokens: of one time, a frame
    or a pair of them. total_tokens: of a whole video, which lowers max_tokens where there are many times.
    """

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    min_tokens: int = 128
    max_tokens: int = 768
    total_tokens: int = 16_384


@dataclass(frozen=True)
class Clip:
    """What is known without decoding it all. width, height: upright, px. frames: how many. fps: frames a second.

    display: what makes stored frames upright.
    """

    width: int
    height: int
    frames: int
    fps: float
    display: Display = STORED


def is_video(given: object) -> bool:
    """Whether a caller's file or array is one: by its suffix, or by its four axes."""
    if isinstance(given, np.ndarray):
        return given.ndim == 4
    return isinstance(given, str | Path) and Path(given).suffix.lower() in VIDEO_SUFFIXES


def describe(part: VideoPart) -> str:
    """How a message to the user names a video, on one line."""
    if isinstance(part.image, str | Path):
        return f"video {ascii(str(part.image))[:200]}"
    if isinstance(part.image, tuple) and part.image:
        return f"video of {len(part.image)} frames, the first of them {image.describe(part.image[0])}"
    return f"video given as {type(part.image).__name__}"


def clip(part: VideoPart) -> Clip:
    """Size, length and rate, from the header and the first frame. Raises MediaError for what cannot be used."""
    if isinstance(part.image, np.ndarray):
        return _of_array(part, part.image)
    if isinstance(part.image, tuple):
        return _of_pictures(part, part.image)
    with _opened(part) as stream:
        found = _checked(part, stream)
        for frame in stream.container.decode(stream):
            return _upright(part, found, frame)
        raise MediaError(f"{describe(part)} holds no frame that can be read")


def sampled(frames: int, fps: float, sampling: Sampling, depth: int) -> list[int]:
    """Numbers of the frames that are looked at, of so many at that rate. depth: frames that make a view.

    Videos of less than min_frames are looked at whole; one of less than `depth` shows its last frame again.
    """
    if frames < depth:
        return list(range(frames))
    most = min(sampling.max_frames, frames) // depth * depth
    count = min(max(frames / fps * sampling.fps, sampling.min_frames), most, frames)
    count = int(count // depth * depth)
    # As official code counts, where rounding may add a frame more than was asked for.
    step = frames / count
    return [int(number * step) for number in range(math.ceil(frames / step))]


def views(
    media: PictureRule, found: Clip, sampling: Sampling, depth: int, most_tokens: int | None = None
) -> tuple[View, ...]:
    """One view for each `depth` frames that are looked at. most_tokens: of the whole video, where lower than its own.

    Raises MediaError for a media rule that knows no videos.
    """
    if not isinstance(media, NativeResolution):
        raise MediaError("a video needs a model whose media rule is native: tiles are for still pictures")
    numbers = sampled(found.frames, found.fps, sampling, depth)
    shows = [tuple(numbers[start : start + depth]) for start in range(0, len(numbers), depth)]
    most = min(sampling.max_tokens, media.config.max_tokens)
    share = max(sampling.total_tokens // len(shows), int(1.05 * sampling.min_tokens))
    most = min(most, share)
    if most_tokens is not None:
        most = max(1, min(most, most_tokens // len(shows)))
    least = min(max(sampling.min_tokens, media.config.min_tokens), most)
    # The limits to the pixel are those of pictures.
    frame = NativeResolution(replace(media.config, min_tokens=least, max_tokens=most, min_pixels=None, max_pixels=None))
    (view,) = frame.views(found.width, found.height)
    seconds = depth * found.frames / (len(numbers) * found.fps)
    return tuple(replace(view, shows=frames, seconds=seconds) for frames in shows)


def load(part: VideoPart, numbers: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """The frames of these numbers, each uint8[H, W, 3]. Raises MediaError for a video that turns out damaged."""
    wanted = set(numbers)
    if isinstance(part.image, np.ndarray):
        _of_array(part, part.image)
        return {number: part.image[number] for number in wanted}
    if isinstance(part.image, tuple):
        return _pictures(part, part.image, wanted)
    found: dict[int, NDArray[np.uint8]] = {}
    with _opened(part) as stream:
        size = _checked(part, stream)
        last, seen = None, 0
        for number, frame in enumerate(stream.container.decode(stream)):
            if frame.width * frame.height > MAX_PIXELS:
                raise MediaError(f"{describe(part)} has a frame of {frame.width} x {frame.height} px")
            if not number:
                size = _upright(part, size, frame)
            seen, last = number + 1, frame
            if number in wanted:
                found[number] = _pixels(frame, size)
            if len(found) == len(wanted) or seen > MAX_FRAMES:
                break
        missing = wanted - found.keys()
        if missing and (last is None or seen < (1 - SHORT) * size.frames - 1):
            raise MediaError(f"{describe(part)} says it has {size.frames} frames, {seen} could be read")
        if missing:
            pixels = _pixels(last, size)
            found |= dict.fromkeys(missing, pixels)
    return found


def _pixels(frame: Any, size: Clip) -> NDArray[np.uint8]:
    """Upright, and of the size that the header says, whatever one frame among others has."""
    pixels: NDArray[np.uint8] = frame.reformat(*size.display.size(size.width, size.height), "rgb24").to_ndarray()
    return size.display.shown(pixels)


def _upright(part: VideoPart, found: Clip, first: Any) -> Clip:
    """What a header says, with the size as it is shown. first: the first frame."""
    try:
        display = display_of(first)
    except ValueError as error:
        raise MediaError(f"{describe(part)} {error}") from error
    width, height = display.size(found.width, found.height)
    return replace(found, width=width, height=height, display=display)


def _of_pictures(part: VideoPart, frames: Sequence[Any]) -> Clip:
    """Of frames that are pictures of their own, by the first one's header."""
    if not frames:
        raise MediaError("a video of no frames")
    width, height = image.size(frames[0])
    return _within(part, Clip(width, height, len(frames), 2.0 if part.fps is None else part.fps))


def _pictures(part: VideoPart, frames: Sequence[Any], wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    """The pictures of these numbers. Raises MediaError where one has another size than the first."""
    size = _of_pictures(part, frames)
    found = {number: image.load(frames[number]) for number in sorted(wanted)}
    for number, pixels in found.items():
        if pixels.shape[:2] != (size.height, size.width):
            raise MediaError(
                f"{describe(part)}: frame {number}, {image.describe(frames[number])}, has {pixels.shape[1]} x "
                f"{pixels.shape[0]} px, and the first has {size.width} x {size.height}"
            )
    return found


def _of_array(part: VideoPart, frames: NDArray[Any]) -> Clip:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise MediaError(f"frames must be uint8[T, H, W, 3], got {frames.dtype}{list(frames.shape)}")
    fps = 2.0 if part.fps is None else part.fps
    return _within(part, Clip(frames.shape[2], frames.shape[1], len(frames), fps))


def _checked(part: VideoPart, stream: Any) -> Clip:
    """What the header of an opened file says."""
    fps = float(stream.average_rate or stream.base_rate or 0)
    frames = int(stream.frames or 0)
    if not frames:
        seconds = _seconds(stream)
        if seconds is None:
            raise MediaError(f"{describe(part)} does not say how long it is")
        frames = round(seconds * fps) if seconds <= MAX_SECONDS else MAX_FRAMES + 1
    return _within(part, Clip(int(stream.width), int(stream.height), frames, fps))


def _seconds(stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return stream.container.duration / 1e6 if stream.container.duration else None


def _within(part: VideoPart, found: Clip) -> Clip:
    """Raises MediaError for what is over a limit."""
    said = describe(part)
    if found.frames < 1 or min(found.width, found.height) < 1:
        raise MediaError(f"{said} has no frames")
    if not 0 < found.fps <= MAX_RATE:
        raise MediaError(f"{said} has {found.fps:g} frames a second, must be more than 0 and at most {MAX_RATE:g}")
    if found.frames > MAX_FRAMES:
        raise MediaError(f"{said} has over {MAX_FRAMES} frames")
    if found.frames / found.fps > MAX_SECONDS:
        raise MediaError(f"{said} lasts {found.frames / found.fps:.0f} s, at most {MAX_SECONDS:.0f} s are opened")
    if found.width * found.height > MAX_PIXELS:
        raise MediaError(f"{said} has frames of {found.width} x {found.height} px, at most {MAX_PIXELS} px are opened")
    return found


@contextmanager
def _opened(part: VideoPart) -> Iterator[Any]:
    """The file's first video stream."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("reading a video needs the av package: pip install 'vitrail[video]'") from error
    given = part.image
    try:
        if not isinstance(given, bytes | str | Path):
            raise MediaError(f"a video must be a file, bytes or frames, got {type(given).__name__}")
        # Opened by us and of a named kind, so that no playlist and no address is ever followed.
        with (
            io.BytesIO(given) if isinstance(given, bytes) else Path(given).open("rb") as file,
            av.open(file, format=_kind(part, file)) as container,
        ):
            if not container.streams.video:
                raise MediaError(f"{describe(part)} has no pictures in it")
            yield container.streams.video[0]
    except (OSError, ValueError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise MediaError(f"{describe(part)} cannot be read: {reason}") from error


def _kind(part: VideoPart, file: BinaryIO) -> str:
    """The container's name, by the file's first bytes. Raises MediaError for any that is not known."""
    head = file.read(12)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > MAX_BYTES:
        raise MediaError(f"{describe(part)} has {size} bytes, at most {MAX_BYTES} are opened")
    if head[4:8] == b"ftyp":
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    raise MediaError(f"{describe(part)} is no MP4, QuickTime, Matroska, WebM or AVI file")
