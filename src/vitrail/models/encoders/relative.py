"""Decomposed relative positions: what a query adds to each key by how many rows, and how many columns, it is away.

Scores of n x n keys need a bias of as many numbers for every query and head: it is made for a few queries at a time, so
that a whole view of 4,096 patches takes megabytes instead of one gigabyte and the kernel reads it while it is in the
cache. With gradients all of it is kept.
Source: SAM, arXiv 2304.02643, and arXiv 2112.01526; transformers, `modeling_sam.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vitrail.models.ops.windows import Filled

TOGETHER = 256
"""Queries of a window whose biases are made at a time."""


class RelativeAttention(nn.Module):
    """Attention within windows of rows x columns; a table for either axis, of one entry for every distance."""

    def __init__(self, rows: int, columns: int, head_width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(2 * rows - 1, head_width))
        self.columns = nn.Parameter(torch.zeros(2 * columns - 1, head_width))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, windows: Filled) -> Tensor:
        """query, key, value: float[H, T, d], windows end to end. Returns the same shape.

        Queries meet the tables as they are, keys scaled by 1 / sqrt(d).
        """
        query, key, value = (one.unflatten(1, (windows.count, -1)).transpose(0, 1) for one in (query, key, value))
        by_row, by_column = self._away(query, windows)
        found = []
        pieces = (one.split(TOGETHER, 2) for one in (query, by_row, by_column))
        for some, down, across in zip(*pieces, strict=True):
            bias = (down[..., :, None] + across[..., None, :]).flatten(3)
            found.append(scaled_dot_product_attention(some, key, value, attn_mask=bias))
        return torch.cat(found, 2).transpose(0, 1).flatten(1, 2)

    def _away(self, query: Tensor, windows: Filled) -> tuple[Tensor, Tensor]:
        """What queries float[W, H, P, d] add to every row of keys, float[W, H, P, rows], and to every column."""
        number = torch.arange(windows.rows * windows.columns, device=query.device)
        found = []
        for table, own, count in (
            (self.rows, number // windows.columns, windows.rows),
            (self.columns, number % windows.columns, windows.columns),
        ):
            assert len(table) == 2 * count - 1, f"{len(table)} distances, a window of {count} has {2 * count - 1}"
            distance = own[:, None] - torch.arange(count, device=query.device) + count - 1
            found.append((query @ table.T).gather(3, distance.expand(*query.shape[:2], -1, -1)))
        return found[0], found[1]
