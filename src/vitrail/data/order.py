"""The order of a source's rows, a function of (seed, epoch, position), so that no list of what was seen is kept.

Blocks of neighbours are shuffled, not rows, so that a file is read in the pieces it is stored in; rows of one block are
then mixed with those of others within the window that packs them. Where blocks are larger than such a window, as row
groups are, several are drawn from at once. Memory: 8 bytes a block, and 8 a row of the blocks that are drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def rows_at(
    start: int, count: int, rows: int, block: int, seed: int | None, epoch: int, together: int = 1
) -> list[int]:
    """Numbers of the rows at positions `start` to `start + count` of an epoch.

    seed: None for the order as it is. together: so many blocks are in memory at once, and their rows are mixed.
    """
    assert 0 <= start <= start + count <= rows, f"positions {start} to {start + count} are not in one epoch of {rows}"
    if seed is None:
        return list(range(start, start + count))
    if together > 1:
        return _rows_of_several(start, count, Blocks(rows, block, seed, epoch, together))
    blocks = _shuffled(-(-rows // block), seed, epoch)
    # All blocks are full but the last of the file, which stands anywhere: positions after it are moved by its gap.
    gap = -rows % block
    short = int(np.flatnonzero(blocks == len(blocks) - 1)[0])
    positions = np.arange(start, start + count)
    positions += np.where(positions >= (short + 1) * block - gap, gap, 0)
    numbers: list[int] = (blocks[positions // block] * block + positions % block).tolist()
    return numbers


@dataclass(frozen=True)
class Blocks:
    """An epoch of blocks of which `together` neighbours in its order are drawn from at once: a stretch."""

    rows: int
    block: int
    seed: int
    epoch: int
    together: int


def _rows_of_several(start: int, count: int, blocks: Blocks) -> list[int]:
    ends, found = _stretch_ends(blocks), list[int]()
    while count:
        stretch = int(np.searchsorted(ends, start, side="right"))
        within = start - (int(ends[stretch - 1]) if stretch else 0)
        taken = _stretch(blocks, stretch)[within : within + count].tolist()
        found += taken
        start, count = start + len(taken), count - len(taken)
    return found


@lru_cache(maxsize=8)
def _stretch_ends(blocks: Blocks) -> NDArray[np.int64]:
    """Where each stretch ends, in rows of the epoch. The file's last block, which may be short, is in any of them."""
    order = _shuffled(-(-blocks.rows // blocks.block), blocks.seed, blocks.epoch)
    sizes = np.where(order == len(order) - 1, blocks.block - (-blocks.rows % blocks.block), blocks.block)
    return np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), blocks.together)))


@lru_cache(maxsize=16)
def _stretch(blocks: Blocks, number: int) -> NDArray[np.int64]:
    """The rows of a stretch in their order."""
    order = _shuffled(-(-blocks.rows // blocks.block), blocks.seed, blocks.epoch)
    members = order[number * blocks.together : (number + 1) * blocks.together]
    rows = (members[:, None] * blocks.block + np.arange(blocks.block)).ravel()
    return np.random.default_rng((blocks.seed, blocks.epoch, number)).permutation(rows[rows < blocks.rows])


@lru_cache(maxsize=8)
def _shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)
