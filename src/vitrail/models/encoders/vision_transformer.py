"""A vision transformer over packed pictures of any size.

All views of a pack run through as one stream of patches; segments keep them apart. No position table limits their size.
Source: the block is Pixtral's (arXiv 2410.07073): RMSNorm before attention and before a SwiGLU, no biases, axial rotary
positions.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from vitrail.contracts.samples import Segments, VisionStream
from vitrail.models.config import VisionTransformerConfig
from vitrail.models.ops.attention import packed_attention
from vitrail.models.ops.positions import axial_angles, rotate, sines

NORM_EPS = 1e-5
BRANCH = 0.1
"""What the blocks' outputs are scaled by before training."""
BLUR = 1.5
"""Deviation of the blur of the first filters, px."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": silu, "gelu": gelu}


class VisionTransformer(nn.Module):
    """VisionStream to features float[P, width]."""

    def __init__(self, config: VisionTransformerConfig, patch_values: int) -> None:
        """patch_values: numbers in a patch, 3 x patch x patch."""
        super().__init__()
        self.width = config.width
        self.head_width = config.width // config.heads
        self.rope_theta = config.rope_theta
        self.absolute = config.absolute
        self.stem = nn.Linear(patch_values, config.width, bias=False)
        self.stem_norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.apply(_initialise)
        _smooth(self.stem.weight)

    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        return [piece for block in blocks for piece in (block.attention_norm, block.mlp_norm, block.mlp)]

    def forward(self, stream: VisionStream) -> Tensor:
        """Features of every patch, float[P, width]."""
        cos, sin = axial_angles(stream.positions, self.head_width, self.rope_theta)
        x: Tensor = self.stem_norm(self.stem(stream.patches.to(self.stem.weight.dtype)))
        if self.absolute == "sines":
            x = x + sines(stream.positions, self.width).to(x.dtype)
        turn = cos.to(x.dtype), sin.to(x.dtype)
        for block in self.blocks:
            x = block(x, turn, stream.segments)
        return x


class Block(nn.Module):
    """Attention within each view, then a gated MLP; both added to the stream."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.query_key_value = nn.Linear(config.width, 3 * config.width, bias=False)
        self.attention_out = nn.Linear(config.width, config.width, bias=False)
        self.mlp_norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.mlp = GatedMLP(config.width, config.mlp_width, config.activation)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], segments: Segments) -> Tensor:
        """float[P, width] to the same; turn: (cos, sin), each float[P, head width]."""
        x = x + self._attend(self.attention_norm(x), turn, segments)
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out

    def _attend(self, x: Tensor, turn: tuple[Tensor, Tensor], segments: Segments) -> Tensor:
        query, key, value = self.query_key_value(x).unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)
        mixed = packed_attention(rotate(query, *turn), rotate(key, *turn), value, segments, causal=False)
        out: Tensor = self.attention_out(mixed.transpose(0, 1).flatten(1))
        return out


class GatedMLP(nn.Module):
    """down(activation(gate(x)) * up(x)), gate and up in one product; a SwiGLU where the activation is silu."""

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """float[P, width] to the same."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        out: Tensor = self.down(self.activation(gate) * up)
        return out


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
    if isinstance(module, Block):
        # Blocks that begin by changing little learn letters in a third of the steps (docs/log.md).
        module.attention_out.weight *= BRANCH
        module.mlp.down.weight *= BRANCH


@torch.no_grad()
def _smooth(stem: Tensor) -> None:
    """Fills float[width, 3 * patch * patch] with blurred noise of one tint each, most of it without a mean.

    Filters of white noise answer anew to a letter that moved by one pixel, and all of them answer to the paper's
    colour; these do neither. One in ten keeps its mean, so that blank paper is still seen.
    """
    width, values = stem.shape
    patch = isqrt(values // 3)
    offsets = torch.arange(patch, device=stem.device, dtype=torch.float32)
    blur = torch.exp(-((offsets[:, None] - offsets) ** 2) / (2 * BLUR**2))
    filters = blur @ torch.randn(width, 1, patch, patch, device=stem.device) @ blur
    most = slice(width // 10, None)
    filters[most] -= filters[most].mean((2, 3), keepdim=True)
    tint = torch.ones(width, 3, 1, 1, device=stem.device)
    tint[-(width // 10) :] = torch.randn(width // 10, 3, 1, 1, device=stem.device) if width >= 10 else 1.0
    filters = (filters * tint).flatten(1)
    stem.copy_(filters / filters.norm(dim=1, keepdim=True))
