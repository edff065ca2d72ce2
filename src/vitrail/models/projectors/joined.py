"""Tokens of two encoders of the same pictures become one: DeepSeek-VL's adaptor, as cheap as an MLP of its width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.contracts.samples import MediaStream
from vitrail.models.config import JoinedConfig


class Joined(nn.Module):
    """float[P, encoder width] and float[P, beside width] to float[P, backbone width]."""

    def __init__(
        self,
        config: JoinedConfig,
        encoder_width: int,
        backbone_width: int,
        patches_per_token: int,
        beside_width: int,
    ) -> None:
        """patches_per_token: 1. beside_width: of the tokens of the stream that it joins."""
        super().__init__()
        assert patches_per_token == 1, "patches do not merge before they are joined"
        self.joins = config.joins
        half = backbone_width // 2
        self.beside = nn.Linear(beside_width, half)
        self.own = nn.Linear(encoder_width, backbone_width - half)
        self.activation = nn.GELU()
        self.out = nn.Linear(backbone_width, backbone_width)

    def forward(self, features: Tensor, stream: MediaStream, beside: Tensor) -> Tensor:
        """Tokens in the order of `stream.token_index`; those of the other stream come first within each."""
        assert len(beside) == len(features), f"{len(beside)} tokens of '{self.joins}' beside {len(features)} features"
        tokens: Tensor = self.out(self.activation(torch.cat([self.beside(beside), self.own(features)], 1)))
        return tokens
