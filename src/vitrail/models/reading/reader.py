"""A picture of a page to its lines of text, by PP-OCR's detector and recogniser in torch.

The networks are read from the ONNX files at first use, once a process (0.2 s, 35 MB); a reader itself is a few names,
and travels to worker processes. A receipt of 20 lines takes about a second on one core, most of it the recogniser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.contracts.pages import Line, Page
from vitrail.disk import digest
from vitrail.media.config import TextLinesConfig
from vitrail.models.backbones.weights_source import WHEEL, carried_by
from vitrail.models.onnx.network import OnnxNetwork
from vitrail.models.onnx.reading import Graph, Operation, read
from vitrail.models.reading.detector import LineDetector
from vitrail.models.reading.order import rows_in_order
from vitrail.models.reading.recogniser import LineRecogniser, Reading, crop, inked
from vitrail.models.reading.regions import Rectangle

DETECTOR, RECOGNISER = "*_det_*.onnx", "*_rec_*.onnx"
CHARACTERS = "character"
"""Name of the recogniser's alphabet in the metadata of its file: a character a line."""
UPRIGHT = 1.5
"""A line so many times higher than wide is written downwards or upwards."""
VERSION = 2
"""Of what is made of a page; kept readings of another one are not used."""


@dataclass(frozen=True)
class TextReader:
    """Reads pages. Not to be changed: equal readers read alike."""

    config: TextLinesConfig

    def __call__(self, picture: NDArray[np.uint8]) -> Page:
        """uint8[H, W, 3] to its lines, in reading order. Raises WeightsError where the networks cannot be had."""
        detector, recogniser = _networks(*self.files, self.config)
        page = Image.fromarray(picture)
        readings = _read(recogniser, page, detector(picture))
        sure = [one for one in readings if len(one.reading.text) and one.trust >= self.config.min_confidence]
        size = np.array([picture.shape[1], picture.shape[0]], np.float64)
        rows = rows_in_order(_upright([one.box for one in sure]))
        placed = [(number, row) for row, numbers in enumerate(rows) for number in numbers]
        return Page(tuple(_line(sure[number], row, size) for number, row in placed))

    @cached_property
    def files(self) -> tuple[Path, Path]:
        """The detector's and the recogniser's. Raises MissingExtraError, WeightsError."""
        return model_file(self.config.source, DETECTOR), model_file(self.config.source, RECOGNISER)

    @cached_property
    def signature(self) -> str:
        """Names what it makes of pages: the same for the same weights, settings and code."""
        said = asdict(self.config)
        # Where the weights come from, how readings are written, and whether they are kept, changes none of them.
        del said["source"], said["boxes"], said["keep"]
        made = hashlib.sha256(f"{VERSION} {sorted(said.items())}".encode())
        for file in self.files:
            made.update(_digest(file))
        return made.hexdigest()[:16]


def model_file(source: str, pattern: str) -> Path:
    """The one ONNX file of a package or a folder. Raises RecipeError, MissingExtraError, WeightsError."""
    if source.startswith(WHEEL):
        return carried_by(source.removeprefix(WHEEL), f"models/{pattern}", "model.media.source")
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise RecipeError(f"model.media.source: '{source}' is neither a folder nor wheel:<module>")
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise WeightsError(f"'{source}' holds {len(files)} {pattern} files, expected one")
    return files[0]


def line_recogniser(graph: Graph) -> LineRecogniser:
    """The recogniser of an ONNX graph: what its last product reads are the features, what its softmax reads the scores.

    Raises WeightsError for a graph that has no such end, or no alphabet.
    """
    softmax = graph.maker(graph.outputs[0])
    product = _before(graph, softmax, "MatMul")
    alphabet = graph.metadata.get(CHARACTERS, "").split("\n")
    named = [character.strip("\r") for character in alphabet if character.strip("\r")]
    size = graph.constants[product.inputs[1]].shape
    if softmax.kind != "Softmax" or size != (TextLinesConfig.features, len(named) + 2):
        raise WeightsError(f"the recogniser's head is {size}, its alphabet has {len(named)} characters")
    network = OnnxNetwork(graph, (product.inputs[0], softmax.inputs[0])).eval()
    # The blank comes first, the space last: both are in no list of characters.
    return LineRecogniser(network, ("", *named, " "))


