"""What a block does to each patch alone: gated and plain MLPs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x): CLIP's. Its derivative and GELU's are near, their values differ in the second digit."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
}


class GatedMLP(nn.Module):
    """down(activation(gate(x)) * up(x)), gate and up in one product; a SwiGLU where the activation is silu."""

    def __init__(self, width: int, inner: int, activation: str, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * inner, bias=bias)
        self.down = nn.Linear(inner, width, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """float[P, width] to the same."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        out: Tensor = self.down(self.activation(gate) * up)
        return out


class PlainMLP(nn.Module):
    """down(activation(up(x)))."""

    def __init__(self, width: int, inner: int, activation: str, *, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner, bias=bias)
        self.down = nn.Linear(inner, width, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """float[P, width] to the same."""
        out: Tensor = self.down(self.activation(self.up(x)))
        return out
