"""Texts in which tags stand for what is no text.

<image>                               the next of the row's pictures; so with <video> and <audio> in rows that have such
<image_00>, <image 1>                 the picture of that name (`media.named_of`)
<img>a.png</img>                      a picture (Qwen-VL)
<ref>the dog</ref>                    words that name what a box is around
<box>(12,34),(560,780)</box>          a box in thousandths of the picture (Qwen-VL)
<box>[[12, 34, 560, 780]]</box>       the same, or several (InternVL)

Media stand in user, system and tool turns only: an answer may speak of a tag. Boxes stand in answers too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import BoxPart, ImagePart, MediaPart, Message, Part, RefPart, Role, Row, TextPart
from vitrail.data.dialects.boxes import TAGS, in_shares
from vitrail.data.dialects.keys import says
from vitrail.data.dialects.media import KINDS, TAG, following, media_of, named_of
from vitrail.data.dialects.values import shown, where

Said = list[tuple[Role, str]]
"""Turns as text."""

IMG = re.compile(r"<img>(.*?)</img>", re.DOTALL)
BOX = re.compile(r"<box>(\s*[(\[].*?)</box>", re.DOTALL)
GROUNDED = re.compile(rf"<ref>(?P<ref>[^<]*)</ref>|{BOX.pattern}", re.DOTALL)
CORNERS = re.compile(
    r"\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*,\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)|\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]"
)


def tagged(given: Sequence[tuple[Role, str]], row: Row) -> tuple[Message, ...]:
    """Puts media where their tags stand, and boxes. Pictures without any tag open the first user's turn.

    Where a row has no videos, `<video>` is text; where it has no sounds, `<audio>` is. Raises DataError for another
    number of tags than media.
    """
    said, media = _gathered(list(given), row)
    kinds = {KINDS[kind].tag: kind for kind, found in media.items() if found or kind == "image"}
    for kind in reversed(kinds.values()):
        _tag_all(said, kind, len(media[kind]), row)
    left = {kind: iter(found) for kind, found in media.items()}
    grounded = any(BOX.search(words) for _, words in said)
    if not says(row.fields.get("objects")) and any(tag in words for _, words in said for tag in TAGS):
        raise DataError(f"{where(row)}: {' or '.join(TAGS)} stands in the text, and the row has no 'objects'")
    messages = []
    for role, words in said:
        parts: list[Part] = []
        for piece in re.split(f"({'|'.join(kinds)})", words) if role != "assistant" else [words]:
            if piece in kinds and role != "assistant":
                parts.append(following(left, kinds[piece], row))
            elif piece:
                parts += _grounded(piece, row) if grounded else [TextPart(piece)]
        messages.append(Message(role, tuple(parts)))
    return tuple(messages)


def _gathered(said: Said, row: Row) -> tuple[Said, dict[str, list[MediaPart]]]:
    """The row's media by kind, and its turns with `<image>` wherever a picture stands under another tag."""
    media = {kind: media_of(row, kind) for kind in KINDS}
    if any(IMG.search(words) for _, words in said):
        if media["image"]:
            raise DataError(f"{where(row)}: pictures in the text as <img>...</img>, and others in a column")
        return _written(said, media, row)
    named = named_of(row)
    return _named(said, media, named, row) if named else (said, media)


def _written(said: Said, media: dict[str, list[MediaPart]], row: Row) -> tuple[Said, dict[str, list[MediaPart]]]:
    """Pictures whose paths stand in the text."""
    laid: Said = []
    found: list[MediaPart] = []
    for role, words in said:
        paths = IMG.findall(words)
        if paths and role == "assistant":
            raise DataError(f"{where(row)}: an answer shows a picture, {shown(IMG.search(words)[0])}")  # type: ignore[index]
        if paths and TAG in words:
            raise DataError(f"{where(row)}: pictures in the text as <img>...</img> and as {TAG}")
        found += [KINDS["image"].read(path.strip(), row, None) for path in paths]
        laid.append((role, IMG.sub(TAG, words)))
    return laid, {**media, "image": found}


def _named(
    said: Said, media: dict[str, list[MediaPart]], named: list[tuple[tuple[str, ...], ImagePart]], row: Row
) -> tuple[Said, dict[str, list[MediaPart]]]:
    """Pictures in the order in which their names stand in the text; as they are where none does."""
    numbers = {tag: number for number, (tags, _) in enumerate(named) for tag in tags}
    pattern = re.compile("|".join(map(re.escape, numbers)))
    order = [numbers[tag] for role, words in said if role != "assistant" for tag in pattern.findall(words)]
    if not order:
        return said, media
    for number, (tags, _) in enumerate(named):
        if order.count(number) != 1:
            raise DataError(f"{where(row)}: '{tags[0]}' stands {order.count(number)} times in the text, not once")
    laid = [(role, pattern.sub(TAG, words) if role != "assistant" else words) for role, words in said]
    return laid, {**media, "image": [named[number][1] for number in order]}


def _tag_all(said: Said, kind: str, count: int, row: Row) -> None:
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


def _grounded(words: str, row: Row) -> Iterator[Part]:
    """A text with the boxes in it and the words for them."""
    start = 0
    for found in GROUNDED.finditer(words):
        if found.start() > start:
            yield TextPart(words[start : found.start()])
        start = found.end()
        if found["ref"] is not None:
            yield RefPart(found["ref"])
            continue
        numbers = [[int(edge) for edge in box if edge] for box in CORNERS.findall(found[2])]
        if not numbers or CORNERS.sub("", found[2]).strip(" ,[]\n"):
            raise DataError(f"{where(row)}: {shown(found[0])} holds no box, (x1,y1),(x2,y2) or [[x1, y1, x2, y2]]")
        yield BoxPart(tuple(in_shares(box, 1000, row, "xyxy") for box in numbers))
    if start < len(words):
        yield TextPart(words[start:])
