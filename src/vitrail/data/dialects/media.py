"""Media as rows give them: in columns, or among the parts of a message.

Of each kind a row may have a column, `images` or `image`, `videos` or `video`, `audios` or `audio`, or one of the names
that other files have for it (`COLUMNS`): paths, data URLs, bytes, pixels (of sounds see `sounds.py`). Parts that name
no medium, and tags, stand for those in their order. Pictures may have names that stand in the text: an object of them
({"<image_00>": "a.png"}, MiniCPM-V), or columns with numbers (`image_1`, which `<image 1>` stands for, MMMU).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import ImagePart, MediaPart, Part, RefPart, Row, TextPart, VideoPart, is_url
from vitrail.data.dialects.boxes import boxes
from vitrail.data.dialects.keys import inside, says
from vitrail.data.dialects.sounds import audio, input_audio
from vitrail.data.dialects.values import located, text, where
from vitrail.data.sources.files import is_picture
from vitrail.media.intake import is_data_url


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
        given = inside(given, row, "a picture")
        given = next(filter(None, [given.get(name) for name in ("bytes", "path", "url")]), None)
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

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("images", "image", "image_path", "image_paths", "image_file", "image_files", "image_url", "image_urls"),
        *("imgs", "img", "img_path", "img_paths", "pictures", "picture", "photos", "photo"),
    ),
    "video": ("videos", "video", "video_path", "video_paths", "video_url"),
    "audio": ("audios", "audio", "audio_path", "audio_paths", "audio_url"),
}
"""Columns by kind; the first that says anything is taken, and a second one is left for others to refuse."""

MEDIA = tuple(name for names in COLUMNS.values() for name in names)
"""All of them."""

NUMBERED = re.compile(r"image_?(\d{1,3})")
"""Columns of pictures that have numbers."""

Left = Mapping[str, Iterator[MediaPart]]
"""The row's own media by kind, for parts that name none."""


def has_media(fields: Mapping[str, Any]) -> bool:
    """Whether the columns of a row hold any."""
    return any(map(says, map(fields.get, MEDIA))) or any(
        says(value) for name, value in fields.items() if _number(name) is not None
    )


def media_of(row: Row, kind: str) -> list[MediaPart]:
    """Those of one kind, of the first column that has any."""
    if kind == "image" and (named := named_of(row)):
        return [picture for _, picture in named]
    given = _column(row, kind)
    if given is None:
        return []
    several = list(given) if isinstance(given, list | tuple) else [given]
    if kind == "video" and all(map(_names_picture, several)):
        several = [several]  # the frames of one, and not as many videos
    return [KINDS[kind].read(one, row, None) for one in several]


def named_of(row: Row) -> list[tuple[tuple[str, ...], ImagePart]]:
    """Pictures that are told apart by names, in their order, each with the tags that may stand for it in a text."""
    given = _column(row, "image")
    if isinstance(given, Mapping) and given and all(re.fullmatch(r"<[^<>]+>", str(name)) for name in given):
        return [((str(name),), image(one, row)) for name, one in inside(given, row, "'image'").items()]
    if given is not None:
        return []
    numbers = sorted((number, name) for name in row.fields if (number := _number(name)) is not None)
    return [
        ((f"<image {number}>", f"<image_{number}>", f"<image{number}>"), image(row.fields[name], row))
        for number, name in numbers
        if says(row.fields[name])
    ]


def _column(row: Row, kind: str) -> Any:
    """What stands under the first name that says anything; null where none does."""
    fields = row.fields
    return next((fields[name] for name in COLUMNS[kind] if name in fields and _filled(fields[name])), None)


def _filled(value: Any) -> bool:
    """Whether a column holds a medium. A list with holes does, which those who read it refuse."""
    return bool(len(value)) if isinstance(value, list | tuple) else says(value)


def _number(name: str) -> int | None:
    found = NUMBERED.fullmatch(str(name))
    return int(found[1]) if found else None


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
    if not isinstance(piece, Mapping):
        raise DataError(f"{where(row)}: a content part must be an object with 'type', got {piece!r:.60}")
    piece = inside(piece, row, f"a part of type {piece.get('type')!r:.60}")
    kind = str(piece.get("type"))
    if kind in ("text", "input_text", "output_text"):
        return TextPart(text(piece.get("text"), row))
    if kind == "input_audio":
        return input_audio(piece.get(kind), row)
    medium = kind.removesuffix("_url").removeprefix("input_")
    if medium in KINDS:
        names = (kind,) if kind == "image_url" else (medium, f"{medium}_url", "path", "url")
        given = next((piece[name] for name in names if name in piece), None)
        if given is None and kind == medium:
            return following(left, medium, row)
        if isinstance(given, Mapping) and kind != medium:
            given = inside(given, row, f"'{kind}'")
            given.get("detail")  # how closely a server should look; here the model's media rule says it
            given = given.get("url")
        if kind == "input_image":
            piece.get("detail")
        rate = next((piece[name] for name in RATES if name in piece), None) if medium != "image" else None
        return KINDS[medium].read(given, row, rate)
    if kind == "ref":
        return RefPart(text(piece.get("text"), row))
    if kind == "box":
        return boxes(piece, row)
    media = ", ".join(f"{one}, {one}_url" for one in KINDS)
    raise DataError(
        f"{where(row)}: unknown part type {piece.get('type')!r:.60}; allowed: text, {media}, input_audio, box, ref, "
        "and Responses' input_text, input_image, output_text"
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
