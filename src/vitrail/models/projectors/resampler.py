"""Learnt queries that look once at the patches of a view: a fixed grid of tokens of a view of any size.

One layer of cross-attention, without a feed-forward layer and without a residual. Queries of all views are one stream
and patches another, packed segment by segment, so views of different sizes cost what they hold and no padding. The
attention itself is small: most of the work is the two or three linear layers that go over every patch.
Sources: Qwen-VL, arXiv 2308.12966 (`visual.py`, `Resampler`); MiniCPM-V 2.5, arXiv 2408.01800 (`resampler.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.samples import MediaStream, Segments
from vitrail.models.config import ResamplerConfig
from vitrail.models.ops.attention import packed_attention
from vitrail.models.ops.norms import norm
from vitrail.models.ops.positions import from_table, sinusoidal

QUERY_STD = 0.02
"""Of new queries, whose norm makes them as large as any."""


class Resampler(nn.Module):
    """float[P, encoder width] to float[V * rows * columns, backbone width], of V views."""

    def __init__(
        self, config: ResamplerConfig, encoder_width: int, backbone_width: int, patches_per_token: int
    ) -> None:
        """patches_per_token: 1. Raises RecipeError for widths that do not fit together."""
        super().__init__()
        assert patches_per_token == 1, "patches merge before no resampler"
        width = config.width or backbone_width
        _check(config, width, encoder_width, backbone_width)
        self.config = config
        rows, columns = config.queries
        self.queries = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows * columns, width), std=QUERY_STD))

        def normed(there: bool) -> nn.Module:
            return norm(config.norm, width, config.norm_eps) if there else nn.Identity()

        self.query_norm, self.key_norm = normed(config.query_norm), normed(config.key_norm)
        self.kv_projection: nn.Module = nn.Identity()
        if config.kv_projection:
            self.kv_projection = nn.Linear(encoder_width, width, bias=False)
        self.query, self.key, self.value, self.attention_out = (
            nn.Linear(width, width, bias=config.bias) for _ in range(4)
        )
        self.out_norm = normed(config.out_norm)
        self.out_projection: nn.Module = nn.Identity()
        if config.out_projection:
            self.out_projection = nn.Linear(width, backbone_width, bias=False)

    def forward(self, features: Tensor, stream: MediaStream) -> Tensor:
        """Tokens view by view, in each row by row."""
        views = len(stream.segments.lengths)
        seen = self.key_norm(self.kv_projection(features))
        # The same queries look at every view, so they are projected once.
        query = self.query(self._placed_queries()).repeat(views, 1)
        key, value = self.key(self._placed_keys(seen, stream)), self.value(seen)
        query, key, value = (part.unflatten(1, (self.config.heads, -1)).transpose(0, 1) for part in (query, key, value))
        of_queries = Segments((len(self.queries),) * views)
        found = packed_attention(query, key, value, of_queries, stream.segments, causal=False)
        found = self.attention_out(found.transpose(0, 1).flatten(1))
        tokens: Tensor = self.out_projection(self.out_norm(found))
        return tokens

    def _placed_queries(self) -> Tensor:
        """float[rows * columns, width]."""
        queries: Tensor = self.query_norm(self.queries)
        return queries + self._table().to(queries.dtype) if self.config.query_positions else queries

    def _placed_keys(self, seen: Tensor, stream: MediaStream) -> Tensor:
        """float[P, width], by the positions of the stream and not by the order in which patches lie in it."""
        match self.config.key_positions:
            case "resized":
                where = from_table(self._table(), self.config.queries, stream.positions, stream.segments)
            case "own":
                where = sinusoidal(stream.positions, seen.shape[1], columns_first=True)
            case "none":
                return seen
        return seen + where.to(seen.dtype)

    def _table(self) -> Tensor:
        """float32[rows * columns, width]: sines of the queries' grid, row by row."""
        rows, columns = (torch.arange(count, device=self.queries.device) for count in self.config.queries)
        return sinusoidal(torch.cartesian_prod(rows, columns), self.queries.shape[1], columns_first=True)


def _check(config: ResamplerConfig, width: int, encoder_width: int, backbone_width: int) -> None:
    if width % config.heads or width % 4:
        raise RecipeError(
            f"projector.width: the resampler's width, {width}, must be a multiple of heads ({config.heads}) and of 4"
        )
    if not config.kv_projection and encoder_width != width:
        raise RecipeError(
            f"projector.kv_projection: without one the encoder's width, {encoder_width}, must be the resampler's, "
            f"{width}"
        )
    if not config.out_projection and backbone_width != width:
        raise RecipeError(
            f"projector.out_projection: without one the backbone's width, {backbone_width}, must be the resampler's, "
            f"{width}"
        )
