"""The nameable colours that things are drawn in, the plain papers behind them, and how a finished picture wears."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vitrail.media.dice import Dice
from vitrail.media.effects import blurred, lit, noisy, skewed

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 24, 24),
    "orange": (255, 132, 0),
    "yellow": (255, 222, 0),
    "lime": (150, 232, 20),
    "green": (0, 128, 52),
    "cyan": (0, 206, 226),
    "blue": (24, 64, 226),
    "purple": (128, 22, 164),
    "pink": (255, 128, 192),
    "brown": (124, 68, 22),
    "grey": (132, 132, 132),
    "black": (10, 10, 10),
}

BRIGHT_INKS = frozenset({"orange", "yellow", "lime", "cyan", "pink"})
"""Colours that text is hard to read in on light paper; they are written on dark paper."""

_LIGHT_PAPERS = ((250, 250, 250), (247, 243, 232), (234, 242, 249), (236, 246, 236), (248, 238, 241), (238, 238, 240))
_DARK_PAPERS = ((38, 38, 42), (22, 34, 62), (48, 34, 28), (26, 48, 38))
_SLOPE = 5.0


def paper(dice: Dice, width: int, height: int, *, dark: bool = False) -> NDArray[np.uint8]:
    """A plain sheet, uint8[height, width, 3]: one tint that drifts by a few levels from side to side."""
    tint = np.array(dice.pick(_DARK_PAPERS if dark else _LIGHT_PAPERS), dtype=np.float32)
    across, down = dice.spread(_SLOPE / 2), dice.spread(_SLOPE / 2)
    drift = across * _ramp(width)[None, :] + down * _ramp(height)[:, None]
    sheet = tint + drift[:, :, None]
    return np.minimum(sheet, 255.0).astype(np.uint8)


def ink(picture: NDArray[np.uint8], alpha: NDArray[np.uint8], colour: str, left: int, top: int) -> None:
    """Lays one colour on the picture, in place.

    picture: uint8[H, W, 3]. alpha: uint8[h, w], how much of the colour each pixel takes; it must lie inside the
    picture. left, top: where its upper left corner goes, px.
    """
    height, width = alpha.shape
    spot = picture[top : top + height, left : left + width]
    assert spot.shape[:2] == alpha.shape, "the mask leaves the picture"
    weight = alpha[:, :, None].astype(np.int32)
    spot[:] = (spot * (255 - weight) + np.array(COLOURS[colour]) * weight + 127) // 255


def worn(dice: Dice, picture: NDArray[np.uint8], amount: float, *, skew: float = 0.0) -> NDArray[np.uint8]:
    """A worn copy of a picture, uint8[H, W, 3].

    amount: 0 for as good as new, 1 for a bad photocopy. skew: largest rotation in degrees; what comes in at the corners
    is the picture's own edge colour. Each kind of wear is met in about half of the pictures.
    """
    if skew and dice.chance(0.5):
        picture = skewed(picture, dice.spread(skew))
    if dice.chance(0.4 * amount):
        picture = blurred(picture, 0.3 + 0.5 * amount * dice.between(0, 100) / 100)
    if dice.chance(0.5):
        picture = lit(dice, picture, 24 * amount)
    if dice.chance(0.6):
        picture = noisy(dice, picture, 14 * amount * dice.between(10, 100) / 100)
    return picture


@lru_cache(maxsize=32)
def _ramp(length: int) -> NDArray[np.float32]:
    return np.linspace(-1.0, 1.0, length, dtype=np.float32)