def _before(graph: Graph, operation: Operation, kind: str) -> Operation:
    """The nearest operation of that kind on the way to another."""
    while operation.kind != kind:
        operation = graph.maker(operation.inputs[0])
    return operation


@lru_cache(maxsize=4)
def _networks(detector: Path, recogniser: Path, config: TextLinesConfig) -> tuple[LineDetector, LineRecogniser]:
    return LineDetector(OnnxNetwork(read(detector)).eval(), config), line_recogniser(read(recogniser))


@lru_cache(maxsize=8)
def _digest(file: Path) -> bytes:
    return bytes.fromhex(digest(file))


@dataclass(frozen=True)
class _Read:
    """A line: its box in the page, what was cut out there, and what stands in it."""

    box: Rectangle
    cut: NDArray[np.uint8]
    reading: Reading

    @property
    def trust(self) -> float:
        """Of its characters, on average."""
        return float(self.reading.confidence.mean()) if len(self.reading.confidence) else 0.0


def _read(recogniser: LineRecogniser, page: Image.Image, boxes: Sequence[Rectangle]) -> list[_Read]:
    """What is written in each box; a steep one is read both ways, and the surer one stands."""
    tries: list[Rectangle] = []
    owner: list[int] = []
    for number, box in enumerate(boxes):
        ways = [box.turned(left=True), box.turned(left=False)] if box.height >= UPRIGHT * box.width else [box]
        tries += ways
        owner += [number] * len(ways)
    best: dict[int, _Read] = {}
    cuts = [crop(page, box) for box in tries]
    for number, box, cut, reading in zip(owner, tries, cuts, recogniser(cuts), strict=True):
        one = _Read(box, cut, reading)
        if number not in best or one.trust > best[number].trust:
            best[number] = one
    return [best[number] for number in range(len(boxes))]


def _upright(boxes: Sequence[Rectangle]) -> NDArray[np.float64]:
    """Upright bounds of lines on a page that is turned back by the angle of most of them, [N, 4]."""
    if not boxes:
        return np.zeros((0, 4))
    level = [one for one in boxes if abs(one.along[0]) > abs(one.along[1])] or list(boxes)
    angles = np.array([np.arctan2(one.along[1], one.along[0]) for one in level])
    # Long lines know the angle best: the middle one by width.
    order = np.argsort(angles)
    widths = np.cumsum(np.array([one.width for one in level])[order])
    angle = angles[order][int(np.searchsorted(widths, widths[-1] / 2))]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.stack([one.corners for one in boxes]) @ turn
    bounds: NDArray[np.float64] = np.concatenate([corners.min(1), corners.max(1)], 1)
    return bounds


def _line(one: _Read, row: int, size: NDArray[np.float64]) -> Line:
    """size: of the page, width and height, px."""
    reading, corners = one.reading, one.box.corners
    sides = corners[[1, 3]] - corners[0]
    x1, y1, x2, y2 = inked(one.cut, reading.spans).T
    within = np.stack([np.stack([x, y], 1) for x in (x1, x2) for y in (y1, y2)], 1)
    points = (corners[0] + within @ sides) / size
    boxes = np.concatenate([points.min(1), points.max(1)], 1).clip(0, 1)
    return Line(
        text=reading.text,
        row=row,
        corners=(corners / size).clip(0, 1).astype(np.float32),
        confidence=reading.confidence,
        boxes=boxes.astype(np.float32),
        features=reading.features.astype(np.float16),
    )
