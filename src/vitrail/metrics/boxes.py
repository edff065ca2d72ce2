"""Boxes and points in answers: read from text in the published styles, compared by overlap and by whether they hit.

Coordinates are thousandths of the picture's width and height, 0 to 1000. Nothing is guessed: a box in pixels or in
fractions is a box in the wrong unit and scores accordingly.
"""

from __future__ import annotations

import re

Box = tuple[float, float, float, float]
"""x1, y1 (top left), x2, y2 (bottom right), in thousandths of the picture; x1 <= x2 and y1 <= y2."""

_N = r"(-?\d{1,6}(?:\.\d{1,6})?)"
_COMMA = r"\s{0,8},\s{0,8}"
_PAIR = rf"\(\s{{0,8}}{_N}{_COMMA}{_N}\s{{0,8}}\)"
_STYLES = (
    rf"\[\s{{0,8}}{_N}{_COMMA}{_N}{_COMMA}{_N}{_COMMA}{_N}\s{{0,8}}\]",  # [x1, y1, x2, y2]
    rf"{_PAIR}\s{{0,8}},?\s{{0,8}}{_PAIR}",  # (x1,y1),(x2,y2)
    rf"<box>\s{{0,8}}{_N}[\s,]{{1,8}}{_N}[\s,]{{1,8}}{_N}[\s,]{{1,8}}{_N}\s{{0,8}}</box>",  # <box>x1 y1 x2 y2</box>
)
# Every repeat is bounded: a hostile answer costs time in proportion to its length, no more.
_BOX = re.compile("|".join(_STYLES))
_POINT = re.compile(rf"\[\s{{0,8}}{_N}{_COMMA}{_N}\s{{0,8}}\]|{_PAIR}")
_DRESSING = re.compile(r"<ref>[^<]*</ref>|</?box>|[\[\]\s.]")
"""What may stand around a box that is the whole text: the phrase it is for, tags, a second pair of brackets."""


def parse_box(text: str, *, whole: bool = False) -> Box | None:
    """Returns the first box written in `text`, or None.

    Reads `[x1, y1, x2, y2]` (also `[[...]]`), `(x1,y1),(x2,y2)`, `<box>x1 y1 x2 y2</box>`, and any of them inside
    `<box>` with a `<ref>` before it. Further boxes are ignored. None also when the first box leaves 0 to 1000 or has
    its corners in the wrong order: it is not repaired, so it scores 0.

    whole: return None unless the box is all that the text says; this tells a truth that is a box from a sentence that
    mentions one.
    """
    found = _BOX.search(text)
    if found is None:
        return None
    if whole and _DRESSING.sub("", text[: found.start()] + text[found.end() :]):
        return None
    x1, y1, x2, y2 = (float(number) for number in found.groups() if number is not None)
    ordered = 0 <= x1 <= x2 <= 1000 and 0 <= y1 <= y2 <= 1000
    return (x1, y1, x2, y2) if ordered else None


def parse_point(text: str) -> tuple[float, float] | None:
    """Returns the first point written in `text`, `[x, y]` or `(x, y)`, or the middle of its first box; or None.

    None also for a point that leaves 0 to 1000.
    """
    box = parse_box(text)
    if box is not None:
        return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    found = _POINT.search(text)
    if found is None:
        return None
    x, y = (float(number) for number in found.groups() if number is not None)
    return (x, y) if 0 <= x <= 1000 and 0 <= y <= 1000 else None


def hits(point: tuple[float, float] | None, target: Box) -> bool:
    """Whether a click falls into its target, edges included. Source: the metric of ScreenSpot (arXiv 2401.10935)."""
    return point is not None and target[0] <= point[0] <= target[2] and target[1] <= point[1] <= target[3]


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1. Equal boxes give 1 even when they have no area.

    Source: the RefCOCO convention, inter / (area a + area b - inter), with continuous coordinates.
    """
    if a == b:
        return 1.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
