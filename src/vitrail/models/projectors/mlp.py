"""Pixel shuffle and a two-layer MLP: the patches of a token, or its features of sound, become one of the backbone's
width.

InternVL's, NVLM-D's, LLaVA's and Kimi-VL's projectors and Qwen2-VL's merger are this one, by config. Patches of one
token lie together in the stream, so the shuffle costs nothing.
"""

from __future__ import annotations

from math import isqrt

from torch import Tensor, nn

from vitrail.contracts.samples import MediaStream
from vitrail.models.config import MLPProjectorConfig
from vitrail.models.ops.norms import norm
from vitrail.models.ops.positions import corners, views
from vitrail.models.projectors.linear import begin_at_nothing


class MLPProjector(nn.Module):
    """float[P, encoder width] to float[P / patches_per_token, backbone width]."""

    def __init__(
        self, config: MLPProjectorConfig, encoder_width: int, backbone_width: int, patches_per_token: int
    ) -> None:
        super().__init__()
        self.patches_per_token = patches_per_token
        self.shuffled = encoder_width * patches_per_token
        self.norm_merged = config.norm_at == "merged"
        self.by_columns = config.order == "columns"
        hidden = config.hidden or backbone_width
        normed = self.shuffled if self.norm_merged else encoder_width
        self.norm: nn.Module = nn.Identity()
        if config.norm != "none":
            self.norm = norm(config.norm, normed, config.norm_eps)
        self.first = nn.Linear(self.shuffled, hidden, bias=config.bias)
        self.activation = nn.GELU()
        self.second = nn.Linear(hidden, backbone_width, bias=config.bias)
        if config.zero:
            begin_at_nothing(self.second)

    def forward(self, features: Tensor, stream: MediaStream) -> Tensor:
        """Tokens in the order of `stream.token_index`."""
        # Features without weights of their own are float32, whatever the model is in.
        features = features.to(self.first.weight.dtype)
        if self.norm_merged:
            merged = self.norm(features.reshape(-1, self.shuffled))
        else:
            merged = self.norm(features).reshape(-1, self.shuffled)
        tokens: Tensor = self.second(self.activation(self.first(merged)))
        on_a_grid = stream.positions.shape[1] == 2
        return tokens[self._column_order(stream)] if self.by_columns and on_a_grid else tokens

    def _column_order(self, stream: MediaStream) -> Tensor:
        """int64[M]: the tokens of each view, column after column."""
        first, merge = slice(None, None, self.patches_per_token), isqrt(self.patches_per_token)
        row, column = (stream.positions[first] // merge).unbind(1)
        view = views(stream.segments, stream.positions.device)[first]
        rows, columns = (corners(stream.positions, stream.segments).max(0).values + 1).unbind()
        return ((view * columns + column) * rows + row).argsort()
