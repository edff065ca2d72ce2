"""How much of what paper and cameras do to a picture a drawn one gets: noise, blur, skew, uneven light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.data.drawn.dice import Dice
from vitrail.media.effects import blurred, lit, noisy, skewed


def worn(dice: Dice, picture: NDArray[np.uint8], amount: float, *, skew: float = 0.0) -> NDArray[np.uint8]:
    """A worn copy of a picture, uint8[H, W, 3].

    amount: 0 for as good as new, 1 for a bad photocopy. skew: largest turn in degrees; what comes in at the corners is
    the picture's own edge colour. Each kind of wear is met in about half of the pictures.
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
