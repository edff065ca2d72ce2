"""Native resolution: grids that keep within their limits and their shape, and patches that lose no pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import MediaError
from vitrail.contracts.samples import View
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.native import MAX_ASPECT, NativeResolution, patchify
from vitrail.media.rule import pixels as pixels_of


@st.composite
def rules(draw: st.DrawFn, room: int = 1) -> NativeResolutionConfig:
    """A rule whose upper limit is at least `room` times its lower one."""
    least = draw(st.integers(1, 64))
    most = least * room + draw(st.integers(0, 1500))
    return NativeResolutionConfig(
        patch=draw(st.sampled_from([4, 8, 14, 16])),
        merge=draw(st.integers(1, 4)),
        min_tokens=least,
        max_tokens=most,
    )


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int]:
    """Width and height of a picture that is no sliver, long ones not rare."""
    long = draw(st.integers(1, 5000))
    short = draw(st.integers(-(-long // MAX_ASPECT), long))
    return draw(st.permutations((long, short)).map(lambda sides: (sides[0], sides[1])))


def view(config: NativeResolutionConfig, shape: tuple[int, int]) -> View:
    width, height = shape
    (only,) = NativeResolution(config).views(width, height)
    return only


# The grid


@settings(deadline=None)
@given(config=rules(), shape=shapes())
def test_a_view_is_whole_units_and_its_numbers_agree(config: NativeResolutionConfig, shape: tuple[int, int]) -> None:
    one = view(config, shape)
    assert one.rows * one.columns == one.patches == one.tokens * config.merge**2
    assert (one.height, one.width) == (one.rows * config.patch, one.columns * config.patch)
    assert one.rows % config.merge == one.columns % config.merge == 0
    assert min(one.rows, one.columns) >= config.merge


@settings(deadline=None)
@given(config=rules(), shape=shapes())
def test_the_upper_limit_always_holds(config: NativeResolutionConfig, shape: tuple[int, int]) -> None:
    assert 1 <= view(config, shape).tokens <= config.max_tokens


@settings(deadline=None)
@given(config=rules(room=4), shape=shapes())
def test_the_lower_limit_holds_where_the_upper_one_leaves_room(
    config: NativeResolutionConfig, shape: tuple[int, int]
) -> None:
    assert config.min_tokens <= view(config, shape).tokens <= config.max_tokens


@settings(deadline=None)
@given(config=rules(room=4), shape=shapes())
def test_the_shape_is_kept_to_a_token(config: NativeResolutionConfig, shape: tuple[int, int]) -> None:
    # There is one scale at which both sides, in tokens, are less than one token off.
    (width, height), one = shape, view(config, shape)
    rows, columns = one.rows // config.merge, one.columns // config.merge
    smallest = max((rows - 1) / height, (columns - 1) / width)
    largest = min((rows + 1) / height, (columns + 1) / width)
    assert smallest <= largest * (1 + 1e-9), (rows, columns)


@settings(deadline=None)
@given(config=rules(), shape=shapes())
def test_a_picture_on_its_side_has_its_grid_on_its_side(config: NativeResolutionConfig, shape: tuple[int, int]) -> None:
    one, other = view(config, shape), view(config, shape[::-1])
    assert one.tokens == other.tokens or config.max_tokens < 4 * config.min_tokens
    if config.max_tokens >= 4 * config.min_tokens:
        assert (one.rows, one.columns) == (other.columns, other.rows)


@settings(deadline=None)
@given(config=rules(room=4), rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_a_picture_of_whole_units_within_the_limits_keeps_its_size(
    config: NativeResolutionConfig, rows: int, columns: int
) -> None:
    assume(config.min_tokens <= rows * columns <= config.max_tokens)
    unit = config.patch * config.merge
    assert view(config, (columns * unit, rows * unit)) == View(
        rows * unit, columns * unit, rows * config.merge, columns * config.merge, rows, columns
    )


@pytest.mark.parametrize(
    ("width", "height", "tokens", "size"),
    [
        # In units of 28 px, 4 to 1024 of them.
        (640, 480, 23 * 17, (17 * 28, 23 * 28)),
        (4000, 3000, 36 * 27, (27 * 28, 36 * 28)),
        (1, 1, 4, (2 * 28, 2 * 28)),
        (28, 28, 4, (2 * 28, 2 * 28)),
        # Its height rounds to nothing, so it is enlarged to 4 units at least.
        (200, 1, 29, (28, 29 * 28)),
        (100, 20_000, 2 * 452, (452 * 28, 2 * 28)),
    ],
)
def test_sizes_worked_out_by_hand(width: int, height: int, tokens: int, size: tuple[int, int]) -> None:
    one = view(NativeResolutionConfig(), (width, height))
    assert (one.height, one.width) == size
    assert one.tokens == tokens


def test_a_long_strip_over_the_limit_becomes_one_row_of_tokens() -> None:
    config = NativeResolutionConfig(patch=8, merge=2, max_tokens=64)
    assert view(config, (16 * 150, 16)) == View(16, 16 * 64, 2, 2 * 64, 1, 64)
    assert view(config, (16, 16 * 150)) == View(16 * 64, 16, 2 * 64, 2, 64, 1)


@pytest.mark.parametrize(("width", "height"), [(201, 1), (1, 201), (0, 5), (5, 0), (10_001, 50)])
def test_slivers_and_nothing_are_refused(width: int, height: int) -> None:
    with pytest.raises(MediaError, match=f"{width} x {height}"):
        NativeResolution(NativeResolutionConfig()).views(width, height)


@pytest.mark.parametrize(
    "settings_",
    [{"patch": 0}, {"merge": 0}, {"min_tokens": 0}, {"min_tokens": 5, "max_tokens": 4}],
)
def test_impossible_settings_are_refused(settings_: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        NativeResolutionConfig(**settings_)  # type: ignore[arg-type]


# Pixels


def test_pixels_are_normalised_by_mean_and_deviation() -> None:
    rule = NativeResolution(NativeResolutionConfig(mean=(0.0, 0.5, 0.25), std=(1.0, 0.5, 0.125), patch=2, merge=1))
    picture = np.full((4, 4, 3), (0, 255, 51), np.uint8)
    (pixels,) = pixels_of(rule, picture, rule.views(4, 4))
    assert pixels.dtype == np.float32
    assert pixels.shape == (4, 4, 3)
    assert np.allclose(pixels, (0.0, 1.0, (0.2 - 0.25) / 0.125), atol=1e-6)


@settings(deadline=None)
@given(config=rules(), shape=shapes())
def test_pixels_have_the_size_that_was_promised(config: NativeResolutionConfig, shape: tuple[int, int]) -> None:
    one = view(config, shape)
    assume(shape[0] * shape[1] < 100_000)
    picture = np.full((shape[1], shape[0], 3), (0, 128, 255), np.uint8)
    (pixels,) = pixels_of(NativeResolution(config), picture, (one,))
    assert pixels.shape == (one.height, one.width, 3)
    # One colour stays that colour at any size.
    assert np.allclose(pixels, np.array([-1.0, 2 * 128 / 255 - 1, 1.0]), atol=1e-6)


def test_a_picture_of_the_right_size_is_not_resampled() -> None:
    rule = NativeResolution(NativeResolutionConfig(patch=4, merge=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    (pixels,) = pixels_of(rule, picture, rule.views(24, 16))
    assert np.array_equal(np.round(pixels * 255).astype(np.uint8), picture)


# Patches


@settings(deadline=None)
@given(
    patch=st.integers(1, 5), merge=st.integers(1, 3), rows=st.integers(1, 4), columns=st.integers(1, 4), data=st.data()
)
def test_patches_hold_every_pixel_once_where_they_say(
    patch: int, merge: int, rows: int, columns: int, data: st.DataObject
) -> None:
    height, width = rows * patch * merge, columns * patch * merge
    numbers = np.arange(height * width * 3, dtype=np.float32).reshape(height, width, 3)
    patches, positions = patchify(numbers, patch, merge)
    assert patches.shape == (rows * columns * merge**2, 3 * patch * patch)
    assert np.array_equal(np.sort(patches, axis=None), numbers.reshape(-1))
    for values, (row, column) in zip(patches, positions, strict=True):
        there = numbers[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        assert np.array_equal(values.reshape(3, patch, patch), there.transpose(2, 0, 1))


@settings(deadline=None)
@given(merge=st.integers(1, 4), rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_patches_of_one_token_lie_together_in_reading_order(merge: int, rows: int, columns: int) -> None:
    _, positions = patchify(np.zeros((rows * merge, columns * merge, 3), np.float32), 1, merge)
    tokens = positions.reshape(-1, merge * merge, 2)
    blocks = tokens // merge
    assert (blocks == blocks[:, :1]).all()
    reading_order = [[row, column] for row in range(rows) for column in range(columns)]
    assert blocks[:, 0].tolist() == reading_order
    within = [[row, column] for row in range(merge) for column in range(merge)]
    assert (tokens % merge == np.array(within)).all()


def test_pixels_that_are_not_whole_blocks_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="10 x 8 px is not whole blocks of 8 px"):
        patchify(np.zeros((10, 8, 3), np.float32), patch=4, merge=2)
