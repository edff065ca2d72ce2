"""A picture within one square of fixed size, its shape kept and the rest filled with a colour.

Source: DeepSeek-VL, arXiv 2403.05525; `PaddedConfig` names the files. Costs the same tokens for every picture, of which
a narrow one wastes most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.contracts.errors import MediaError
from vitrail.contracts.samples import View
from vitrail.media.config import PaddedConfig
from vitrail.media.native import MAX_ASPECT, resized


class Padded:
    """One square view a picture."""

    def __init__(self, config: PaddedConfig) -> None:
        self.config = config
        self.patch, self.merge = config.patch, config.merge
        self.mean, self.std = config.mean, config.std

    @property
    def in_use(self) -> Padded:
        """The same: how large pictures are does not depend on what they are for."""
        return self

    def views(self, width: int, height: int, most_tokens: int | None = None) -> tuple[View, ...]:
        """The single view, whatever the picture's size, px. Raises MediaError for slivers.

        most_tokens: passed over; there is no smaller view.
        """
        if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
            raise MediaError(f"a picture of {width} x {height} px is too narrow: at most {MAX_ASPECT} times its width")
        side = self.config.side
        patches, tokens = side // self.patch, side // (self.patch * self.merge)
        return (View(side, side, patches, patches, tokens, tokens),)

    def inner(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a picture of that size within the first square that is made, px."""
        side = self.config.larger or self.config.side

        def scaled(length: int) -> int:
            longest = max(width, height)
            # As the two sources compute it: their results differ where the quotient is nearly a half, or whole.
            whole = int(length / longest * side) if self.config.sides == "down" else round(length * (side / longest))
            return max(whole, self.config.least)

        return scaled(width), scaled(height)

    def resized(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.uint8]]:
        """uint8[H, W, 3] to uint8[side, side, 3]: resized, bicubic, in the middle of the square."""
        side, first = self.config.side, self.config.larger or self.config.side
        width, height = self.inner(image.shape[1], image.shape[0])
        square = np.empty((first, first, 3), np.uint8)
        square[:] = self.config.colour
        left, top = (first - width) // 2, (first - height) // 2
        square[top : top + height, left : left + width] = resized(image, width, height)
        if first == side:
            return [square]
        if self.config.shrink == "bicubic":
            return [resized(square, side, side)]
        return [np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR))]
