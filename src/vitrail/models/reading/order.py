"""The order in which a page's lines are read: rows from top to bottom, but columns of running text one by one.

What stands side by side is one row (a name and its price, the cells of a table). Only where both sides of a gap are
running text, three lines at least that fill their column, is the left side read before the right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Bounds = NDArray[np.float64]
"""[N, 4]: x1, y1, x2, y2 of upright boxes."""

Interval = tuple[float, float]
FULL = 0.7
"""Share of a column's width that its middling line takes, where it is running text."""
RUNNING = 3
"""Lines that a column of running text has at least."""
BROAD = 6.0
"""Heights of a line that such a column is wide, at least."""


def rows_in_order(bounds: Bounds) -> list[list[int]]:
    """The boxes' numbers, row by row as they are read, each row from left to right. The page stands upright."""
    return _ordered(bounds, _rows(bounds, range(len(bounds))))


def _rows(bounds: Bounds, numbers: Sequence[int]) -> list[list[int]]:
    """Boxes that stand side by side, from top to bottom: each overlaps its neighbour by half of the lower's height."""
    rows: list[list[int]] = []
    middle = (bounds[:, 1] + bounds[:, 3]) / 2
    for number in sorted(numbers, key=lambda one: (middle[one], bounds[one, 0])):
        found = next((row for row in reversed(rows[-3:]) if _beside(bounds, row, number)), None)
        if found is None:
            rows.append([number])
        else:
            found.append(number)
    ordered = [sorted(row, key=lambda one: bounds[one, 0]) for row in rows]
    return sorted(ordered, key=lambda row: float(middle[row].mean()))


def _beside(bounds: Bounds, row: Sequence[int], number: int) -> bool:
    """Whether a box stands in a row, beside its nearest box and over none of them."""
    left, top, right, bottom = bounds[number]

    def apart(other: int) -> float:
        return float(max(bounds[other, 0] - right, left - bounds[other, 2]))

    nearest = min(row, key=apart)
    height = min(bottom - top, bounds[nearest, 3] - bounds[nearest, 1])
    shared = min(bottom, bounds[nearest, 3]) - max(top, bounds[nearest, 1])
    return bool(shared > height / 2) and apart(nearest) > -height


def _ordered(bounds: Bounds, rows: list[list[int]]) -> list[list[int]]:
    """The rows, with each stretch of them that runs in columns read column by column."""
    found: list[list[int]] = []
    at = 0
    while at < len(rows):
        end, gap = _stretch(bounds, rows, at)
        sides = _sides(bounds, rows[at:end], gap) if gap else None
        if sides is None:
            found.append(rows[at])
            at += 1
            continue
        for side in sides:
            found += _ordered(bounds, _rows(bounds, side))
        at = end
    return found


def _stretch(bounds: Bounds, rows: Sequence[Sequence[int]], start: int) -> tuple[int, Interval | None]:
    """The end of the longest stretch of rows from `start` on that share a gap, and its widest gap."""
    gaps: list[Interval] | None = None
    end = start
    for row in rows[start:]:
        spans = [(float(bounds[one, 0]), float(bounds[one, 2])) for one in row]
        inside = _gaps(spans) if gaps is None else [piece for gap in gaps for piece in _free(gap, spans)]
        if gaps is not None and not inside:
            break
        if gaps is None and not inside:
            # A row of one line has no gap of its own: what is free beside it is known from the next row.
            edges = bounds[[one for later in rows[start:] for one in later]]
            whole = float(edges[:, 0].min()), float(edges[:, 2].max())
            inside = _free(whole, spans)
        gaps, end = inside, end + 1
    return end, max(gaps, key=lambda gap: gap[1] - gap[0]) if gaps else None


def _gaps(spans: Sequence[Interval]) -> list[Interval]:
    return [(a[1], b[0]) for a, b in pairwise(spans) if b[0] > a[1]]


def _free(gap: Interval, spans: Sequence[Interval]) -> list[Interval]:
    """What of a gap no span covers."""
    left = [gap]
    for begin, end in spans:
        pieces = [piece for one in left for piece in ((one[0], min(one[1], begin)), (max(one[0], end), one[1]))]
        left = [piece for piece in pieces if piece[1] > piece[0]]
    return left


def _sides(bounds: Bounds, rows: Sequence[Sequence[int]], gap: Interval) -> tuple[list[int], list[int]] | None:
    """The boxes on both sides of a gap, where both are running text."""
    numbers = [one for row in rows for one in row]
    middle = sum(gap) / 2
    left = [one for one in numbers if bounds[one, 2] <= middle]
    right = [one for one in numbers if bounds[one, 0] >= middle]
    return (left, right) if _running(bounds, left) and _running(bounds, right) else None


def _running(bounds: Bounds, numbers: Sequence[int]) -> bool:
    """Whether boxes are lines of running text: a column of them, of which most are full."""
    if len(numbers) < RUNNING:
        return False
    boxes = bounds[numbers]
    width = boxes[:, 2].max() - boxes[:, 0].min()
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    full = float(np.median(boxes[:, 2] - boxes[:, 0])) >= FULL * width
    return bool(full and width >= BROAD * height)
