"""Features of patches as planes, for what looks at neighbours on the grid, and back.

Views of one shape that lie side by side are one batch; asking for shapes waits for the device once.
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from vitrail.contracts.samples import Segments
from vitrail.models.ops.positions import shapes, views


class Planes:
    """Where the patches of every view stand, row by row. positions: int64[P, 2], in any order within a view."""

    def __init__(self, positions: Tensor, segments: Segments) -> None:
        found = shapes(positions, segments)
        self.runs = [(len(list(same)), *shape) for shape, same in groupby(found)]
        starts, wide = [0], [columns for _, columns in found]
        for rows, columns in found:
            starts.append(starts[-1] + rows * columns)
        view = views(segments, positions.device)
        first, across = (torch.tensor(one, device=positions.device)[view] for one in (starts[:-1], wide))
        self.slots = first + positions[:, 0] * across + positions[:, 1]

    def of(self, x: Tensor) -> list[Tensor]:
        """float[P, D] to float[views, D, rows, columns] of each run of views of one shape."""
        ordered = torch.empty_like(x).index_copy(0, self.slots, x)
        parts = ordered.split([count * rows * columns for count, rows, columns in self.runs])
        return [part.unflatten(0, run).permute(0, 3, 1, 2) for part, run in zip(parts, self.runs, strict=True)]

    def back(self, planes: list[Tensor]) -> Tensor:
        """The inverse, of planes of the same shapes and any depth."""
        return in_rows(planes)[self.slots]


def in_rows(planes: list[Tensor]) -> Tensor:
    """float[views, D, rows, columns] to float[all, D], view after view, row by row."""
    return torch.cat([plane.permute(0, 2, 3, 1).flatten(0, 2) for plane in planes])
