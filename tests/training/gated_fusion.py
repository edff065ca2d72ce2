"""A fusion of a user's own: media beside the text, seen between the layers through a gate without a dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.contracts.samples import VISION, Batch, Segments
from vitrail.models.ops.attention import packed_attention


class Gated(nn.Module):
    """One layer of cross-attention before each decoder layer, all with the same weights."""

    def __init__(self, backbone: Any, spliced: bool = False) -> None:
        super().__init__()
        self.query = nn.Linear(backbone.width, backbone.width, bias=False)
        self.key_value = nn.Linear(backbone.width, 2 * backbone.width, bias=False)
        self.gate = nn.Parameter(torch.tensor(0.5))

    def forward(self, embeddings: Tensor, media: Mapping[str, Tensor], batch: Batch, cache: Any = None) -> Any:
        if VISION not in media:
            return embeddings, None
        views, links = batch.media[VISION].views, batch.media[VISION].links
        lengths = [0] * len(batch.text.segments.lengths)
        for view, link in zip(views, links, strict=True):
            lengths[link.segment] += view.tokens
        return embeddings, Seen(self, media[VISION], batch.text.segments, Segments(tuple(lengths)))

    def resumed(self, cache: Any) -> Any:
        return None


class Seen:
    """The context."""

    def __init__(self, fusion: Gated, media: Tensor, text: Segments, views: Segments) -> None:
        self.fusion, self.media, self.text, self.views = fusion, media, text, views

    def before(self, layer: int, hidden: Tensor) -> Tensor:
        key, value = self.fusion.key_value(self.media).chunk(2, dim=1)
        query = self.fusion.query(hidden)
        seen = packed_attention(query[None], key[None], value[None], self.text, self.views, causal=False)
        return hidden + self.fusion.gate.tanh() * seen[0]
