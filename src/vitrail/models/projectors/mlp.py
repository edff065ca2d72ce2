"""Pixel shuffle and a two-layer MLP: merge x merge patches become one token of the backbone's width."""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.contracts.samples import VisionStream
from vitrail.models.config import MLPProjectorConfig


class MLPProjector(nn.Module):
    """float[P, encoder width] to float[P / merge^2, backbone width].

    Patches of one token lie together in the stream.
    """

    def __init__(self, config: MLPProjectorConfig, encoder_width: int, backbone_width: int, merge: int) -> None:
        super().__init__()
        self.shuffled = encoder_width * merge**2
        hidden = config.hidden or backbone_width
        self.norm = nn.RMSNorm(encoder_width, eps=1e-5)
        self.first = nn.Linear(self.shuffled, hidden)
        self.activation = nn.GELU()
        self.second = nn.Linear(hidden, backbone_width)

    def forward(self, features: Tensor, stream: VisionStream) -> Tensor:
        """Tokens in the order of `stream.token_index`."""
        merged = self.norm(features).reshape(-1, self.shuffled)
        tokens: Tensor = self.second(self.activation(self.first(merged)))
        return tokens
