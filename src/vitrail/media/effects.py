"""What paper and cameras do to a picture, one function an effect: uint8[H, W, 3] to uint8[H, W, 3], seeded.

Some ten to fifty milliseconds a megapixel each. Drawn data and augmentation share them; drawn pictures are compared bit
for bit, so what an effect does to a given picture and dice does not change.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vitrail.media.dice import Dice

_TILE = 512


def skewed(picture: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Turned about its middle, bilinear."""
    turned = Image.fromarray(picture).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=edge_colour(picture))
    return np.asarray(turned)


def edge_colour(picture: NDArray[np.uint8]) -> tuple[int, ...]:
    """The median colour of the first and the last row: what lies around a picture that is turned or bent."""
    return tuple(int(level) for level in np.median(np.concatenate([picture[0], picture[-1]]), axis=0))


def blurred(picture: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    """Out of focus by a Gaussian of that many px."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def lit(dice: Dice, picture: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """Light that falls off by up to `reach` levels from one side to the other."""
    height, width = picture.shape[:2]
    across, down = dice.spread(reach), dice.spread(reach)
    fall = np.linspace(-across, across, width)[None, :] + np.linspace(-down, down, height)[:, None]
    return _levels(picture + fall[:, :, None] - abs(across) / 2 - abs(down) / 2)


def noisy(dice: Dice, picture: NDArray[np.uint8], deviation: float) -> NDArray[np.uint8]:
    """Grain of that standard deviation, the same in all three channels."""
    height, width = picture.shape[:2]
    top, left = dice.below(_TILE), dice.below(_TILE)
    grain = _grain().take(range(top, top + height), 0, mode="wrap").take(range(left, left + width), 1, mode="wrap")
    return _levels(picture + deviation * grain[:, :, None])


@lru_cache(maxsize=1)
def _grain() -> NDArray[np.float32]:
    """A tile of unit grain: sums of uniform draws, which come out the same with every version of numpy."""
    dice = Dice("grain")
    values = np.array([dice.spread(1.0) for _ in range(_TILE * 64)], np.float32)
    # Sums of four shifted copies are as good as normal here, and of a tile with no visible period.
    rows = np.stack([np.roll(values, 7919 * copy).reshape(64, _TILE) for copy in range(32)])
    return np.concatenate([rows[copy] + rows[(copy + 3) % 32] + rows[(copy + 11) % 32] for copy in range(8)])


def _levels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(values, 0, 255).astype(np.uint8)
