"""The stem: patches, cut out and flattened, to the encoder's width; one matrix product.

A convolution whose stride is its kernel is this product, so Conv2d and Conv3d weights are its weights, flattened.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

BLUR = 1.5
"""Deviation of the blur of the first filters, px."""


class PatchStem(nn.Linear):
    """float[P, 3 * frames * patch * patch] (channel, frame, row, column) to float[P, width].

    A patch of a still picture may come with a single frame: it counts as `frames` equal ones.
    """

    def __init__(self, values: int, width: int, frames: int, *, bias: bool) -> None:
        """values: numbers in one frame of a patch, 3 x patch x patch."""
        super().__init__(frames * values, width, bias)
        self.frames = frames

    def forward(self, patches: Tensor) -> Tensor:
        """Patches of pictures or of frames, in the weights' number format or another."""
        patches = patches.to(self.weight.dtype)
        weight = self.weight
        if patches.shape[1] != self.in_features:
            assert patches.shape[1] * self.frames == self.in_features, (
                f"patches hold {patches.shape[1]} values, the stem takes {self.in_features} of {self.frames} frames"
            )
            # The same answer as for repeated frames, at a part of the cost.
            weight = weight.unflatten(1, (3, self.frames, -1)).sum(2).flatten(1)
        return linear(patches, weight, self.bias)

    @torch.no_grad()
    def smooth(self) -> None:
        """Fills the weights with blurred noise of one tint each, most of it without a mean; the bias with zeros.

        Filters of white noise answer anew to a letter that moved by one pixel, and all of them answer to the paper's
        colour; these do neither. One in ten keeps its mean, so that blank paper is still seen.
        """
        width, values = self.weight.shape
        patch, device = isqrt(values // (3 * self.frames)), self.weight.device
        offsets = torch.arange(patch, device=device, dtype=torch.float32)
        blur = torch.exp(-((offsets[:, None] - offsets) ** 2) / (2 * BLUR**2))
        filters = blur @ torch.randn(width, 1, patch, patch, device=device) @ blur
        most = slice(width // 10, None)
        filters[most] -= filters[most].mean((2, 3), keepdim=True)
        tint = torch.ones(width, 3, 1, 1, device=device)
        tint[-(width // 10) :] = torch.randn(width // 10, 3, 1, 1, device=device) if width >= 10 else 1.0
        filters = (filters * tint).flatten(1)
        filters = filters / filters.norm(dim=1, keepdim=True)
        if self.frames > 1:
            filters = filters.unflatten(1, (3, 1, -1)).expand(-1, -1, self.frames, -1).flatten(1) / self.frames
        self.weight.copy_(filters)
        if self.bias is not None:
            self.bias.zero_()
