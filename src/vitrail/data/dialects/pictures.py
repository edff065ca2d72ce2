"""Pictures and videos as rows give them: paths, bytes, pixels, in columns or where a tag stands in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import ImagePart, Message, Part, RefPart, Role, Row, TextPart, VideoPart
from vitrail.data.confined import check_inside
from vitrail.data.dialects.agents import boxes
from vitrail.data.dialects.values import text, where
from vitrail.media.data_url import decoded, is_data_url
from vitrail.media.fetch import is_url

TAG, FILM = "<image>", "<video>"


def images(row: Row) -> list[ImagePart]:
    """The pictures of the row's `images`, else of its `image`."""
    return [image(one, row) for one in _column(row, "image")]


def videos(row: Row) -> list[VideoPart]:
    """The videos of the row's `videos`, else of its `video`."""
    return [video(one, row) for one in _column(row, "video")]


def _column(row: Row, name: str) -> list[Any]:
    given = row.fields.get(f"{name}s")
    if given is None:
        given = row.fields.get(name)
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def video(given: Any, row: Row, fps: Any = None) -> VideoPart:
    """A path, {"path": ...} or {"bytes": ...}, frames, or a VideoPart. fps: of frames."""
    if isinstance(given, VideoPart):
        return given
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float)):
        raise DataError(f"{where(row)}: 'fps' of a video must be a number, got {fps!r:.60}")
    found = image(given, row).image
    if not isinstance(found, str | Path | bytes) and not hasattr(found, "ndim"):
        raise DataError(f"{where(row)}: a video must be a file, bytes or frames, got {type(found).__name__}")
    return VideoPart(found, fps=fps)


def image(given: Any, row: Row) -> ImagePart:
    """A path, a data URL, {"path": ...} or {"bytes": ...} as `datasets` writes it, pixels, or an ImagePart."""
    if isinstance(given, ImagePart):
        return given
    if isinstance(given, Mapping):
        given = given.get("bytes") or given.get("path") or given.get("url")
    if isinstance(given, str):
        return ImagePart(_located(given, row))
    if given is None:
        raise DataError(f"{where(row)}: a picture is null")
    return ImagePart(given)


def part(piece: Any, row: Row, left: Iterator[ImagePart], films: Iterator[ImagePart] | None = None) -> Part:
    """A content part of OpenAI's chat API. left, films: the row's own pictures and videos, for parts that name none."""
    if not isinstance(piece, dict):
        raise DataError(f"{where(row)}: a content part must be an object with 'type', got {piece!r:.60}")
    kind = piece.get("type")
    if kind == "text":
        return TextPart(text(piece.get("text"), row))
    if kind == "image_url":
        url = piece.get("image_url")
        return image(url.get("url") if isinstance(url, dict) else url, row)
    if kind == "image":
        given = next((piece[name] for name in ("image", "path", "url") if piece.get(name) is not None), None)
        return image(given, row) if given is not None else following(left, row)
    if kind in ("video", "video_url"):
        given = next(
            (piece[name] for name in ("video", "video_url", "path", "url") if piece.get(name) is not None), None
        )
        if isinstance(given, dict) and kind == "video_url":
            given = given.get("url")
        return video(given, row, piece.get("fps")) if given is not None else following(films or iter(()), row)
    if kind == "ref":
        return RefPart(text(piece.get("text"), row))
    if kind == "box":
        return boxes(piece, row)
    raise DataError(
        f"{where(row)}: unknown part type {kind!r:.60}; allowed: text, image, image_url, video, video_url, box, ref"
    )


def following(left: Iterator[ImagePart], row: Row) -> ImagePart:
    """The next picture. Raises DataError when there is none left."""
    found = next(left, None)
    if found is None:
        raise DataError(f"{where(row)}: more image parts than pictures")
    return found


def none_left(left: Iterator[ImagePart], row: Row, what: str = "pictures", kind: str = "image") -> None:
    """Raises DataError for pictures, or what else they are, that no part has taken."""
    count = len(list(left))
    if count:
        raise DataError(f"{where(row)}: {count} {what} have no {kind} part")


def tagged(said: list[tuple[Role, str]], row: Row) -> tuple[Message, ...]:
    """Puts pictures where `<image>` stands; in user and system turns only: an answer may speak of the tag.

    Where a row has videos `<video>` stands for them in the same way; where it has none the word is text.
    """
    films = videos(row)
    given: dict[str, list[ImagePart]] = {TAG: images(row), **({FILM: [*films]} if films else {})}
    for tag, media in reversed(given.items()):
        _tag_all(said, tag, media, row)
    left = {tag: iter(media) for tag, media in given.items()}
    messages = []
    for role, words in said:
        parts: list[Part] = []
        for piece in re.split(f"({'|'.join(given)})", words) if role != "assistant" else [words]:
            if piece in left and role != "assistant":
                parts.append(following(left[piece], row))
            elif piece:
                parts.append(TextPart(piece))
        messages.append(Message(role, tuple(parts)))
    return tuple(messages)


def _tag_all(said: list[tuple[Role, str]], tag: str, given: list[ImagePart], row: Row) -> None:
    """Opens the first user's turn with tags where there are none. Raises DataError where their number is another."""
    what = "pictures" if tag == TAG else "videos"
    tags = sum(words.count(tag) for role, words in said if role != "assistant")
    if given and not tags:
        first = next((index for index, (role, _) in enumerate(said) if role == "user"), None)
        if first is None:
            raise DataError(f"{where(row)}: {len(given)} {what} but no user turn for them to open")
        said[first] = (said[first][0], f"{tag}\n" * len(given) + said[first][1])
    elif tags != len(given):
        raise DataError(f"{where(row)}: {tags} {tag} tags but {len(given)} {what}")


def _located(given: str, row: Row) -> Path | bytes | str:
    if is_data_url(given):
        try:
            return decoded(given)
        except MediaError as error:
            raise MediaError(f"{where(row)}: {error}") from error
    if is_url(given):
        return given  # fetched, or refused, where the picture is opened
    path = Path(given.removeprefix("file://"))
    path = path if path.is_absolute() or row.folder is None else row.folder / path
    if row.confined:
        check_inside(path, row.folder, where(row))
    return path
