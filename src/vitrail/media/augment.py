"""Augmentation for models that read: the same picture a little turned, bent, coloured and noisy, of the same size.

A pure function of the picture, the configuration and a key, on one version of Pillow. Costs some 30 ms a megapixel at
the default strengths, 60 where all four kinds fall on one picture: several times what decoding a JPEG of it takes.
Source: the kinds are those that Kimi-VL's report names for its OCR data (arXiv 2504.07491); their strength is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import atan, cos, pi, radians, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from vitrail.media.config import AugmentConfig
from vitrail.media.dice import Dice
from vitrail.media.effects import edge_colour, noisy

Key = Sequence[str | int]
"""Names the draws of one picture: for example (seed, epoch, sample id, number of the picture)."""

MESH = 8
"""Cells per side of the mesh that bends a picture."""

SMALLEST = 32
"""Pictures with a shorter side than this, px, are neither turned nor bent."""

STEEPEST = 0.1
"""A long picture turns less: its ends move by at most this share of its shorter side."""

BOXES = re.compile(
    r"<\|?/?(?:box|point|quad|ref|bbox)[^<>]*>"  # tags of boxes and points, in any system's spelling
    r"|[\[(<]\s{0,2}-?[\d.]{1,12}%?(?:\s{0,2},\s{0,2}|\s)-?[\d.]{1,12}"  # (12, 34), [1, 2, 3, 4]
    r"|\b[xy]\d?\b[\"']?\s{0,2}[=:]\s{0,2}-?\d",  # x=12, "y1": 34
    re.IGNORECASE,
)


def augmented(
    image: NDArray[np.uint8], config: AugmentConfig, seed_key: Key, *, still: bool = False
) -> NDArray[np.uint8]:
    """An augmented copy of a picture, uint8[H, W, 3] to uint8[H, W, 3].

    still: nothing in the picture moves, for samples that know where something stands in it. Colour and noise are the
    same with and without.
    """
    height, width, _ = image.shape
    warp = None if still else drawn_warp(width, height, config, seed_key)
    if warp is not None:
        image = warp.picture(image)
    dice = Dice("augment", "colour", *seed_key)
    if config.colour and dice.chance(config.share):
        image = _coloured(dice, image, config.colour)
    dice = Dice("augment", "noise", *seed_key)
    if config.noise and dice.chance(config.share):
        image = noisy(dice, image, config.noise * dice.between(10, 100) / 100)
    return image


@dataclass(frozen=True)
class Augmentation:
    """`augmented` with everything but the picture given; key: names the sample."""

    config: AugmentConfig
    key: tuple[str | int, ...]
    still: bool

    def __call__(self, image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """uint8[H, W, 3] to the same; number: of the picture in its sample."""
        return augmented(image, self.config, (*self.key, number), still=self.still)


def speaks_of_boxes(texts: Iterable[str]) -> bool:
    """Whether any of the texts seems to name boxes or points in a picture: then it must be augmented `still`.

    Pairs of numbers in brackets, tags of boxes and points, x and y with numbers. A formula such as f(1, 2) counts too:
    it costs a picture its rotation, while one that is missed would be taught wrong.
    """
    return any(BOXES.search(text) for text in texts)


@dataclass(frozen=True)
class Warp:
    """Where each point of an augmented picture comes from.

    columns, rows: int64[MESH + 1], px in the augmented picture. source: float64[MESH + 1, MESH + 1, 2], x and y of the
    nodes in the picture as it was, px; bilinear between them. turn: float64[2, 2], the rotation and the scale in it.
    """

    columns: NDArray[np.int64]
    rows: NDArray[np.int64]
    source: NDArray[np.float64]
    turn: NDArray[np.float64]

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8[H, W, 3] of the size the warp was drawn for, bilinear; what comes in is of the edge's colour."""
        height, width, _ = image.shape
        cells = []
        for row in range(MESH):
            for column in range(MESH):
                box = tuple(
                    int(edge[at + on]) for on in (0, 1) for edge, at in ((self.columns, column), (self.rows, row))
                )
                corners = self.source[row : row + 2, column : column + 2]
                quad = [*corners[0, 0], *corners[1, 0], *corners[1, 1], *corners[0, 1]]
                cells.append((box, tuple(float(value) for value in quad)))
        bent = Image.fromarray(image).transform(
            (width, height), Image.Transform.MESH, cells, Image.Resampling.BILINEAR, fillcolor=edge_colour(image)
        )
        return np.asarray(bent)

    def points(self, points_in: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points of the picture stand in the augmented one: float64[N, 2], shares of width and of height."""
        size = np.array([self.columns[-1], self.rows[-1]], np.float64)
        wanted = points_in * size
        found = wanted.copy()
        back = np.linalg.inv(self.turn)
        for _ in range(16):  # each step leaves at most a third of the error: the bend is gentle
            found += (wanted - self._comes_from(found)) @ back.T
        return found / size

    def _comes_from(self, points_in: NDArray[np.float64]) -> NDArray[np.float64]:
        column, across = _cell(self.columns, points_in[:, 0])
        row, down = _cell(self.rows, points_in[:, 1])
        upper = self.source[row, column] * (1 - across) + self.source[row, column + 1] * across
        lower = self.source[row + 1, column] * (1 - across) + self.source[row + 1, column + 1] * across
        return upper * (1 - down) + lower * down


def drawn_warp(width: int, height: int, config: AugmentConfig, seed_key: Key) -> Warp | None:
    """The turn and the bend that a picture of that size (px) gets; None when it gets neither.

    The picture is made smaller by as much as keeps all of it inside: no letter at the edge is lost.
    """
    dice = Dice("augment", "warp", *seed_key)
    turns, bends = dice.chance(config.share), dice.chance(config.share)
    shorter, longer = min(width, height), max(width, height)
    most = min(radians(config.rotation), atan(STEEPEST * shorter / longer))
    angle = dice.spread(most) if turns else 0.0
    reach = config.distortion * shorter if bends else 0.0
    if shorter < SMALLEST or not (angle or reach):
        return None
    columns, rows = (np.rint(np.linspace(0, side, MESH + 1)).astype(np.int64) for side in (width, height))
    x, y = np.meshgrid(columns / width, rows / height)
    bend = np.stack([_wave(dice, x, y, reach), _wave(dice, x, y, reach)], axis=-1)
    # On each edge of the augmented picture, the source must lie on or beyond the same edge.
    straight, slant = cos(angle), abs(sin(angle))
    scale = max(
        width / (width * straight - height * slant - 2 * reach),
        height / (height * straight - width * slant - 2 * reach),
    )
    turn = scale * np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
    middle = np.array([width, height]) / 2
    from_middle = np.stack([x * width, y * height], axis=-1) - middle
    return Warp(columns, rows, middle + from_middle @ turn.T + scale * bend, turn)


def _wave(dice: Dice, x: NDArray[np.float64], y: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Shifts of up to `reach`: half from corners that each go their own way, half from a wave of up to one period."""
    near, far, low, lower = (dice.spread(0.5) for _ in range(4))
    corners = (near * (1 - x) + far * x) * (1 - y) + (low * (1 - x) + lower * x) * y
    along, down, phase = dice.spread(1.0), dice.spread(1.0), dice.spread(1.0)
    return reach * (corners + 0.5 * np.sin(2 * pi * (along * x + down * y + phase)))


def _cell(edges: NDArray[np.int64], at: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The cell each coordinate lies in, and how far into it, float64[N, 1]. The last cells go on beyond the edge."""
    cell = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, MESH - 1)
    return cell, ((at - edges[cell]) / (edges[cell + 1] - edges[cell]))[:, None]


def _coloured(dice: Dice, image: NDArray[np.uint8], colour: float) -> NDArray[np.uint8]:
    """Contrast and saturation by a factor of 1 +- colour, brightness by 64, tints by 32 levels times colour."""
    contrast, brightness = 1 + dice.spread(colour), dice.spread(64 * colour)
    tints = [dice.spread(32 * colour) for _ in range(3)]
    saturation = 1 + dice.spread(colour)
    levels = np.arange(256) - 127.5
    tables = [np.clip(127.5 + contrast * levels + brightness + tint + 0.5, 0, 255).astype(int) for tint in tints]
    picture = Image.fromarray(image).point(np.concatenate(tables).tolist())
    return np.asarray(ImageEnhance.Color(picture).enhance(saturation))
