"""Frozen matrices in 4 bits: NF4, the number format of QLoRA, in plain PyTorch, so that it runs on every device.

A block of weights is kept as its largest magnitude and, for each weight, the nearest of 16 levels between -1 and 1.
4.25 bits a weight; a product first makes the matrix again in the format of its input, and drops it after.
Source: the levels and the blocks, QLoRA, arXiv 2305.14314; scales are bfloat16 here, float32 in 8 bits there.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Quantiles of the normal distribution, zero among them. Source: bitsandbytes, `create_normal_map`."""
BLOCK = 64
"""Weights of a row that share a scale; fewer where a row's length is no multiple of it."""
CODES, SCALES = "codes", "scales"


def packed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """float[out, in], `in` even, to codes uint8[out, in / 2], two weights a byte, and scales bfloat16[out, blocks]."""
    rows, columns = weight.shape
    assert columns % 2 == 0, f"a row of {columns} weights makes no whole bytes"
    levels = torch.tensor(LEVELS, device=weight.device)
    blocks = weight.float().reshape(rows, -1, gcd(columns, BLOCK))
    scales = blocks.abs().amax(-1).bfloat16()
    # The scale that is kept is the rounded one, so levels are chosen by it; a block of zeros has the level of zero.
    relative = blocks / scales.float().clamp(min=torch.finfo(torch.float32).tiny)[..., None]
    codes = torch.bucketize(relative, (levels[1:] + levels[:-1]) / 2).to(torch.uint8).reshape(rows, -1)
    return codes[:, 0::2] << 4 | codes[:, 1::2], scales


def unpacked(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse, but for what 4 bits cannot say: float[out, in]."""
    levels = torch.tensor(LEVELS, device=codes.device, dtype=dtype)
    both = levels[torch.stack((codes >> 4, codes & 15), -1).int()].reshape(*scales.shape, -1)
    return (both * scales.to(dtype)[..., None]).reshape(len(codes), -1)


class QuantisedLinear(nn.Module):
    """A linear layer that does not learn, float[..., in] to float[..., out]. Its codes and scales are buffers.

    weight: there is none, for those who would go by the number format of one (T5's layers do).
    """

    weight = None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        codes, scales = packed(linear.weight.detach())
        self.register_buffer(CODES, codes)
        self.register_buffer(SCALES, scales)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """The product with the matrix that the codes stand for."""
        out: Tensor = _Product.apply(x, self.codes, self.scales)
        return out if self.bias is None else out + self.bias


class _Product(torch.autograd.Function):
    """Keeps the codes for the way back, where a product of torch's own would keep the whole matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
        ctx.save_for_backward(codes, scales)
        return x @ unpacked(codes, scales, x.dtype).T

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, None, None]:
        codes, scales = ctx.saved_tensors
        return grad[0] @ unpacked(codes, scales, grad[0].dtype), None, None


def quantise(layers: nn.Module) -> None:
    """Puts a quantised layer in the place of every linear one, those that adapters stand beside included."""
    for module in list(layers.modules()):
        for name, child in list(module.named_children()):
            # An adapter's own pair stands in dictionaries of that name.
            if type(child) is nn.Linear and not isinstance(module, nn.ModuleDict):
                setattr(module, name, QuantisedLinear(child))


def unquantised(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with each pair of codes and scales as the matrix they stand for, float32, on the CPU."""
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith((f".{CODES}", f".{SCALES}"))}
    for name, codes in tensors.items():
        if name.endswith(f".{CODES}"):
            layer = name.removesuffix(CODES)
            found[f"{layer}weight"] = unpacked(codes, tensors[layer + SCALES], torch.float32).cpu()
    return found


def weights(module: nn.Module) -> int:
    """Weights that are kept in codes below a module."""
    return sum(2 * tensor.numel() for name, tensor in module.named_buffers() if name.endswith(f".{CODES}"))
