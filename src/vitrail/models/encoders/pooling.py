"""One vector of a view: what contrastive models compare, and what no language model reads.

Its cost is that of a token a view, beside blocks over hundreds of patches.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vitrail.contracts.samples import Segments
from vitrail.models.config import VisionTransformerConfig
from vitrail.models.encoders.feed_forward import PlainMLP
from vitrail.models.ops.norms import norm


class ClassPooling(nn.Module):
    """The class token, normed and mapped. Source: CLIP, arXiv 2103.00020."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.norm = norm(config.norm, config.width, config.norm_eps)
        width = config.pooled_width
        self.projection = nn.Linear(config.width, width, bias=False) if width else nn.Identity()

    def forward(self, x: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
        """float[P, width], class tokens first in their segments, to float[V, width] before and after the map."""
        starts = list(accumulate(segments.lengths[:-1], initial=0))
        summary = self.norm(x[starts])
        return summary, self.projection(summary)


class AttentionPooling(nn.Module):
    """One learnt query attends to the view, then an MLP. Source: SigLIP; "multi-head attention pooling"."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Parameter(torch.empty(config.width).normal_(std=config.width**-0.5))
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.attention_out = nn.Linear(config.width, config.width)
        self.norm = norm(config.norm, config.width, config.norm_eps)
        self.mlp = PlainMLP(config.width, config.mlp_width, config.activation, bias=True)
        width = config.pooled_width
        self.projection = nn.Linear(config.width, width, bias=False) if width else nn.Identity()

    def forward(self, x: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
        """float[P, width] to float[V, width] before and after the map."""
        weights, biases = self.query_key_value.weight.split(len(self.query)), self.query_key_value.bias.chunk(3)
        query = (weights[0] @ self.query + biases[0]).unflatten(0, (self.heads, -1))
        key, value = (x @ torch.cat(weights[1:]).T + torch.cat(biases[1:])).unflatten(1, (2, self.heads, -1)).unbind(1)
        seen, start = [], 0
        for length, count in segments.runs:
            run = slice(start, start := start + length * count)
            keys, values = (stream[run].unflatten(0, (count, length)).transpose(1, 2) for stream in (key, value))
            queries = query[None, :, None].expand(count, -1, -1, -1)
            seen.append(scaled_dot_product_attention(queries, keys, values).flatten(1))
        summary: Tensor = self.attention_out(torch.cat(seen))
        summary = summary + self.mlp(self.norm(summary))
        return summary, self.projection(summary)
