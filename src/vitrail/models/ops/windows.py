"""Windows: squares of patches within a view, laid end to end so that packed attention can keep to them.

Finding them waits for the device once a pass; attention over windows then costs patches x window^2, not patches^2.
At the right and at the bottom of a view they are cut short (`windowed`) or filled up with zeros (`filled`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.contracts.samples import Segments
from vitrail.models.ops.positions import corners, shapes, views


def windowed(positions: Tensor, segments: Segments, side: int) -> tuple[Tensor, Segments]:
    """The order int64[P] that brings the patches of a window together, and the windows as segments.

    positions: int64[P, 2]. segments: the views; they stay whole, and where they are. side: of a window, patches; at the
    right and at the bottom windows are cut short. Windows of one size lie together, which attention is quicker with.
    """
    view = views(segments, positions.device)
    window = positions // side
    last = corners(positions, segments) // side
    cut = (window == last[view]).long()
    size = cut[:, 0] * 2 + cut[:, 1]
    rows, columns = (last.max(0).values + 1).unbind()
    key = ((view * 4 + size) * rows + window[:, 0]) * columns + window[:, 1]
    order = key.argsort(stable=True)
    lengths = torch.unique_consecutive(key[order], return_counts=True)[1]
    return order, Segments(tuple(lengths.tolist()))


@dataclass(frozen=True)
class Filled:
    """Windows of one size, end to end, each row by row. slots: int64[P], where each patch stands in them.

    rows, columns: of a window. count: of windows.
    """

    slots: Tensor
    rows: int
    columns: int
    count: int

    def fill(self, x: Tensor) -> Tensor:
        """float[P, D] to float[count * rows * columns, D], zeros where there is no patch."""
        return x.new_zeros(self.count * self.rows * self.columns, x.shape[1]).index_copy(0, self.slots, x)


def filled(positions: Tensor, segments: Segments, rows: int, columns: int) -> Filled:
    """Windows of so many rows and columns, over views whose patches lie in any order. positions: int64[P, 2]."""
    found = [(-(-down // rows), -(-across // columns)) for down, across in shapes(positions, segments)]
    starts = [0]
    for down, across in found:
        starts.append(starts[-1] + down * across)
    first = torch.tensor(starts[:-1], device=positions.device)
    wide = torch.tensor([across for _, across in found], device=positions.device)
    view = views(segments, positions.device)
    row, column = positions.unbind(1)
    window = first[view] + row // rows * wide[view] + column // columns
    return Filled((window * rows + row % rows) * columns + column % columns, rows, columns, starts[-1])
