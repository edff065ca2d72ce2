"""Llama 3.2 Vision's pictures: each keeps its shape on the canvas of whole tiles that it fills best; the rest is black.

Costs the tokens of all tiles that a canvas may have, whatever it has: those of tiles that are not there are padding.
Source: transformers 5.23, `models/mllama/image_processing_pil_mllama.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.contracts.errors import MediaError
from vitrail.contracts.samples import View
from vitrail.media.config import CanvasConfig
from vitrail.media.native import MAX_ASPECT


class Canvas:
    """One view a picture."""

    merge = 1

    def __init__(self, config: CanvasConfig) -> None:
        self.config = config
        self.patch = config.patch
        self.mean, self.std = config.mean, config.std

    @property
    def in_use(self) -> Canvas:
        """The same."""
        return self

    def views(self, width: int, height: int, most_tokens: int | None = None) -> tuple[View, ...]:
        """The canvas of a picture of that size, px; its tokens are always as many. Raises MediaError for slivers."""
        if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
            raise MediaError(f"a picture of {width} x {height} px is too narrow: at most {MAX_ASPECT} times its width")
        rows, columns = self.grid(width, height)
        tile, side, of_tile = self.config.tile, self.config.tile // self.patch, self.config.tile_tokens
        missing = self.config.max_tiles - rows * columns
        view = View(
            rows * tile,
            columns * tile,
            rows * side,
            columns * side,
            self.config.max_tiles,
            of_tile,
            padding=missing * of_tile,
        )
        return (view,)

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of the canvas that enlarges the picture least; else of the one that shrinks it least. Of
        canvases that scale it alike, the smallest."""
        grids = self.config.grids
        scales = [min(self.config.tile * rows / height, self.config.tile * columns / width) for rows, columns in grids]
        enlarging = [scale for scale in scales if scale >= 1]
        chosen = min(enlarging) if enlarging else max(scales)
        fitting = [grid for grid, scale in zip(grids, scales, strict=True) if scale == chosen]
        return min(fitting, key=lambda grid: grid[0] * grid[1])

    def resized(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.uint8]]:
        """uint8[H, W, 3] in the upper left corner of uint8[h, w, 3], bilinear."""
        (view,) = views
        height, width = _within(image.shape[0], image.shape[1], view.height, view.width, self.config.tile)
        small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        whole = np.zeros((view.height, view.width, 3), np.uint8)
        whole[:height, :width] = np.asarray(small)
        return [whole]


def _within(height: int, width: int, canvas_height: int, canvas_width: int, tile: int) -> tuple[int, int]:
    """Height and width of a picture on its canvas; enlarged no further than to one tile."""
    most_height, most_width = min(max(height, tile), canvas_height), min(max(width, tile), canvas_width)
    by_height, by_width = most_height / height, most_width / width
    if by_width < by_height:
        return min(math.floor(height * by_width) or 1, most_height), most_width
    return most_height, min(math.floor(width * by_height) or 1, most_width)
