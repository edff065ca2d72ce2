"""Media as rows give them: in columns, among the parts of a message, or where a tag stands in a text.

Of each kind a row may have a column, `images` or `image`, `videos` or `video`, `audios` or `audio`, with what
`pictures.py` and `sounds.py` read. Parts that name no medium, and tags, stand for those in their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import MediaPart, Message, Part, RefPart, Role, Row, TextPart
from vitrail.data.dialects.agents import boxes
from vitrail.data.dialects.pictures import image, video
from vitrail.data.dialects.sounds import audio, input_audio
from vitrail.data.dialects.values import text, where


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
RATES = ("fps", "sampling_rate")

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
    return [KINDS[kind].read(one, row, None) for one in several]


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
