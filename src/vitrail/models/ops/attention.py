"""Packed attention: many segments in one stream, none sees another.

Segments are a required argument, so a leak between samples cannot be written by accident. On the CPU each run of
equal segments is one batched call of PyTorch's flash kernel, and no mask is ever built; on CUDA in half precision the whole
stream is one call of the variable-length kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrail.contracts.samples import Segments


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, *, causal: bool, scale: float | None = None
) -> Tensor:
    """Attention within segments.

    query: float[H, T, d]. key, value: float[K, S, d], H a multiple of K (grouped queries).
    segments: of the key stream. S = T, unless a cache holds the past: then there is one segment, and the T queries are
    its last places. Returns float[H, T, d].
    """
    queries, keys = query.shape[1], key.shape[1]
    assert segments.total == keys, f"segments cover {segments.total} places, keys have {keys}"
    if queries != keys:
        assert len(segments.lengths) == 1, "with a cache, one sequence at a time"
        return _after_past(query, key, value, causal=causal, scale=scale)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _varlen(query, key, value, segments, causal=causal, scale=scale)
    if len(segments.runs) == 1:
        return _run(query, key, value, *segments.runs[0], causal, scale)
    spans = [length * count for length, count in segments.runs]
    pieces = zip(segments.runs, query.split(spans, 1), key.split(spans, 1), value.split(spans, 1), strict=True)
    return torch.cat([_run(q, k, v, *run, causal, scale) for run, q, k, v in pieces], dim=1)


def _run(
    query: Tensor, key: Tensor, value: Tensor, length: int, count: int, causal: bool, scale: float | None
) -> Tensor:
    """`count` segments of `length` as one batch."""

    def batched(stream: Tensor) -> Tensor:
        return stream.unflatten(1, (count, length)).transpose(0, 1)

    out = F.scaled_dot_product_attention(
        batched(query),
        batched(key),
        batched(value),
        is_causal=causal,
        scale=scale,
        enable_gqa=query.shape[0] != key.shape[0],
    )
    return out.transpose(0, 1).flatten(1, 2)


def _after_past(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float | None) -> Tensor:
    """Queries that are the last places of one segment."""
    queries, keys = query.shape[1], key.shape[1]
    mask = None
    if causal and queries > 1:
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    return F.scaled_dot_product_attention(
        query[None], key[None], value[None], attn_mask=mask, scale=scale, enable_gqa=query.shape[0] != key.shape[0]
    )[0]


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, *, causal: bool, scale: float | None
) -> Tensor:
    """CUDA, half precision: one kernel for all segments."""
    from torch.nn.attention.varlen import varlen_attn

    offsets = torch.tensor((0, *segments.lengths), device=query.device).cumsum(0).to(torch.int32)
    repeat = query.shape[0] // key.shape[0]
    out = varlen_attn(
        query.transpose(0, 1).contiguous(),
        key.repeat_interleave(repeat, 0).transpose(0, 1).contiguous(),
        value.repeat_interleave(repeat, 0).transpose(0, 1).contiguous(),
        offsets,
        offsets,
        max(segments.lengths),
        max(segments.lengths),
        scale=scale,
        window_size=(-1, 0) if causal else (-1, -1),
    )
    assert isinstance(out, Tensor)
    return out.transpose(0, 1)
