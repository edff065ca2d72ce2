"""Media as rows give them: in columns, among the parts of a message, or where a tag stands in a text.

Of each kind a row may have a column, `images` or `image`, `videos` or `video`, `audios` or `audio`: paths, data URLs,
bytes, pixels (of sounds see `sounds.py`). Parts that name no medium, and tags, stand for those in their order.

Among the parts may be boxes in a picture: {"type": "box", "box": [x1, y1, x2, y2], "scale": 1000} or several in
"boxes", and the words for them: {"type": "ref", "text": "the dog"}. scale: what the whole width and height are in those
numbers, or [width, height] for pixels; there is no default, since none can be told from the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import (
    BoxPart,
    ImagePart,
    MediaPart,
    Message,
    Part,
    RefPart,
    Role,
    Row,
    TextPart,
    VideoPart,
    is_url,
)
from vitrail.data.dialects.sounds import audio, input_audio
from vitrail.data.dialects.values import located, text, where
from vitrail.data.sources.files import is_picture
from vitrail.media.intake import is_data_url
from vitrail.prompts.boxes import scaled


def video(given: Any, row: Row, fps: Any = None) -> VideoPart:
    """A path, {"path": ...} or {"bytes": ...}, frames (an array, or a list of pictures), or a VideoPart.

    fps: of frames.
    """
    if isinstance(given, VideoPart):
        return given
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float)):
        raise DataError(f"{where(row)}: 'fps' of a video must be a number, got {fps!r:.60}")
    if isinstance(given, list | tuple):
        return VideoPart(_frames(given, row), fps=fps)
    found = image(given, row).image
    if not isinstance(found, str | Path | bytes) and not hasattr(found, "ndim"):
        raise DataError(f"{where(row)}: a video must be a file, bytes or frames, got {type(found).__name__}")
    return VideoPart(found, fps=fps)


def _frames(given: Sequence[Any], row: Row) -> Any:
    """A list of pictures as a tuple of them; of arrays as one array uint8[T, H, W, 3]."""
    found: list[Any] = [image(one, row).image for one in given]
    strange = next((one for one in found if is_url(one) or isinstance(one, list | int | float)), None)
    if strange is not None or not found:
        raise DataError(f"{where(row)}: frames of a video must be pictures that are at hand, got {strange!r:.60}")
    if not all(hasattr(one, "ndim") for one in found):
        return tuple(found)
    import numpy as np  # here, since recipes are read without it

    try:
        return np.stack(found)
    except ValueError as error:
        raise DataError(f"{where(row)}: frames of a video must be of one size") from error


def image(given: Any, row: Row) -> ImagePart:
    """A path, a data URL, {"path": ...} or {"bytes": ...} as `datasets` writes it, pixels, or an ImagePart."""
    if isinstance(given, ImagePart):
        return given
    if isinstance(given, Mapping):
        given = given.get("bytes") or given.get("path") or given.get("url")
    if isinstance(given, str):
        return ImagePart(located(given, row))
    if given is None:
        raise DataError(f"{where(row)}: a picture is null")
    return ImagePart(given)


@dataclass(frozen=True)
class Kind:
    """A kind of media in rows. tag: what stands for one in a text. several: what messages call them. read: makes one
    of what a row has; rate: frames or samples a second, where a part says it; None for nothing said."""

    tag: str
    several: str
    read: Callable[[Any, Row, Any], MediaPart]


KINDS: Mapping[str, Kind] = {
    "image": Kind("<image>", "pictures", lambda given, row, rate: image(given, row)),
    "video": Kind("<video>", "videos", video),
    "audio": Kind("<audio>", "sounds", audio),
}
"""By the name of a row's column and of a part's type."""

TAG = KINDS["image"].tag
RATES = ("fps", "sample_fps", "sampling_rate")

MEDIA = tuple(name for kind in KINDS for name in (f"{kind}s", kind))
"""Columns."""

Left = Mapping[str, Iterator[MediaPart]]
"""The row's own media by kind, for parts that name none."""


def media_of(row: Row, kind: str) -> list[MediaPart]:
    """Those of one kind: of the column in the plural, else of that in the singular."""
    given = row.fields.get(f"{kind}s")
    if given is None:
        given = row.fields.get(kind)
    if given is None:
        return []
    several = list(given) if isinstance(given, list | tuple) else [given]
    if kind == "video" and all(map(_names_picture, several)):
        several = [several]  # the frames of one, and not as many videos
    return [KINDS[kind].read(one, row, None) for one in several]


def _names_picture(given: Any) -> bool:
    return isinstance(given, str) and (is_picture(given) or is_data_url(given))


def all_media(row: Row) -> list[MediaPart]:
    """Every medium of the row's columns."""
    return [one for kind in KINDS for one in media_of(row, kind)]


