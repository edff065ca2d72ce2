"""The order of a source's rows: a function of (seed, epoch, position), so that no list of what was seen is kept.

Blocks of neighbours are shuffled, not rows, so that a file is read in the pieces it is stored in; rows of one block are
then mixed with those of others within the window that packs them. Memory: 8 bytes a block.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def rows_at(start: int, count: int, rows: int, block: int, seed: int | None, epoch: int) -> list[int]:
    """Numbers of the rows at positions `start` to `start + count` of an epoch. seed: None for the order as it is."""
    assert 0 <= start <= start + count <= rows, f"positions {start} to {start + count} are not in one epoch of {rows}"
    if seed is None:
        return list(range(start, start + count))
    blocks = _shuffled(-(-rows // block), seed, epoch)
    # All blocks are full but the last of the file, which stands anywhere: positions after it are moved by its gap.
    gap = -rows % block
    short = int(np.flatnonzero(blocks == len(blocks) - 1)[0])
    positions = np.arange(start, start + count)
    positions += np.where(positions >= (short + 1) * block - gap, gap, 0)
    numbers: list[int] = (blocks[positions // block] * block + positions % block).tolist()
    return numbers


@lru_cache(maxsize=8)
def _shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)
