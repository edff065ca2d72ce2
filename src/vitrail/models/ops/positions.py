"""Positions of patches on a grid: rotary in two dimensions, and sines that are added.

Source: the rotary one is the axial scheme of Pixtral (transformers `modeling_pixtral.py`): even frequencies turn with
the row, odd ones with the column, and the halves of a head are rotated against each other as in Llama.
"""

from __future__ import annotations

import torch
from torch import Tensor


def axial_angles(positions: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """int64[P, 2] rows and columns to (cos, sin), each float32[P, head_width]."""
    exponents = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width
    frequencies = 1.0 / theta**exponents
    rows, columns = positions.float().unbind(1)
    angles = torch.cat([rows[:, None] * frequencies[0::2], columns[:, None] * frequencies[1::2]], dim=1)
    angles = torch.cat([angles, angles], dim=1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """float[..., P, d] turned by (cos, sin), each [P, d]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def sines(positions: Tensor, width: int) -> Tensor:
    """int64[P, 2] rows and columns to float32[P, width]: sines and cosines of each at width / 4 frequencies.

    Source: the fixed 2-D embedding of "Better plain ViT baselines for ImageNet-1k" (arXiv 2205.01580).
    """
    count = width // 4
    exponents = torch.arange(count, device=positions.device, dtype=torch.float32) / max(1, count - 1)
    angles = positions.float()[:, :, None] / 10_000.0**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)
