"""SAM's neck: features of patches to fewer channels, with a look at the neighbours of each. Cheap beside the blocks."""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.models.ops.norms import norm
from vitrail.models.ops.planes import Planes


class Neck(nn.Module):
    """A linear layer and a convolution of 3 x 3, both without a bias and each followed by a LayerNorm."""

    def __init__(self, width: int, out: int, eps: float) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, out, bias=False)
        self.first_norm = norm("layer", out, eps)
        self.mix = nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False)
        self.second_norm = norm("layer", out, eps)

    def forward(self, x: Tensor, planes: Planes) -> Tensor:
        """float[P, width] to float[P, out], in the same order."""
        mixed = [self.mix(plane) for plane in planes.of(self.first_norm(self.reduce(x)))]
        out: Tensor = self.second_norm(planes.back(mixed))
        return out
