"""Where the lines of a page stand: PP-OCR's detector, a map of what is text, and rectangles around its regions.

The map says of each pixel how likely it lies in the core of a line; what is found is grown to the line's own size. On
one core a page of 736 x 736 px takes 0.3 s.
Sources: Differentiable Binarization, arXiv 1911.08947; PaddleOCR's `DBPostProcess` with the thresholds of PP-OCRv6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

from vitrail.media.config import TextLinesConfig
from vitrail.models.reading.regions import Rectangle, around, regions

UNIT = 32
"""Sides of what the detector reads are whole multiples of it, px."""
SMALLEST = 3.0
"""Shorter side of a region, px of the map; below it is dust."""


class LineDetector:
    """uint8[H, W, 3] to rectangles in px of the page."""

    def __init__(self, network: nn.Module, config: TextLinesConfig) -> None:
        """network: float32[1, 3, h, w], BGR from -1 to 1, to a tuple with float32[1, 1, h, w] from 0 to 1."""
        self.network, self.config = network, config

    def __call__(self, picture: NDArray[np.uint8]) -> list[Rectangle]:
        """The lines, in no order."""
        height, width = picture.shape[:2]
        w, h = size_for_detector(width, height, self.config)
        resized = np.asarray(Image.fromarray(picture).resize((w, h), Image.Resampling.BILINEAR))
        with torch.inference_mode():
            (found,) = self.network(as_read([resized]))
        return [one.scaled(width / w, height / h) for one in self._rectangles(found[0, 0].numpy())]

    def _rectangles(self, likely: NDArray[np.float32]) -> list[Rectangle]:
        """From the map, in its own px."""
        mask = likely > self.config.threshold
        # Joins pixels that touch at a corner alone, as PP-OCR's dilation by 2 x 2 does.
        wide = mask.copy()
        wide[1:] |= mask[:-1]
        wide[:, 1:] |= wide[:, :-1].copy()
        found = []
        for points in regions(wide):
            core = around(points)
            if min(core.width, core.height) < SMALLEST or _score(likely, core) < self.config.box_threshold:
                continue
            grown = core.grown(core.width * core.height * self.config.unclip / (2 * (core.width + core.height)))
            if min(grown.width, grown.height) >= SMALLEST + 2:
                # Pixels are counted by their corner from here on, and not by their middle.
                found.append(replace(grown, centre=grown.centre + 0.5))
        return found


def size_for_detector(width: int, height: int, config: TextLinesConfig) -> tuple[int, int]:
    """Width and height that a page is resized to for the detector, px."""
    scale = max(1.0, config.min_side / min(width, height))
    scale = min(scale, config.max_side / max(width, height))
    w, h = (max(UNIT, round(side * scale / UNIT) * UNIT) for side in (width, height))
    return w, h


def as_read(pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
    """RGB uint8[h, w, 3], of one size, to float32[N, 3, h, w] as PP-OCR's networks read it: BGR, from -1 to 1."""
    stacked = torch.from_numpy(np.stack(pictures)[..., ::-1].copy())
    return stacked.permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0)


def _score(likely: NDArray[np.float32], box: Rectangle) -> float:
    """The map's mean within a rectangle."""
    corners = box.corners
    left, top = np.floor(corners.min(0)).astype(int).clip(0)
    right, bottom = np.ceil(corners.max(0)).astype(int) + 1
    part = likely[top:bottom, left:right]
    inside = Image.new("1", (part.shape[1], part.shape[0]))
    ImageDraw.Draw(inside).polygon([(x - left, y - top) for x, y in corners], fill=1)
    chosen = np.asarray(inside)
    return float(part[chosen].mean()) if chosen.any() else 0.0
