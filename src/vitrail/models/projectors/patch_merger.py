"""The projector of Mistral Small 3.1: norm, linear patch merger, two-layer MLP.

Source: transformers `Mistral3MultiModalProjector`. There the values of merged patches stand channel by channel; here
patch by patch, as they lie in the stream. `systems/mistral3.py` reorders the merger's columns on the way in and out.
"""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.contracts.samples import MediaStream
from vitrail.models.config import PatchMergerConfig


class PatchMerger(nn.Module):
    """float[P, encoder width] to float[P / patches_per_token, backbone width].

    Patches of one token lie together in the stream.
    """

    def __init__(
        self, config: PatchMergerConfig, encoder_width: int, backbone_width: int, patches_per_token: int
    ) -> None:
        super().__init__()
        self.merged = encoder_width * patches_per_token
        self.norm = nn.RMSNorm(encoder_width, eps=config.norm_eps)
        self.merger = nn.Linear(self.merged, encoder_width, bias=False)
        self.first = nn.Linear(encoder_width, backbone_width, bias=config.bias)
        self.activation = nn.GELU()
        self.second = nn.Linear(backbone_width, backbone_width, bias=config.bias)

    def forward(self, features: Tensor, stream: MediaStream) -> Tensor:
        """Tokens in the order of `stream.token_index`."""
        merged = self.merger(self.norm(features).reshape(-1, self.merged))
        tokens: Tensor = self.second(self.activation(self.first(merged)))
        return tokens
