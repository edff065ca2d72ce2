"""Flamingo's Perceiver resampler: learnt queries look at the features of a view in several layers.

In each layer the queries attend to the features and to themselves together, then go through an MLP. All views of a pack
are one stream, segment by segment, without padding. Costs: each layer makes keys and values of all features anew.
Sources: Flamingo, arXiv 2204.14198, section 2.1; OpenFlamingo, open_flamingo/src/helpers.py.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.samples import MediaStream, Segments
from vitrail.models.config import PerceiverConfig
from vitrail.models.encoders.feed_forward import PlainMLP
from vitrail.models.ops.attention import packed_attention


class PerceiverResampler(nn.Module):
    """float[P, encoder width] to float[V * queries, token width], of V views."""

    def __init__(
        self, config: PerceiverConfig, encoder_width: int, backbone_width: int, patches_per_token: int
    ) -> None:
        """backbone_width: of media tokens. patches_per_token: 1. Raises RecipeError for widths that do not fit."""
        super().__init__()
        assert patches_per_token == 1, "patches merge before no resampler"
        if not config.out_projection and encoder_width != backbone_width:
            raise RecipeError(
                f"projector.out_projection: without one the encoder's width, {encoder_width}, must be that of media "
                f"tokens, {backbone_width} (model.fusion.media_width)"
            )
        self.config = config
        self.queries = nn.Parameter(torch.randn(config.queries, encoder_width))
        if config.frames:
            self.frame_table = nn.Parameter(torch.randn(config.frames, encoder_width))
        if config.media:
            self.media_table = nn.Parameter(torch.randn(config.media, encoder_width))
        self.blocks = nn.ModuleList(PerceiverBlock(config, encoder_width) for _ in range(config.depth))
        self.out_norm = nn.LayerNorm(encoder_width, eps=config.norm_eps)
        self.out_projection: nn.Module = nn.Identity()
        if config.out_projection:
            self.out_projection = nn.Linear(encoder_width, backbone_width, bias=False)

    def forward(self, features: Tensor, stream: MediaStream) -> Tensor:
        """Tokens view by view."""
        features = self._placed(features, stream)
        views, of_features = len(stream.segments.lengths), stream.segments
        order = _interleaved(of_features.lengths, len(self.queries)).to(features.device)
        both = Segments(tuple(length + len(self.queries) for length in of_features.lengths))
        queries = self.queries.repeat(views, 1)
        of_queries = Segments((len(self.queries),) * views)
        for block in self.blocks:
            queries = block(queries, features, order, of_queries, both)
        tokens: Tensor = self.out_projection(self.out_norm(queries))
        return tokens

    def _placed(self, features: Tensor, stream: MediaStream) -> Tensor:
        """With the embeddings of frames and views; those beyond the tables take the last."""
        config = self.config
        if config.frames:
            # Of positions with three axes the first is the frame; a view of fewer axes is one frame.
            of_video = stream.positions.shape[1] == 3
            frame = stream.positions[:, 0] if of_video else torch.zeros_like(stream.positions[:, 0])
            features = features + self.frame_table[frame.clamp(max=config.frames - 1)]
        if config.media:
            number = torch.tensor(_numbers(stream), device=features.device).clamp(max=config.media - 1)
            lengths = torch.tensor(stream.segments.lengths, device=features.device)
            number = number.repeat_interleave(lengths, output_size=len(features))
            features = features + self.media_table[number]
        return features


class PerceiverBlock(nn.Module):
    """Queries attend to features and to each other, then go through an MLP; both are added to them."""

    def __init__(self, config: PerceiverConfig, width: int) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.head_width = config.head_width
        self.feature_norm, self.query_norm, self.mlp_norm = (nn.LayerNorm(width, eps=config.norm_eps) for _ in range(3))
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.attention_out = nn.Linear(inner, width, bias=False)
        self.mlp = PlainMLP(width, config.mlp_width or 4 * width, "gelu", bias=False)

    def forward(
        self, queries: Tensor, features: Tensor, order: Tensor, of_queries: Segments, of_both: Segments
    ) -> Tensor:
        """Queries float[V * Q, width] to the same. order: that lays each view's queries behind its features."""
        normed = self.query_norm(queries)
        both = torch.cat([self.feature_norm(features), normed])[order]
        key, value = self.key_value(both).chunk(2, dim=1)
        query, key, value = (
            part.unflatten(1, (-1, self.head_width)).transpose(0, 1) for part in (self.query(normed), key, value)
        )
        found = packed_attention(query, key, value, of_queries, of_both, causal=False)
        queries = queries + self.attention_out(found.transpose(0, 1).flatten(1))
        out: Tensor = queries + self.mlp(self.mlp_norm(queries))
        return out


def _interleaved(lengths: tuple[int, ...], queries: int) -> Tensor:
    """int64: the features of each view and then its queries, where all features lie before all queries."""
    ends, total = list(accumulate(lengths)), sum(lengths)
    pieces = []
    for view, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        pieces += [torch.arange(end - length, end), total + torch.arange(view * queries, (view + 1) * queries)]
    return torch.cat(pieces)


def _numbers(stream: MediaStream) -> list[int]:
    """Of each view its number among those of its sample, as they lie in the stream."""
    seen: dict[int, int] = {}
    numbers = []
    for link in stream.links:
        numbers.append(seen.get(link.segment, 0))
        seen[link.segment] = numbers[-1] + 1
    return numbers
