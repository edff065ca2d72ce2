"""Boxes read from answers in every style, and intersection over union."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.metrics.boxes import Box, hits, iou, parse_box, parse_point

WANTED = (10.0, 20.0, 300.0, 400.0)


@pytest.mark.parametrize(
    "text",
    [
        "[10, 20, 300, 400]",
        "[10,20,300,400].",
        "[[10, 20, 300, 400]]",
        "(10,20),(300,400)",
        "( 10, 20 ) ( 300, 400 )",
        "<box>(10,20),(300,400)</box>",
        "<ref>the red cup</ref><box>(10,20),(300,400)</box>",
        "<box>10 20 300 400</box>",
        "<box>[[10, 20, 300, 400]]</box>",
        "[10.0, 20.0, 300.0, 400.0]",
    ],
)
def test_styles(text: str) -> None:
    assert parse_box(text) == WANTED
    assert parse_box(text, whole=True) == WANTED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no box",
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        "[300, 20, 10, 400]",
        "[10, 20, 300, 1400]",
        "[-1, 0, 5, 5]",
        "(1,2)",
    ],
)
def test_what_is_no_box(text: str) -> None:
    assert parse_box(text) is None


def test_a_sentence_that_mentions_a_box_is_not_a_box() -> None:
    assert parse_box("It is at [10, 20, 300, 400], left of the lamp.") == WANTED
    assert parse_box("It is at [10, 20, 300, 400], left of the lamp.", whole=True) is None
    assert parse_box("[1, 2, 3, 4] [5, 6, 7, 8]") == (1, 2, 3, 4)
    assert parse_box("[1, 2, 3, 4] [5, 6, 7, 8]", whole=True) is None


def test_a_bad_first_box_is_not_passed_over() -> None:
    assert parse_box("[300, 20, 10, 400] or [10, 20, 300, 400]") is None


def test_hostile_text_ends() -> None:
    assert parse_box("[" * 50_000 + "1," * 50_000 + " " * 50_000) is None


boxes = st.tuples(*[st.integers(0, 1000)] * 4).map(
    lambda c: (float(min(c[0], c[2])), float(min(c[1], c[3])), float(max(c[0], c[2])), float(max(c[1], c[3])))
)


@given(boxes, boxes)
def test_iou_is_symmetric_and_in_range(a: Box, b: Box) -> None:
    assert iou(a, b) == iou(b, a)
    assert 0.0 <= iou(a, b) <= 1.0
    assert iou(a, a) == 1.0


@given(boxes)
def test_a_written_box_is_read_back(box: Box) -> None:
    x1, y1, x2, y2 = box
    assert parse_box(f"[{x1:.0f}, {y1:.0f}, {x2:.0f}, {y2:.0f}]") == box
    assert parse_box(f"<box>({x1:.0f},{y1:.0f}),({x2:.0f},{y2:.0f})</box>") == box


def test_iou_by_hand() -> None:
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0
    assert iou((0, 0, 0, 0), (0, 0, 5, 5)) == 0.0


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("[120, 340]", (120, 340)),
        ("Click (120,340).", (120, 340)),
        ("[100, 300, 140, 380]", (120, 340)),
        ("<box>100 300 140 380</box>", (120, 340)),
        ("[1200, 340]", None),
        ("120, 340", None),
        ("nowhere", None),
    ],
)
def test_points_are_read(text: str, point: tuple[float, float] | None) -> None:
    assert parse_point(text) == point


def test_a_click_hits_its_target_up_to_the_edge() -> None:
    target = (100.0, 200.0, 150.0, 220.0)
    assert hits((100, 220), target)
    assert not hits((99.9, 210), target)
    assert not hits((120, 221), target)
    assert not hits(None, target)
