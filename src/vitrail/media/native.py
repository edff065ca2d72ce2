"""Native resolution: a picture keeps its aspect ratio and gets as many tokens as its size asks for.

Source: the resize rule of Qwen2-VL (sides rounded to multiples of patch x merge, area held between two limits). With
`sides: up` and `max_side` it is Pixtral's (arXiv 2410.07073; transformers `get_resize_output_image_size`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.contracts.errors import MediaError
from vitrail.contracts.samples import View
from vitrail.media.config import NativeResolutionConfig

MAX_ASPECT = 200
"""A picture longer than this many times its width becomes slivers no encoder was trained on."""


class NativeResolution:
    """One view a picture, of the picture's own shape."""

    def __init__(self, config: NativeResolutionConfig) -> None:
        self.config = config
        self.patch, self.merge = config.patch, config.merge
        self._limits = config.min_tokens, config.max_tokens
        self._max_side = config.max_side
        self._whole = math.ceil if config.sides == "up" else round
        self.mean, self.std = config.mean, config.std

    @property
    def in_use(self) -> NativeResolution:
        """The same: how large pictures may be does not depend on what they are for."""
        return self

    def views(self, width: int, height: int, most_tokens: int | None = None) -> tuple[View, ...]:
        """The single view of a picture of that size, px. Raises MediaError for slivers.

        most_tokens: a lower limit than the rule's own.
        """
        if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
            raise MediaError(f"a picture of {width} x {height} px is too narrow: at most {MAX_ASPECT} times its width")
        least, most = self._limits
        if self.config.max_pixels is not None and (most_tokens is None or most_tokens >= most):
            rows, columns = self._published(width, height)
        else:
            most = most if most_tokens is None else max(1, min(most, most_tokens))
            rows, columns = self._grid(width, height, min(least, most), most)
        unit = self.patch * self.merge
        return (View(rows * unit, columns * unit, rows * self.merge, columns * self.merge, rows, columns),)

    def _published(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of tokens by Qwen2-VL's rule to the letter.

        Source: transformers 5.23, `smart_resize` of `models/qwen2_vl/image_processing_qwen2_vl.py`.
        """
        least, most = self.config.min_pixels, self.config.max_pixels
        assert least is not None, "the two go together"
        assert most is not None, "the two go together"
        unit = self.patch * self.merge
        rows, columns = round(height / unit), round(width / unit)
        if rows * columns * unit**2 > most:
            scale = math.sqrt(height * width / most)
            return max(1, math.floor(height / scale / unit)), max(1, math.floor(width / scale / unit))
        if rows * columns * unit**2 < least:
            scale = math.sqrt(least / (height * width))
            return math.ceil(height * scale / unit), math.ceil(width * scale / unit)
        return rows, columns

    def _grid(self, width: int, height: int, least: int, most: int) -> tuple[int, int]:
        """Rows and columns of tokens.

        The upper limit always holds; the lower one where it is at most a quarter of the upper, since whole rows and
        columns of the picture's shape cannot meet every number between two close limits.
        """
        unit = self.patch * self.merge
        if self._max_side and max(width, height) > self._max_side:
            ratio = max(width, height) / self._max_side
            width, height = max(1, math.floor(width / ratio)), max(1, math.floor(height / ratio))
        rows, columns = self._whole(height / unit), self._whole(width / unit)
        if rows * columns > most:
            scale = math.sqrt(height * width / (most * unit * unit))
            # Both rounded down they fit; where one side is held at a single token, the other alone must.
            rows = min(most, max(1, math.floor(height / scale / unit)))
            columns = min(most, max(1, math.floor(width / scale / unit)))
        elif rows * columns < least:
            # Slivers too: a side that rounds to nothing leaves no tokens at all.
            scale = math.sqrt(least * unit * unit / (height * width))
            rows, columns = math.ceil(height * scale / unit), math.ceil(width * scale / unit)
            rows, columns = _within(rows, columns, most)
        return rows, columns

    def resized(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.uint8]]:
        """uint8[H, W, 3] to uint8[h, w, 3], bicubic."""
        (view,) = views
        return [resized(image, view.width, view.height)]


def resized(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """uint8[H, W, 3] to uint8[height, width, 3], bicubic."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def normalise(patches: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> None:
    """Patches float32[P, 3 * ...], channel by channel, of values from 0 to 255, in place: (x / 255 - mean) / std."""
    channels = patches.reshape(len(patches), 3, -1)
    assert np.shares_memory(channels, patches), "patches lie one after the other"
    channels /= np.float32(255)
    channels -= np.asarray(mean, np.float32)[:, None]
    channels /= np.asarray(std, np.float32)[:, None]


def patchify(pixels: NDArray[Any], patch: int, merge: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """[h, w, 3] of any type to patches [P, 3 * patch * patch] (channel, row, column) and positions int64[P, 2].

    Patches that merge into one token lie together, row by row within the block, so that merging is a reshape.
    """
    return patchify_frames(pixels[None], patch, merge, 1)


def patchify_frames(frames: NDArray[Any], patch: int, merge: int, depth: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """[T, h, w, 3] of any type to patches [P, 3 * depth * patch * patch] and positions int64[P, 2].

    depth: frames of one patch; the last frame is repeated to fill it. Patches come time after time, each time in the
    order of `patchify`, and hold channel, frame, row, column. Each time is a view of its own.
    """
    count, height, width, _ = frames.shape
    unit = patch * merge
    assert (height % unit, width % unit) == (0, 0), f"{height} x {width} px is not whole blocks of {unit} px"
    missing = -count % depth
    if missing:
        frames = np.concatenate([frames, frames[-1:].repeat(missing, axis=0)])
    blocks = frames.reshape(-1, depth, height // unit, merge, patch, width // unit, merge, patch, 3)
    patches = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, 3 * depth * patch * patch)
    positions = np.tile(patch_positions(height // patch, width // patch, merge), (len(blocks), 1))
    return np.ascontiguousarray(patches), np.ascontiguousarray(positions)


def patch_positions(rows: int, columns: int, merge: int) -> NDArray[np.int64]:
    """Row and column of each patch of a view, in the order of `patchify`, int64[rows * columns, 2]."""
    grid = np.indices((rows, columns)).reshape(2, rows // merge, merge, columns // merge, merge)
    return np.ascontiguousarray(grid.transpose(1, 3, 2, 4, 0).reshape(-1, 2))


def _within(rows: int, columns: int, most: int) -> tuple[int, int]:
    """Rounding up to the least number of tokens may overshoot a close upper limit."""
    while rows * columns > most:
        rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
    return rows, columns
