"""Dynamic tiling: grids, limits, pixels of every tile, tags."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import MediaError
from vitrail.media.config import TilesConfig
from vitrail.media.rule import picture_rule
from vitrail.media.rule import pixels as pixels_of
from vitrail.media.tiling import Tiling

SIDES = st.integers(1, 3000)


@st.composite
def rules(draw: st.DrawFn) -> TilesConfig:
    patch, merge = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    least = draw(st.integers(1, 4))
    return TilesConfig(
        patch=patch,
        merge=merge,
        tile=patch * merge * draw(st.integers(1, 3)),
        min_tiles=least,
        max_tiles=draw(st.integers(least, 12)),
        thumbnail=draw(st.booleans()),
    )


def sliver(width: int, height: int) -> bool:
    return max(width, height) > 200 * min(width, height)


@settings(deadline=None)
@given(config=rules(), width=SIDES, height=SIDES)
def test_the_number_of_tiles_is_within_the_limits(config: TilesConfig, width: int, height: int) -> None:
    assume(not sliver(width, height))
    rule = Tiling(config)
    columns, rows = rule.grid(width, height)
    assert config.min_tiles <= columns * rows <= config.max_tiles
    views = rule.views(width, height)
    assert len(views) == columns * rows + (config.thumbnail and columns * rows > 1)
    assert {(view.height, view.width) for view in views} == {(config.tile, config.tile)}
    assert sum(view.tokens for view in views) <= config.max_tokens
    assert all(view.patches == view.tokens * config.merge**2 for view in views)


@settings(deadline=None)
@given(config=rules(), width=SIDES, height=SIDES)
def test_no_grid_is_nearer_to_the_pictures_shape(config: TilesConfig, width: int, height: int) -> None:
    rule = Tiling(config)
    columns, rows = rule.grid(width, height)
    off = abs(width / height - columns / rows)
    for tiles in range(config.min_tiles, config.max_tiles + 1):
        for other in range(1, tiles + 1):
            if tiles % other == 0:
                assert off <= abs(width / height - other / (tiles // other)), (other, tiles // other)


@settings(deadline=None)
@given(config=rules(), width=SIDES, height=SIDES, most=st.integers(1, 200))
def test_a_limit_in_tokens_holds_down_to_one_tile(config: TilesConfig, width: int, height: int, most: int) -> None:
    assume(not sliver(width, height))
    rule = Tiling(config)
    views = rule.views(width, height, most)
    assert sum(view.tokens for view in views) <= max(most, config.tile_tokens) or config.min_tiles > 1
    if most >= config.max_tokens:
        assert views == rule.views(width, height)


@settings(deadline=None, max_examples=40)
@given(config=rules(), width=st.integers(1, 60), height=st.integers(1, 60), most=st.integers(1, 60))
def test_every_view_has_its_pixels(config: TilesConfig, width: int, height: int, most: int) -> None:
    """Under a limit too: the grid is found again from the number of views."""
    rule = picture_rule(config)
    views = rule.views(width, height, most)
    pixels = pixels_of(rule, np.full((height, width, 3), 255, np.uint8), views)
    assert [one.shape for one in pixels] == [(view.height, view.width, 3) for view in views]
    white = (1 - np.asarray(config.mean)) / np.asarray(config.std)
    assert all(np.allclose(one, white, atol=1e-5) for one in pixels)


def test_tiles_are_cut_row_by_row_and_the_thumbnail_is_the_whole() -> None:
    config = TilesConfig(patch=2, merge=1, tile=4, max_tiles=6, mean=(0, 0, 0), std=(1, 1, 1))
    picture = np.zeros((8, 12, 3), np.uint8)
    for number in range(6):
        row, column = divmod(number, 3)
        picture[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] = 40 * number
    rule = Tiling(config)
    pixels = pixels_of(rule, picture, rule.views(12, 8))
    assert [round(float(one.mean() * 255)) for one in pixels[:6]] == [40 * number for number in range(6)]
    assert pixels[6].std() > 0.1


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        # The tie rule: more than half the pixels of the larger grid, 401,408 of 2 x 2.
        ((633, 633), (1, 1)),
        ((634, 634), (2, 2)),
        ((640, 480), (3, 2)),
        ((1920, 1080), (2, 1)),
        ((1080, 1920), (1, 2)),
        ((3000, 500), (6, 1)),
        ((700, 560), (1, 1)),
        ((1000, 800), (3, 2)),
    ],
)
def test_grids_worked_out_by_hand(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert Tiling(TilesConfig(max_tiles=6)).grid(*size) == grid


@pytest.mark.parametrize(
    ("tags", "first", "last"),
    [
        ("none", "", ""),
        ("number", "<tile_1>", "<tile_6>"),
        ("grid", "<tile_x0_y0>", "<tile_x2_y1>"),
        ("box", "<box> (0, 0), (333, 500) </box>", "<box> (667, 500), (1000, 1000) </box>"),
    ],
)
def test_tags_say_where_a_tile_lies(tags: str, first: str, last: str) -> None:
    config = TilesConfig(max_tiles=6, tags=tags, thumbnail_tag="<tile_global>")  # type: ignore[arg-type]
    views = Tiling(config).views(1344, 896)
    whole = "" if tags == "none" else "<tile_global>"
    assert (views[0].tag, views[-2].tag, views[-1].tag) == (first, last, whole)
    assert [view.tag for view in Tiling(config).views(448, 448)] == [whole]


def test_numbers_of_all_tiles_are_as_long() -> None:
    views = Tiling(TilesConfig(max_tiles=12, tags="number")).views(12 * 448, 448)
    assert [view.tag for view in views[:2]] == ["<tile_01>", "<tile_02>"]
    assert [view.tag for view in views[-2:]] == ["<tile_12>", "<tile_global_thumbnail0>"]


def test_the_middle_is_cut_out_where_asked() -> None:
    config = TilesConfig(patch=4, merge=1, tile=4, max_tiles=1, fit="crop", mean=(0, 0, 0), std=(1, 1, 1))
    picture = np.zeros((4, 12, 3), np.uint8)
    picture[:, 4:8] = 255
    rule = Tiling(config)
    (pixels,) = pixels_of(rule, picture, rule.views(12, 4))
    assert (pixels == 1).all()


@pytest.mark.parametrize(("width", "height"), [(201, 1), (1, 201), (0, 5), (5, 0)])
def test_slivers_and_nothing_are_refused(width: int, height: int) -> None:
    with pytest.raises(MediaError, match=f"{width} x {height}"):
        Tiling(TilesConfig()).views(width, height)


@pytest.mark.parametrize(
    "settings_", [{"patch": 0}, {"tile": 450}, {"min_tiles": 0}, {"min_tiles": 5, "max_tiles": 4}, {"fit": "crop"}]
)
def test_impossible_settings_are_refused(settings_: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be|max_tiles: 1"):
        TilesConfig(**settings_)  # type: ignore[arg-type]


def test_more_tiles_are_allowed_in_use_than_in_training() -> None:
    rule = Tiling(TilesConfig(patch=4, merge=1, tile=16, max_tiles=4, max_tiles_in_use=12))
    assert len(rule.views(200, 200)) == 4 + 1
    assert len(rule.in_use.views(200, 200)) == 9 + 1
    assert rule.in_use.in_use.views(200, 200) == rule.in_use.views(200, 200)
    same = Tiling(TilesConfig(patch=4, merge=1, tile=16, max_tiles=4))
    assert same.in_use is same
    with pytest.raises(ValueError, match="max_tiles_in_use"):
        TilesConfig(patch=4, merge=1, tile=16, min_tiles=4, max_tiles_in_use=3)