def own(row: Row) -> dict[str, Iterator[MediaPart]]:
    """The row's media, to be taken one by one."""
    return {kind: iter(media_of(row, kind)) for kind in KINDS}


def part(piece: Any, row: Row, left: Left) -> Part:
    """A content part of OpenAI's chat API, or one of ours. left: as in `own`, or nothing."""
    if not isinstance(piece, dict):
        raise DataError(f"{where(row)}: a content part must be an object with 'type', got {piece!r:.60}")
    kind = str(piece.get("type"))
    if kind == "text":
        return TextPart(text(piece.get("text"), row))
    if kind == "input_audio":
        return input_audio(piece.get(kind), row)
    medium = kind.removesuffix("_url")
    if medium in KINDS:
        names = (kind,) if kind == "image_url" else (medium, f"{medium}_url", "path", "url")
        given = next((piece[name] for name in names if piece.get(name) is not None), None)
        if given is None and kind != "image_url":
            return following(left, medium, row)
        if isinstance(given, dict) and kind != medium:
            given = given.get("url")
        rate = next((piece[name] for name in RATES if piece.get(name) is not None), None)
        return KINDS[medium].read(given, row, rate)
    if kind == "ref":
        return RefPart(text(piece.get("text"), row))
    if kind == "box":
        return boxes(piece, row)
    media = ", ".join(f"{one}, {one}_url" for one in KINDS)
    raise DataError(
        f"{where(row)}: unknown part type {piece.get('type')!r:.60}; allowed: text, {media}, input_audio, box, ref"
    )


def following(left: Left, kind: str, row: Row) -> MediaPart:
    """The next medium of that kind. Raises DataError when there is none left."""
    found = next(left.get(kind, iter(())), None)
    if found is None:
        raise DataError(f"{where(row)}: more {kind} parts than {KINDS[kind].several}")
    return found


def none_left(left: Left, row: Row) -> None:
    """Raises DataError for media that no part has taken."""
    for kind, media in left.items():
        count = len(list(media))
        if count:
            raise DataError(f"{where(row)}: {count} {KINDS[kind].several} have no {kind} part")


def tagged(said: list[tuple[Role, str]], row: Row) -> tuple[Message, ...]:
    """Puts media where their tags stand; in user and system turns only: an answer may speak of a tag.

    Where a row has no videos, `<video>` is text; where it has no sounds, `<audio>` is.
    """
    given = {kind: media_of(row, kind) for kind in KINDS}
    kinds = {KINDS[kind].tag: kind for kind, media in given.items() if media or kind == "image"}
    for kind in reversed(kinds.values()):
        _tag_all(said, kind, len(given[kind]), row)
    left = {kind: iter(media) for kind, media in given.items()}
    messages = []
    for role, words in said:
        parts: list[Part] = []
        for piece in re.split(f"({'|'.join(kinds)})", words) if role != "assistant" else [words]:
            if piece in kinds and role != "assistant":
                parts.append(following(left, kinds[piece], row))
            elif piece:
                parts.append(TextPart(piece))
        messages.append(Message(role, tuple(parts)))
    return tuple(messages)


def _tag_all(said: list[tuple[Role, str]], kind: str, count: int, row: Row) -> None:
    """Opens the first user's turn with tags where there are none. Raises DataError where their number is another."""
    tag, several = KINDS[kind].tag, KINDS[kind].several
    tags = sum(words.count(tag) for role, words in said if role != "assistant")
    if count and not tags:
        first = next((index for index, (role, _) in enumerate(said) if role == "user"), None)
        if first is None:
            raise DataError(f"{where(row)}: {count} {several} but no user turn for them to open")
        said[first] = (said[first][0], f"{tag}\n" * count + said[first][1])
    elif tags != count:
        raise DataError(f"{where(row)}: {tags} {tag} tags but {count} {several}")


def boxes(piece: Mapping[str, Any], row: Row) -> BoxPart:
    """A part of boxes in a picture."""
    given: Any = piece.get("boxes", [piece.get("box")])
    scale: Any = piece.get("scale")
    pair = isinstance(scale, list) and len(scale) == 2
    if not (_number(scale) or (pair and all(map(_number, scale)))):
        raise DataError(f"{where(row)}: a box needs a 'scale': 1, 100, 1000, or the picture's [width, height]")
    if not isinstance(given, list) or not given or not all(map(_is_box, given)):
        raise DataError(f"{where(row)}: a box must be [x1, y1, x2, y2], got {given!r:.60}")
    return BoxPart(tuple(scaled(box, scale) for box in given))


def _number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and given > 0


def _is_box(given: Any) -> bool:
    numbers = isinstance(given, list) and len(given) == 4
    return numbers and all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in given)
