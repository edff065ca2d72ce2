"""Windows: squares of patches within a view, laid end to end so that packed attention can keep to them.

Finding them waits for the device once a pass; attention over windows then costs patches x window^2, not patches^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.contracts.samples import Segments
from vitrail.models.ops.positions import corners, views


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
