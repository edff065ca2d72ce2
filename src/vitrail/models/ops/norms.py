"""The two norms of vision encoders and projectors."""

from __future__ import annotations

from typing import Literal

from torch import nn


def norm(kind: Literal["rms", "layer"], width: int, eps: float) -> nn.Module:
    """RMSNorm, or LayerNorm with a bias, over the last `width` numbers."""
    return nn.RMSNorm(width, eps=eps) if kind == "rms" else nn.LayerNorm(width, eps=eps)
