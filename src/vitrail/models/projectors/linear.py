"""One linear layer: merge x merge patches become one token of the backbone's width."""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.contracts.samples import MediaStream
from vitrail.models.config import LinearProjectorConfig


class LinearProjector(nn.Module):
    """float[P, encoder width] to float[P / merge^2, backbone width].

    Patches of one token lie together in the stream.
    """

    def __init__(self, config: LinearProjectorConfig, encoder_width: int, backbone_width: int, merge: int) -> None:
        super().__init__()
        self.shuffled = encoder_width * merge**2
        self.linear = nn.Linear(self.shuffled, backbone_width, bias=config.bias)

    def forward(self, features: Tensor, stream: MediaStream) -> Tensor:
        """Tokens in the order of `stream.token_index`."""
        tokens: Tensor = self.linear(features.reshape(-1, self.shuffled))
        return tokens
