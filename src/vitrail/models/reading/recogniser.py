"""What is written in a line: PP-OCR's recogniser, with what it saw of each character before it named it.

A line is 48 px high; every 8 px of its width become one column of features, most of them blanks. A character is a run
of columns of one name: its feature is their mean, its confidence the highest probability in it. On one core 15 lines
of 320 px a second. Source: PP-OCRv6's recogniser; CTC, Graves et al. 2006.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from vitrail.models.reading.detector import as_read
from vitrail.models.reading.regions import Rectangle

HEIGHT = 48
"""Of a line as it is read, px."""
COLUMN = 8
"""Px of a line's width that become one column."""
STEP = 32
"""Widths are filled up to whole multiples of it, so that lines of like width are read together; px."""
TOGETHER = 8
"""Lines that are read at once, at most."""
WIDEST = 4096
"""Of a line as it is read, px; a longer one is squeezed."""
INK = 0.4
"""Of the strongest contrast in a line, above which a pixel is ink."""
REACH = 1.5
"""Columns that a character takes to either side of its middle, at most."""


@dataclass(frozen=True)
class Reading:
    """text: C characters. confidence: float32[C]. spans: float32[C, 2], where each begins and ends, in shares of the
    line's width. features: float32[C, F]."""

    text: str
    confidence: NDArray[np.float32]
    spans: NDArray[np.float32]
    features: NDArray[np.float32]


class LineRecogniser:
    """Crops of lines to what is written in them."""

    def __init__(self, network: nn.Module, characters: Sequence[str]) -> None:
        """network: float32[N, 3, 48, w] to features [N, w / 8, F] and scores [N, w / 8, V]. characters: V, the first
        of which is the blank."""
        self.network, self.characters = network, characters

    def __call__(self, crops: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        """Readings of uint8[48, w, 3]. Each is a function of its crop alone, whatever it is read together with."""
        groups: dict[int, list[int]] = defaultdict(list)
        for number, crop in enumerate(crops):
            groups[-(-crop.shape[1] // STEP) * STEP].append(number)
        found: dict[int, Reading] = {}
        for width, members in groups.items():
            for start in range(0, len(members), TOGETHER):
                numbers = members[start : start + TOGETHER]
                for number, reading in zip(numbers, self._read([crops[one] for one in numbers], width), strict=True):
                    found[number] = reading
        return [found[number] for number in range(len(crops))]

    def _read(self, crops: Sequence[NDArray[np.uint8]], width: int) -> list[Reading]:
        batch = torch.zeros(len(crops), 3, HEIGHT, width)
        for number, crop in enumerate(crops):
            batch[number, :, :, : crop.shape[1]] = as_read([crop])[0]
        with torch.inference_mode():
            features, scores = self.network(batch)
            highest, names = scores.max(-1)
            likely = (highest - scores.logsumexp(-1)).exp()
        seen = zip(crops, features.numpy(), names.numpy(), likely.numpy(), strict=True)
        return [self._merged(crop.shape[1], *columns) for crop, *columns in seen]

    def _merged(
        self, width: int, features: NDArray[np.float32], names: NDArray[np.int64], likely: NDArray[np.float32]
    ) -> Reading:
        """Columns of one line: equal neighbours are one character, blanks none."""
        names = names[: -(-width // COLUMN)]
        begins = np.flatnonzero(np.diff(names, prepend=-1))
        ends = np.append(begins[1:], len(names))
        runs = [(begin, end) for begin, end in zip(begins, ends, strict=True) if names[begin]]
        if not runs:
            empty = np.zeros((0, features.shape[1]), np.float32)
            return Reading("", empty[:, 0], np.zeros((0, 2), np.float32), empty)
        text = [self.characters[names[begin]] for begin, _ in runs]
        # A name of several characters, if there is one, stands as many times.
        times = [len(one) for one in text]
        middle = np.array([(begin + end) / 2 for begin, end in runs])
        confidence = np.array([likely[begin:end].max() for begin, end in runs], np.float32)
        means = np.stack([features[begin:end].mean(0) for begin, end in runs])
        spans = _spans(middle) * COLUMN / width
        repeated = (np.repeat(one, times, 0) for one in (confidence, spans.clip(0, 1).astype(np.float32), means))
        return Reading("".join(text), *repeated)


def _spans(middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Begin and end of each character, [C, 2]: half-way to its neighbours, but never far from its middle."""
    between = (middle[1:] + middle[:-1]) / 2
    begins = np.maximum(np.append(-np.inf, between), middle - REACH)
    ends = np.minimum(np.append(between, np.inf), middle + REACH)
    return np.stack([begins, ends], 1)


def inked(crop: NDArray[np.uint8], spans: NDArray[np.float32]) -> NDArray[np.float64]:
    """Where the ink of each character lies, float64[C, 4]: x1, y1, x2, y2 in shares of a line's crop uint8[48, w, 3].

    What stands out from the paper half as much as the darkest of it does is ink. A character without any keeps its span
    and the line's height.
    """
    grey = crop.astype(np.float64).mean(2)
    strength = np.abs(grey - np.median(grey))
    mask = strength > INK * np.quantile(strength, 0.98)
    height, width = mask.shape
    boxes = np.empty((len(spans), 4))
    for number, (begin, end) in enumerate(spans.astype(np.float64) * width):
        first, last = int(begin), max(int(begin) + 1, round(end))
        part = mask[:, first:last]
        columns, rows = np.flatnonzero(part.any(0)), np.flatnonzero(part.any(1))
        boxes[number] = (begin, 0, end, height)
        if len(columns):
            boxes[number] = (first + columns[0], rows[0], first + columns[-1] + 1, rows[-1] + 1)
    shares: NDArray[np.float64] = boxes / np.array([width, height, width, height])
    return shares


def crop(picture: Image.Image, line: Rectangle) -> NDArray[np.uint8]:
    """uint8[48, w, 3] of a line that lies in a page, turned level; a larger one is averaged, not sampled."""
    width, height = max(1.0, line.width), max(1.0, line.height)
    across = np.array([-line.along[1], line.along[0]])
    # Pillow asks for the way back, from a pixel of the crop to one of the page.
    shrink = 1.0 if height > HEIGHT else HEIGHT / height
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    x, y = line.along * width / size[0], across * height / size[1]
    origin = line.corners[0]
    way = (x[0], y[0], origin[0], x[1], y[1], origin[1])
    cut = picture.transform(size, Image.Transform.AFFINE, way, Image.Resampling.BICUBIC)
    level = min(WIDEST, max(COLUMN, round(HEIGHT * cut.width / cut.height)))
    return np.asarray(cut.resize((level, HEIGHT), Image.Resampling.BICUBIC))
