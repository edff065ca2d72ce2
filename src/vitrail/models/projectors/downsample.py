"""DeepSeek-VL's way from SAM's fine grid to that of its other encoder: a resize, and two convolutions that halve it.

Costs a few products over four times the tokens' rows and columns, little beside the encoder before it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.samples import MediaStream
from vitrail.models.config import DownsampleConfig
from vitrail.models.encoders.neck import Neck
from vitrail.models.ops.planes import Planes, in_rows

HALVINGS = 2
NECK_EPS = 1e-6


class Downsample(nn.Module):
    """float[P, encoder width] to float[V * rows * columns, width], of V views of any size."""

    def __init__(
        self, config: DownsampleConfig, encoder_width: int, backbone_width: int, patches_per_token: int
    ) -> None:
        """patches_per_token: 1. Raises RecipeError for features of another width than `early` says."""
        super().__init__()
        assert patches_per_token == 1, "patches do not merge before a fixed grid of tokens"
        self.config, self.width = config, config.channels[-1]
        if config.early and config.early >= encoder_width:
            raise RecipeError(
                f"projector.early is {config.early}, the encoder's features are {encoder_width} wide: none lie behind"
            )
        widths = (config.early or encoder_width, *config.channels)
        self.halvings = nn.ModuleList(
            nn.Conv2d(widths[number], widths[number + 1], kernel_size=3, stride=2, padding=1, bias=False)
            for number in range(HALVINGS)
        )
        if config.early:
            self.early_neck = Neck(encoder_width - config.early, config.early, NECK_EPS)
            self.early_gate = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor, stream: MediaStream) -> Tensor:
        """Tokens view by view, in each row by row."""
        planes = Planes(stream.positions, stream.segments)
        if not self.config.early:
            return self._halved(features, planes)
        last, early = features[:, : self.config.early], features[:, self.config.early :]
        return self._halved(last, planes) + self.early_gate * self._halved(self.early_neck(early, planes), planes)

    def _halved(self, features: Tensor, planes: Planes) -> Tensor:
        rows, columns = (2**HALVINGS * side for side in self.config.grid)
        found = []
        for plane in planes.of(features):
            resized = interpolate(plane.float(), (rows, columns), mode="bilinear", align_corners=False).to(plane.dtype)
            for halving in self.halvings:
                resized = halving(resized)
            found.append(resized)
        return in_rows(found)
