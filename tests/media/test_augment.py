"""Augmentation: the same size, seeded, nothing lost, and points that go where the picture goes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vitrail.media.augment import STEEPEST, augmented, drawn_warp, speaks_of_boxes
from vitrail.media.config import AugmentConfig
from vitrail.media.dice import Dice
from vitrail.synthetic.paper import worn

ALWAYS = AugmentConfig(share=1.0)
MOVED = replace(ALWAYS, colour=0.0, noise=0.0)
HARD = AugmentConfig(share=1.0, rotation=5.0, distortion=0.05)


def page(width: int = 120, height: int = 90) -> NDArray[np.uint8]:
    """White, with some writing."""
    picture = np.full((height, width, 3), 255, np.uint8)
    picture[10:20, 8:-8:3] = 30
    picture[30:40, 8:-8:5] = 200, 30, 30
    return picture


def test_size_and_type_stay() -> None:
    for width, height in ((120, 90), (33, 400), (1, 1), (31, 31), (640, 32)):
        done = augmented(page(width, height), ALWAYS, ("a", 0))
        assert (done.shape, done.dtype) == ((height, width, 3), np.uint8)


def test_it_is_a_function_of_the_key() -> None:
    before = page()
    once, again = (augmented(before, ALWAYS, (7, "row-1", 0)) for _ in range(2))
    assert np.array_equal(once, again)
    assert np.array_equal(before, page()), "the picture given is not touched"
    others = {
        augmented(before, ALWAYS, (7, name, number)).tobytes() for name in ("row-1", "row-2") for number in (0, 1)
    }
    assert len(others) == 4


def test_each_kind_can_be_had_alone_and_off() -> None:
    off = AugmentConfig(share=1.0, rotation=0, distortion=0, colour=0, noise=0)
    assert np.array_equal(augmented(page(), off, (1,)), page())
    assert np.array_equal(augmented(page(), AugmentConfig(share=0.0), (1,)), page())
    strength = {"rotation": 3.0, "distortion": 0.02, "colour": 0.2, "noise": 8.0}
    for name, value in strength.items():
        assert not np.array_equal(augmented(page(), replace(off, **{name: value}), (1,)), page()), name


def test_share_is_of_pictures_and_of_each_kind() -> None:
    same = sum(np.array_equal(augmented(page(40, 40), AugmentConfig(), (index,)), page(40, 40)) for index in range(200))
    assert 3 <= same <= 28  # a sixteenth of them is expected to meet none


def test_still_pictures_keep_everything_in_its_place() -> None:
    assert np.array_equal(augmented(page(), MOVED, (3,), still=True), page())
    once, twice = (
        augmented(page(), replace(ALWAYS, rotation=0, distortion=0), (3,)),
        augmented(page(), ALWAYS, (3,), still=True),
    )
    assert np.array_equal(once, twice), "colour and noise are the same, whether the picture moves or not"


def test_points_go_where_the_picture_goes() -> None:
    width, height = 300, 200
    for index in range(12):
        at = np.array([[40.5, 30.5], [250.5, 160.5], [150.5, 100.5], [20.5, 180.5]])
        places = at / (width, height)
        warp = drawn_warp(width, height, HARD, (index,))
        assert warp is not None
        for (x, y), (across, down) in zip(at, warp.points(places) * (width, height), strict=True):
            dot = np.zeros((height, width, 3), np.uint8)
            dot[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = 255
            seen = warp.picture(dot)[..., 0].astype(float)
            rows, columns = np.indices(seen.shape)
            middle = (seen * (columns + 0.5)).sum() / seen.sum(), (seen * (rows + 0.5)).sum() / seen.sum()
            assert np.hypot(middle[0] - across, middle[1] - down) < 0.6


@settings(max_examples=60, deadline=None)
@given(width=st.integers(32, 3000), height=st.integers(32, 3000), seed=st.integers(0, 10**6))
def test_nothing_leaves_the_picture_and_nothing_goes_far(width: int, height: int, seed: int) -> None:
    warp = drawn_warp(width, height, HARD, (seed,))
    assert warp is not None
    side = np.linspace(0, 1, 9)
    edge = np.concatenate([np.stack([side, side * 0 + at], 1) for at in (0, 1)])
    edge = np.concatenate([edge, edge[:, ::-1]])
    places = warp.points(edge)
    assert places.min() > -1e-3
    assert places.max() < 1 + 1e-3
    assert np.abs(warp._comes_from(places * (width, height)) - edge * (width, height)).max() < 1e-3
    far = np.abs((places - edge) * (width, height)).max()
    assert far <= max(width, height) * (STEEPEST + 0.15)


def test_what_comes_in_has_the_colour_of_the_edge() -> None:
    done = augmented(page(), replace(MOVED, rotation=5.0, distortion=0.0), (4,))
    assert [done[row, column].tolist() for row in (0, -1) for column in (0, -1)] == [[255] * 3] * 4


@pytest.mark.parametrize(
    "text",
    [
        "<box>12, 34, 56, 78</box>",
        "<|box_start|>(123,456),(789,900)<|box_end|>",
        "[0.12, 0.34, 0.5, 0.6]",
        "click(512, 300)",
        "(12 34)",
        "pyautogui.click(x=0.31, y=0.2)",
        '{"x": 12, "y": 30}',
        "x1 = 5",
        "<point>3 4</point>",
    ],
)
def test_texts_that_speak_of_places(text: str) -> None:
    assert speaks_of_boxes(["What is the total?", text])


@pytest.mark.parametrize(
    "text", ["12.50", "2 x 3.50", "(c) 2020", "[1]", "1,234.00", "box 7", "see (3)", "", "(" * 10_000]
)
def test_texts_that_do_not(text: str) -> None:
    assert not speaks_of_boxes([text])


def test_long_texts_are_read_in_no_time() -> None:
    assert not speaks_of_boxes(["( 1  " * 20_000, "<box" * 20_000, "[" + "1" * 100_000, "x" * 100_000])


@pytest.mark.parametrize(
    ("name", "value"),
    [("share", 1.1), ("rotation", 6), ("distortion", 0.06), ("colour", -0.1), ("noise", float("nan"))],
)
def test_strengths_have_limits(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} \("):
        AugmentConfig(**{name: value})


@pytest.mark.skipif(PIL.__version__ != "13.0.0", reason="blurs and turns differ between versions of Pillow")
def test_drawn_pictures_are_what_they_were_before_they_shared_their_wear() -> None:
    """A digest taken when the wear of drawn data was its own, of sixty pictures that each met some of it."""
    digest = hashlib.sha256()
    picture = (np.indices((96, 130, 3)).sum(0) * 7 % 256).astype(np.uint8)
    for index in range(60):
        digest.update(worn(Dice("t", index), picture, 0.9, skew=2.0).tobytes())
    assert digest.hexdigest() == "34f447d006f51c863a545488316faa2139fd96b63067446a9f5d929cad6cc28c"
