"""Positions of text and of what stands in it on a grid: on a line, or time, row and column of every token (M-RoPE).

Nothing else knows them: samples carry what is made here, from training to chat. For M-RoPE text counts all three
up together; a picture's tokens, and a video's, have the time, row and column of their cell on the grid, from where the
text before it ended; the text after goes on behind the largest of them.
Source: Qwen2-VL, arXiv 2409.12191, section 2.1; `get_rope_index` as released, which counts the times of a long video
too (transformers 5.23 counts rows and columns alone). Steps between times: Qwen2.5-VL, arXiv 2502.13923.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.samples import MediaSlot
from vitrail.prompts.config import MRopePositionsConfig, PositionsConfig


@dataclass(frozen=True)
class Grid:
    """Tokens of one picture or video, time after time and row by row, from `start` on.

    step: between two times; Qwen2-VL counts them, Qwen2.5-VL measures them in tokens of a second.
    """

    start: int
    times: int
    rows: int
    columns: int
    step: float = 1.0

    @property
    def tokens(self) -> int:
        """Places it takes."""
        return self.times * self.rows * self.columns


def positions_of(config: PositionsConfig, length: int, slots: Iterable[MediaSlot]) -> NDArray[np.int64] | None:
    """Those of a sample, as `Sample.positions` has them: None on a line, int64[3, length] for M-RoPE."""
    if not isinstance(config, MRopePositionsConfig):
        return None
    return grid_positions(length, grids(slots, config.tokens_per_second))


def grids(slots: Iterable[MediaSlot], tokens_per_second: float | None = None) -> list[Grid]:
    """Still pictures, one a view, and videos, whose views follow each other in time."""
    found: list[Grid] = []
    video: int | None = None
    for slot in slots:
        view = slot.view
        if not view.height or not view.spliced:
            # Sound counts up as text does, and what does not stand in the text has no position there.
            continue
        moves = bool(view.shows)
        if moves and slot.media == video and slot.start == found[-1].start + found[-1].tokens:
            found[-1] = replace(found[-1], times=found[-1].times + 1)
            continue
        step = view.seconds * tokens_per_second if moves and tokens_per_second else 1.0
        found.append(Grid(slot.start, 1, view.token_rows, view.token_columns, step))
        video = slot.media if moves else None
    return found


def grid_positions(length: int, found: Sequence[Grid]) -> NDArray[np.int64]:
    """int64[3, length]: time, row and column. found: in reading order, none within another."""
    positions = np.empty((3, length), np.int64)
    done = following = 0
    for grid in found:
        text = grid.start - done
        assert text >= 0, f"a grid starts at {grid.start}, within the one before, which ends at {done}"
        positions[:, done : grid.start] = np.arange(following, following + text)
        following += text
        done = grid.start + grid.tokens
        here = np.indices((grid.times, grid.rows, grid.columns)).reshape(3, -1)
        # In float32 as official code has it, where 10 x 0.7 is 7 and not a little less.
        here[0] = (here[0].astype(np.float32) * np.float32(grid.step)).astype(np.int64)
        positions[:, grid.start : done] = here + following
        following += int(here.max()) + 1
    positions[:, done:] = np.arange(following, following + length - done)
    return positions
