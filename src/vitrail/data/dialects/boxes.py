"""Boxes as rows give them, read into shares of their picture; how they are written is the prompt's business.

Among the parts of a message: {"type": "box", "box": [x1, y1, x2, y2], "scale": 1000}, or several in "boxes", and the
words for them: {"type": "ref", "text": "the dog"}. scale: what the whole width and height are in those numbers, or
[width, height] for pixels; there is no default, since none can be told from the numbers.

In a column, for `<ref-object>` and `<bbox>` in the texts to stand for, in order (ms-swift):
{"objects": {"ref": ["the dog"], "bbox": [[x1, y1, x2, y2]]}}. bbox_type: `real` for pixels of the picture, as where it
is not said, `norm1` for shares, `norm1000` for thousandths. image_id: which of the row's pictures each lies in, from 0;
the first where it is not said.

A box that leaves its scale or whose corners are in the wrong order is refused, never moved. Pixels ask for the size of
the picture, some 50 us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import (
    Box,
    BoxPart,
    ImagePart,
    MediaPart,
    Message,
    Part,
    RefPart,
    Row,
    TextPart,
    VideoPart,
    is_url,
)
from vitrail.data.dialects.keys import Keys, inside, reading_of, says
from vitrail.data.dialects.values import text, where
from vitrail.data.sources.config import BoxFormat
from vitrail.prompts.boxes import scaled

REF, BBOX = "<ref-object>", "<bbox>"
TAGS = (REF, BBOX)
"""What stands for a ref and for a box of `objects`."""

SCALES = {"norm1": 1, "norm1000": 1000}


def boxes(piece: Keys, row: Row) -> BoxPart:
    """A part of boxes in a picture."""
    given: Any = piece["boxes"] if "boxes" in piece else [piece.get("box")]
    scale: Any = piece.get("scale")
    pair = isinstance(scale, list) and len(scale) == 2
    if not (_number(scale) or (pair and all(map(_number, scale)))):
        raise DataError(f"{where(row)}: a box needs a 'scale': 1, 100, 1000, or the picture's [width, height]")
    if not isinstance(given, list) or not given:
        raise DataError(f"{where(row)}: a box must be [x1, y1, x2, y2], got {given!r:.60}")
    return BoxPart(tuple(in_shares(box, scale, row) for box in given))


def in_shares(given: Any, scale: float | Sequence[float], row: Row, box_format: BoxFormat | None = None) -> Box:
    """Four numbers as shares of the picture. scale: as in `prompts.boxes.scaled`. box_format: the source's if None.

    Raises DataError, with the numbers, for a box that is none, leaves the picture, or has its corners the other way.
    """
    if not isinstance(given, list | tuple) or len(given) != 4 or not all(map(_edge, given)):
        raise DataError(f"{where(row)}: a box must be [x1, y1, x2, y2], got {given!r:.60}")
    how = box_format or reading_of(row).box_format
    x1, y1, x2, y2 = given
    if how == "xywh":
        x2, y2 = round(x1 + x2, 9), round(y1 + y2, 9)
    width, height = scale if isinstance(scale, Sequence) else (scale, scale)
    said = f"{where(row)}: the box {list(given)}" + (" (x, y, width, height)" if how == "xywh" else "")
    if not (x1 <= x2 and y1 <= y2):
        hint = "; x, y, width and height are read where the source says box_format: xywh" if how == "xyxy" else ""
        raise DataError(f"{said} has its corners in the wrong order, [x1, y1, x2, y2] is wanted{hint}")
    if not (x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height):
        raise DataError(f"{said} lies outside of its scale, {width:g} wide and {height:g} high")
    return scaled((x1, y1, x2, y2), scale)


def placed(messages: tuple[Message, ...], row: Row) -> tuple[Message, ...]:
    """The messages with what `objects` holds where its tags stand. Raises DataError where their numbers differ."""
    given = row.fields.get("objects")
    if not says(given):
        return messages
    if not isinstance(given, Mapping):
        raise DataError(f"{where(row)}: 'objects' must be an object with 'ref' and 'bbox', got {given!r:.60}")
    objects = inside(given, row, "'objects'")
    found = {REF: _refs(objects, row), BBOX: _boxes(objects, messages, row)}
    texts = [part.text for message in messages for part in message.parts if isinstance(part, TextPart)]
    for tag, several in found.items():
        count = sum(words.count(tag) for words in texts)
        if count != len(several):
            what = "'objects.ref'" if tag == REF else "'objects.bbox'"
            raise DataError(f"{where(row)}: {count} {tag} tags but {len(several)} in {what}")
    left = {tag: iter(several) for tag, several in found.items()}
    return tuple(replace(one, parts=tuple(_split(one.parts, left))) for one in messages)


def _split(parts: Sequence[Part], left: Mapping[str, Iterator[Part]]) -> Iterator[Part]:
    for part in parts:
        if not isinstance(part, TextPart):
            yield part
            continue
        for piece in re.split(f"({REF}|{BBOX})", part.text):
            if piece in left:
                yield next(left[piece])
            elif piece:
                yield TextPart(piece)


def _refs(objects: Keys, row: Row) -> list[Part]:
    given = objects.get("ref") or []
    if not isinstance(given, list):
        raise DataError(f"{where(row)}: 'ref' of 'objects' must be a list of texts, got {given!r:.60}")
    return [RefPart(text(one, row, "a ref")) for one in given]


def _boxes(objects: Keys, messages: Sequence[Message], row: Row) -> list[Part]:
    given, kind, which = objects.get("bbox") or [], objects.get("bbox_type") or "real", objects.get("image_id") or []
    if not isinstance(given, list) or not isinstance(which, list) or len(which) not in (0, len(given)):
        raise DataError(f"{where(row)}: 'bbox' of 'objects' must be a list of boxes, 'image_id' one of their pictures")
    if kind != "real" and kind not in SCALES:
        raise DataError(f"{where(row)}: 'bbox_type' must be real, {' or '.join(SCALES)}, got {kind!r:.60}")
    media = [part for message in messages for part in message.parts if isinstance(part, MediaPart)]
    pictures = [part for part in media if isinstance(part, ImagePart) and not isinstance(part, VideoPart)]
    found: list[Part] = []
    for number, one in enumerate(given):
        scale = SCALES[kind] if kind in SCALES else _size(pictures, which[number] if which else 0, row)
        several = one if isinstance(one, list) and one and isinstance(one[0], list) else [one]
        found.append(BoxPart(tuple(in_shares(box, scale, row) for box in several)))
    return found


def _size(pictures: Sequence[ImagePart], number: Any, row: Row) -> tuple[int, int]:
    """Width and height of a picture of the row."""
    if not isinstance(number, int) or not 0 <= number < len(pictures):
        raise DataError(f"{where(row)}: a box lies in picture {number!r:.60}, the row has {len(pictures)}")
    from vitrail.media.image import size  # here, since recipes are read without Pillow

    content = pictures[number].content
    if is_url(content):
        raise DataError(
            f"{where(row)}: boxes in pixels need their picture's size, which is not known of an address: give them in "
            "shares, with 'bbox_type': 'norm1'"
        )
    try:
        return size(content)
    except MediaError as error:
        raise MediaError(f"{where(row)}: {error}") from error


def _number(given: Any) -> bool:
    return _edge(given) and given > 0


def _edge(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)
