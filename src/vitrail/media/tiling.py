"""Dynamic tiling: a picture becomes square tiles of one size, and a thumbnail.

Sources: InternVL 1.5, arXiv 2404.16821, `dynamic_preprocess`; the tags are NVLM's, arXiv 2409.11402, section 4.2.
Costs a fixed number of tokens a tile: a small picture is enlarged to fill its grid, and its shape is not kept exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import MediaError
from vitrail.contracts.samples import View
from vitrail.media.config import TilesConfig
from vitrail.media.native import MAX_ASPECT, resized

BOX_SCALE = 1000
"""Corners in tags are whole numbers, of so many steps a side."""


class Tiling:
    """As many square views as suit a picture's shape and size; row by row, the thumbnail last."""

    def __init__(self, config: TilesConfig) -> None:
        self.config = config
        self.patch, self.merge = config.patch, config.merge
        self.mean, self.std = config.mean, config.std
        counts = range(1, config.max_tiles + 1)
        pairs = ((columns, rows) for columns in counts for rows in counts)
        allowed = (pair for pair in pairs if config.min_tiles <= pair[0] * pair[1] <= config.max_tiles)
        self._grids = sorted(allowed, key=lambda pair: pair[0] * pair[1])

    @cached_property
    def in_use(self) -> Tiling:
        """With up to `max_tiles_in_use` tiles."""
        most = self.config.max_tiles_in_use
        return Tiling(replace(self.config, max_tiles=most, max_tiles_in_use=None)) if most else self

    def views(self, width: int, height: int, most_tokens: int | None = None) -> tuple[View, ...]:
        """The tiles of a picture of that size, px. Raises MediaError for slivers.

        most_tokens: of all tiles and the thumbnail; a single tile is the least there can be.
        """
        if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
            raise MediaError(f"a picture of {width} x {height} px is too narrow: at most {MAX_ASPECT} times its width")
        columns, rows = self.grid(width, height, most_tokens)
        side, patches = self.config.tile, self.config.tile // self.patch
        tokens = patches // self.merge
        view = View(side, side, patches, patches, tokens, tokens)
        numbers = range(columns * rows)
        tiles = [replace(view, tag=self._tag(number, columns, rows), whole=False) for number in numbers]
        whole = replace(view, tag=self._whole_tag())
        if len(tiles) == 1:
            return (whole,)
        return (*tiles, whole) if self.config.thumbnail else tuple(tiles)

    def grid(self, width: int, height: int, most_tokens: int | None = None) -> tuple[int, int]:
        """Columns and rows of tiles: the shape nearest to the picture's, in proportion.

        Of grids equally near, a larger one is taken if the picture has more than half its pixels.
        """
        grids = self._grids
        if most_tokens is not None:
            grids = [pair for pair in grids if self._tokens(*pair) <= most_tokens] or [(1, 1)]
        best, nearest = grids[0], float("inf")
        for columns, rows in grids:
            off = abs(width / height - columns / rows)
            roomy = width * height > 0.5 * self.config.tile**2 * columns * rows
            if off < nearest or (off == nearest and roomy):
                best, nearest = (columns, rows), off
        return best

    def _tokens(self, columns: int, rows: int) -> int:
        tiles = columns * rows
        return (tiles + (self.config.thumbnail and tiles > 1)) * self.config.tile_tokens

    def _whole_tag(self) -> str:
        """What text says of the whole picture; a digit longer where numbers are, so that all tags are as long."""
        tag = "" if self.config.tags == "none" else self.config.thumbnail_tag
        longer = self.config.tags == "number" and self.config.max_tiles > 9
        return f"{tag[:-1]}0>" if longer and tag.endswith(">") else tag

    def _tag(self, number: int, columns: int, rows: int) -> str:
        """What text says of a tile; numbers of two digits where there are more than nine."""
        row, column = divmod(number, columns)
        match self.config.tags:
            case "number":
                digits = len(str(self.config.max_tiles))
                return f"<tile_{number + 1:0{digits}}>"
            case "grid":
                return f"<tile_x{column}_y{row}>"
            case "box":
                left, right = (round(BOX_SCALE * edge / columns) for edge in (column, column + 1))
                top, bottom = (round(BOX_SCALE * edge / rows) for edge in (row, row + 1))
                return f"<box> ({left}, {top}), ({right}, {bottom}) </box>"
        return ""

    def resized(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.uint8]]:
        """uint8[H, W, 3] to uint8[tile, tile, 3] of every view, bicubic."""
        if self.config.fit == "crop":
            return [_middle(image, self.config.tile)]
        tiles = len(views) - (self.config.thumbnail and len(views) > 1)
        columns, rows = self._shape(image.shape[1], image.shape[0], tiles)
        side = self.config.tile
        whole = resized(image, columns * side, rows * side)
        cut = whole.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
        return [*cut, *([resized(image, side, side)] if len(views) > tiles else [])]

    def _shape(self, width: int, height: int, tiles: int) -> tuple[int, int]:
        """Columns and rows of a picture that was given so many tiles, perhaps under a limit.

        Grids are tried from the smallest on, so the same limit or that very number leads to the same one.
        """
        columns, rows = self.grid(width, height, self._tokens(tiles, 1))
        assert columns * rows == tiles, f"{tiles} tiles are no grid that a picture of {width} x {height} px is given"
        return columns, rows


def _middle(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The middle square of a picture whose shorter side is brought to that length. Source: CLIPImageProcessor."""
    height, width = image.shape[:2]
    shorter, longer = min(height, width), side * max(height, width) // min(height, width)
    whole = resized(image, side if width == shorter else longer, side if height == shorter else longer)
    top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
    return whole[top : top + side, left : left + side]
