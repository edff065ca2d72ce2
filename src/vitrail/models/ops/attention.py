"""Packed attention: many segments in one stream, none sees another.

Segments are a required argument, so a leak between samples cannot be written by accident. On the CPU each run of
equal segments is one batched call of PyTorch's flash kernel, and no mask is built but for segments longer than a
backbone's sliding window; on CUDA in half precision the whole stream is one call of the variable-length kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vitrail.contracts.samples import Segments


class _Kind(NamedTuple):
    """The kind of attention; see `packed_attention`."""

    causal: bool
    scale: float | None
    window: int | None


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    causal: bool,
    scale: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Attention within segments.

    query: float[H, T, d]. key, value: float[K, S, d], H a multiple of K (grouped queries).
    segments: of the key stream. S = T, unless a cache holds the past: then the T queries are the last places of the
    only segment, or one each the last place of every segment. window: the last so many places, its own included, are
    all that a place sees; causal only.
    Returns float[H, T, d].
    """
    queries, keys = query.shape[1], key.shape[1]
    assert segments.total == keys, f"segments cover {segments.total} places, keys have {keys}"
    assert causal or window is None, "a window looks back, so it needs causal attention"
    kind = _Kind(causal, scale, window)
    if queries != keys:
        if len(segments.lengths) == 1:
            return _after_past(query, key, value, kind)
        assert queries == len(segments.lengths), "behind several pasts, one query each"
        pasts = zip(query.split(1, 1), key.split(segments.lengths, 1), value.split(segments.lengths, 1), strict=True)
        return torch.cat([_after_past(*past, kind) for past in pasts], dim=1)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _varlen(query, key, value, segments, kind)
    if len(segments.runs) == 1:
        return _run(query, key, value, segments.runs[0], kind)
    spans = [length * count for length, count in segments.runs]
    pieces = zip(query.split(spans, 1), key.split(spans, 1), value.split(spans, 1), segments.runs, strict=True)
    return torch.cat([_run(*piece, kind) for piece in pieces], dim=1)


def _run(query: Tensor, key: Tensor, value: Tensor, run: tuple[int, int], kind: _Kind) -> Tensor:
    """Neighbours of equal length, (length, how many), as one batch."""
    length, count = run

    def batched(stream: Tensor) -> Tensor:
        batch: Tensor = stream.unflatten(1, (count, length)).transpose(0, 1)
        return batch

    if query.is_meta:
        return _unstored(batched(query), batched(key), batched(value), kind)
    banded = kind.window is not None and kind.window < length
    out = scaled_dot_product_attention(
        batched(query),
        batched(key),
        batched(value),
        attn_mask=_visible(length, length, kind.window, query.device) if banded else None,
        is_causal=kind.causal and not banded,
        scale=kind.scale,
        enable_gqa=query.shape[0] != key.shape[0],
    )
    return out.transpose(0, 1).flatten(1, 2)


def _unstored(query: Tensor, key: Tensor, value: Tensor, kind: _Kind) -> Tensor:
    """What the flash kernels return and keep; without storage torch would choose one that keeps every weight."""
    repeat = query.shape[1] // key.shape[1]
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    keys, values = (one.repeat_interleave(repeat, 1) for one in (key, value))
    out: Tensor = flash(query, keys, values, 0.0, kind.causal)[0]
    return out.transpose(0, 1).flatten(1, 2)


def _after_past(query: Tensor, key: Tensor, value: Tensor, kind: _Kind) -> Tensor:
    """Queries that are the last places of one segment."""
    queries, keys = query.shape[1], key.shape[1]
    masked = kind.causal and (queries > 1 or kind.window is not None)
    out = scaled_dot_product_attention(
        query[None],
        key[None],
        value[None],
        attn_mask=_visible(queries, keys, kind.window, query.device) if masked else None,
        scale=kind.scale,
        enable_gqa=query.shape[0] != key.shape[0],
    )
    return out[0]


def _visible(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """bool[queries, keys], for queries that are the last places: what stands up to each of them, within the window."""
    own = keys - queries
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(own)
    return mask if window is None else mask.triu(own - window + 1)


def _varlen(query: Tensor, key: Tensor, value: Tensor, segments: Segments, kind: _Kind) -> Tensor:
    """CUDA, half precision: one kernel for all segments."""
    from torch.nn.attention.varlen import varlen_attn

    offsets = torch.tensor((0, *segments.lengths), device=query.device).cumsum(0).to(torch.int32)
    repeat = query.shape[0] // key.shape[0]
    back = -1 if kind.window is None else kind.window - 1
    out = varlen_attn(
        query.transpose(0, 1).contiguous(),
        key.repeat_interleave(repeat, 0).transpose(0, 1).contiguous(),
        value.repeat_interleave(repeat, 0).transpose(0, 1).contiguous(),
        offsets,
        offsets,
        max(segments.lengths),
        max(segments.lengths),
        scale=kind.scale,
        window_size=(back, 0) if kind.causal else (-1, -1),
    )
    assert isinstance(out, Tensor)
    return out.transpose(0, 1)
