"""Positions of text and of grids in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.contracts.samples import MediaSlot, View
from vitrail.prompts.render import Grid, grid_positions, grids


def test_text_alone_counts_all_three_axes() -> None:
    assert grid_positions(4, []).tolist() == [[0, 1, 2, 3]] * 3


def test_a_picture_worked_out_by_hand() -> None:
    """Two tokens of text, a picture of 2 x 3, text behind the largest column."""
    found = grid_positions(10, [Grid(2, 1, 2, 3)])
    assert found[0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 5, 6]
    assert found[1].tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 5, 6]
    assert found[2].tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6]


def test_a_long_video_pushes_the_text_by_its_times() -> None:
    """Times 3, rows 2, columns 2, after two tokens: the next text has 5, as in the paper."""
    assert grid_positions(15, [Grid(2, 3, 2, 2)])[:, 14].tolist() == [5, 5, 5]


def test_steps_between_times_are_cut_to_whole_numbers() -> None:
    assert grid_positions(4, [Grid(0, 4, 1, 1, step=2.5)])[0].tolist() == [0, 2, 5, 7]


def test_steps_are_multiplied_as_official_code_does() -> None:
    """In float32 10 x 0.7 is 7; the nearest number of 64 bits to that 0.7 gives a little less."""
    assert grid_positions(11, [Grid(0, 11, 1, 1, step=float(np.float32(0.7)))])[0, 10] == 7


def test_grids_of_slots_are_their_tokens() -> None:
    """A view of 4 x 6 patches whose 2 x 2 are one token."""
    assert grids([MediaSlot(3, 0, View(56, 84, 4, 6, 2, 3))]) == [Grid(3, 1, 2, 3)]


def test_grids_that_overlap_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="starts at 3"):
        grid_positions(10, [Grid(0, 1, 2, 2), Grid(3, 1, 1, 1)])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), max_size=4))
def test_what_follows_a_grid_stands_behind_all_of_it(pieces: list[tuple[int, int, int, int]]) -> None:
    found, place = [], 0
    for text, times, rows, columns in pieces:
        found.append(Grid(place + text, times, rows, columns))
        place += text + times * rows * columns
    positions = grid_positions(place + 1, found)
    for grid in found:
        inside, before = positions[:, grid.start : grid.start + grid.tokens], positions[:, : grid.start]
        assert (inside.min() > before.max()) if grid.start else inside.min() == 0
        assert (positions[:, grid.start + grid.tokens] > inside.max()).all()
        places = inside - inside.min(1, keepdims=True)
        assert len(np.unique(places, axis=1).T) == grid.tokens
