"""Positions of patches on a grid, rotary in two dimensions, sines that are added, learnt tables; and M-RoPE's of text.

All of them read `positions`, never from the order of the stream. A learnt table asks for the shape of
every view, which on CUDA waits for the device once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vitrail.contracts.samples import Segments


def axial_angles(positions: Tensor, head_width: int, theta: float, *, shared: bool = False) -> tuple[Tensor, Tensor]:
    """int64[P, 2] rows and columns to (cos, sin), each float32[P, head_width].

    The first quarter of a head ropes with the row against the third, the second with the column against the fourth.
    shared: rows and columns both take the frequencies with even numbers; else rows take those, columns the odd ones.
    Sources: transformers `modeling_pixtral.py`; shared, `modeling_qwen2_vl.py`.
    """
    exponents = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width
    frequencies = 1.0 / theta**exponents
    rows, columns = positions.float().unbind(1)
    of_columns = frequencies[0::2] if shared else frequencies[1::2]
    angles = torch.cat([rows[:, None] * frequencies[0::2], columns[:, None] * of_columns], dim=1)
    angles = torch.cat([angles, angles], dim=1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """float[..., P, d] turned by (cos, sin), each [P, d]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def by_sections(rope: Tensor, sections: Sequence[int]) -> Tensor:
    """float[3, T, d] of three axes, cosines or sines, to float[T, d]: each section of frequencies is of the next axis.

    sections: frequencies of each axis, d / 2 together. Source: M-RoPE, arXiv 2409.12191; transformers `qwen2_vl`.
    """
    axes = torch.arange(len(sections), device=rope.device).repeat_interleave(
        torch.tensor(sections, device=rope.device), output_size=sum(sections)
    )
    return rope[axes.repeat(2), :, torch.arange(rope.shape[2], device=rope.device)].T


def sinusoidal(positions: Tensor, width: int, *, columns_first: bool = False) -> Tensor:
    """int64[P, axes], rows and columns or frames, to float32[P, width]: sines and cosines of each axis at
    width / (2 * axes) frequencies.

    Rows fill the first half, and the slowest frequency is 1 / 10000. columns_first: columns do, and that frequency
    would be the next one.
    Sources: the fixed 2-D embedding of "Better plain ViT baselines for ImageNet-1k" (arXiv 2205.01580); on one axis,
    Whisper's (arXiv 2212.04356); columns first, `get_2d_sincos_pos_embed` of MAE (arXiv 2111.06377), which Qwen-VL and
    MiniCPM-V took over.
    """
    count = width // (2 * positions.shape[1])
    steps = count if columns_first else max(1, count - 1)
    exponents = torch.arange(count, device=positions.device, dtype=torch.float32) / steps
    positions = positions.flip(1) if columns_first else positions
    angles = positions.float()[:, :, None] / 10_000.0**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)


def views(segments: Segments, device: torch.device) -> Tensor:
    """int64[P]: the number of the view that each patch is of."""
    lengths = torch.tensor(segments.lengths, device=device)
    return torch.arange(len(segments.lengths), device=device).repeat_interleave(lengths, output_size=segments.total)


def corners(positions: Tensor, segments: Segments) -> Tensor:
    """int64[V, 2]: the last row and column of each view."""
    view = views(segments, positions.device)[:, None].expand(-1, 2)
    return positions.new_zeros(len(segments.lengths), 2).scatter_reduce(0, view, positions, "amax")


def shapes(positions: Tensor, segments: Segments) -> list[tuple[int, int]]:
    """Rows and columns of each view, which waits for the device; squares where nothing is stored to be asked for."""
    if positions.is_meta:
        return [(isqrt(length), length // isqrt(length)) for length in segments.lengths]
    return [(row + 1, column + 1) for row, column in corners(positions, segments).tolist()]


def from_table(table: Tensor, shape: tuple[int, int], positions: Tensor, segments: Segments) -> Tensor:
    """float[rows * columns, D], learnt for a grid of that shape, to float[P, D] for views of any shape.

    A view of another shape takes the table resized to its own: bicubic, in float32.
    Sources: `interpolate_pos_encoding` of transformers' CLIP, SigLIP and InternVL, `_get_pos_embed` of InternViT.
    """
    if positions.is_meta:
        # What is counted without storage has no shapes to ask for: as many rows of the table as there would be.
        return table[positions[:, 0]]
    grids = shapes(positions, segments)
    start, starts, tables = 0, {}, []
    for grid in dict.fromkeys(grids):
        starts[grid] = start
        tables.append(table if grid == shape else _resized(table, shape, grid))
        start += grid[0] * grid[1]
    first, wide = torch.tensor([(starts[grid], grid[1]) for grid in grids], device=positions.device).T
    view = views(segments, positions.device)
    rows, columns = positions.unbind(1)
    all_tables = tables[0] if len(tables) == 1 else torch.cat(tables)
    return all_tables[first[view] + rows * wide[view] + columns]


def _resized(table: Tensor, shape: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    plane = table.float().unflatten(0, shape).permute(2, 0, 1)[None]
    resized = interpolate(plane, size=grid, mode="bicubic", align_corners=False)
    return resized[0].flatten(1).T.to(table.dtype)
