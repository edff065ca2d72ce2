"""One linear layer: the patches of a token, or its features of sound, become one token of the backbone's width."""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.contracts.samples import MediaStream
from vitrail.models.config import LinearProjectorConfig
from vitrail.models.ops.norms import norm


def begin_at_nothing(layer: nn.Linear) -> None:
    """Sets its weights to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class LinearProjector(nn.Module):
    """float[P, encoder width] to float[P / patches_per_token, backbone width].

    Patches of one token lie together in the stream.
    """

    def __init__(
        self, config: LinearProjectorConfig, encoder_width: int, backbone_width: int, patches_per_token: int
    ) -> None:
        super().__init__()
        self.shuffled = encoder_width * patches_per_token
        self.norm: nn.Module = nn.Identity()
        if config.norm != "none":
            self.norm = norm(config.norm, self.shuffled, config.norm_eps)
        self.linear = nn.Linear(self.shuffled, backbone_width, bias=config.bias)
        if config.zero:
            begin_at_nothing(self.linear)

    def forward(self, features: Tensor, stream: MediaStream) -> Tensor:
        """Tokens in the order of `stream.token_index`."""
        # Features without weights of their own are float32, whatever the model is in.
        merged = features.to(self.linear.weight.dtype).reshape(-1, self.shuffled)
        tokens: Tensor = self.linear(self.norm(merged))
        return tokens
