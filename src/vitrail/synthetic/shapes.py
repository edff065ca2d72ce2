"""The twelve shapes, drawn large once, scaled down and kept: a mask costs a copy after its first use."""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "cross",
    "diamond",
    "moon",
    "arrow",
    "ring",
    "hourglass",
    "bolt",
)

Point = tuple[float, float]

_FINE = 8
_FAINTEST = 40  # alpha below which a pixel does not count as drawn, so that boxes are as tight as the eye sees them


def plural(shape: str) -> str:
    """More than one of a shape: "crosses", "stars"."""
    return shape + ("es" if shape.endswith(("s", "x", "ch", "sh")) else "s")


@lru_cache(maxsize=1024)
def shape_mask(shape: str, side: int) -> NDArray[np.uint8]:
    """How much of each pixel a shape covers: uint8[h, w], h and w at most `side` px, no empty row or column."""
    fine = Image.new("L", (side * _FINE, side * _FINE), 0)
    _draw(ImageDraw.Draw(fine), shape, float(side * _FINE))
    mask = trim(np.asarray(fine.reduce(_FINE)))
    mask.setflags(write=False)  # the cache hands the same array to everyone
    return mask


def trim(alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy without the faintest pixels and then without the empty rows and columns around: uint8[h, w]."""
    kept = np.where(alpha < _FAINTEST, np.uint8(0), alpha)
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    return kept[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()


def _draw(pen: ImageDraw.ImageDraw, shape: str, side: float) -> None:
    """Fills one shape into a square canvas; corners and circles below are in parts of the side."""

    def disc(x: float, y: float, radius: float, fill: int) -> None:
        pen.ellipse(tuple(side * v for v in (x - radius, y - radius, x + radius, y + radius)), fill=fill)

    if shape in _OUTLINES:
        pen.polygon([(x * side, y * side) for x, y in _OUTLINES[shape]], fill=255)
        return
    assert shape in ("circle", "ring", "moon", "heart"), f"no drawing for {shape}"
    if shape == "heart":
        disc(0.27, 0.32, 0.27, 255)
        disc(0.73, 0.32, 0.27, 255)
        pen.polygon([(x * side, y * side) for x, y in _HEART_TIP], fill=255)
        return
    disc(0.5, 0.5, 0.5, 255)
    if shape == "ring":
        disc(0.5, 0.5, 0.27, 0)
    elif shape == "moon":
        disc(0.76, 0.42, 0.46, 0)


def _star() -> list[Point]:
    radii = (0.53, 0.22)
    corners = [(radii[corner % 2], -pi / 2 + corner * pi / 5) for corner in range(10)]
    return [(0.5 + radius * cos(angle), 0.54 + radius * sin(angle)) for radius, angle in corners]


_HEART_TIP: list[Point] = [(0.06, 0.49), (0.5, 0.3), (0.94, 0.49), (0.5, 1.0)]

_OUTLINES: dict[str, list[Point]] = {
    "square": [(0.05, 0.05), (0.95, 0.05), (0.95, 0.95), (0.05, 0.95)],
    "triangle": [(0.5, 0.03), (1.0, 0.95), (0.0, 0.95)],
    "star": _star(),
    "cross": [
        *((0.33, 0.0), (0.67, 0.0), (0.67, 0.33), (1.0, 0.33), (1.0, 0.67), (0.67, 0.67)),
        *((0.67, 1.0), (0.33, 1.0), (0.33, 0.67), (0.0, 0.67), (0.0, 0.33), (0.33, 0.33)),
    ],
    "diamond": [(0.5, 0.0), (0.92, 0.5), (0.5, 1.0), (0.08, 0.5)],
    "arrow": [
        *((0.0, 0.34), (0.48, 0.34), (0.48, 0.06), (1.0, 0.5)),
        *((0.48, 0.94), (0.48, 0.66), (0.0, 0.66)),
    ],
    "hourglass": [(0.08, 0.0), (0.92, 0.0), (0.57, 0.5), (0.92, 1.0), (0.08, 1.0), (0.43, 0.5)],
    "bolt": [(0.58, 0.0), (0.12, 0.58), (0.42, 0.58), (0.3, 1.0), (0.88, 0.38), (0.56, 0.38), (0.8, 0.0)],
}
