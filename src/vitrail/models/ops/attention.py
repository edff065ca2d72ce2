"""Packed attention: many segments in one stream, none sees another.

Segments are a required argument, so a leak between samples cannot be written by accident. On the CPU each run of
equal segments is one batched call of PyTorch's flash kernel, and no mask is built but for segments longer than a
backbone's sliding window; on CUDA in half precision the whole stream is one call of the variable-length kernel. A bias
of positions costs a mask for each length, and with it there is no variable-length kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vitrail.contracts.protocols import PositionBias
from vitrail.contracts.samples import Segments


class _Kind(NamedTuple):
    """The kind of attention; see `packed_attention`."""

    causal: bool
    scale: float | None
    window: int | None
    bias: PositionBias | None = None


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    key_segments: Segments | None = None,
    *,
    causal: bool,
    scale: float | None = None,
    window: int | None = None,
    bias: PositionBias | None = None,
) -> Tensor:
    """Attention of each segment of queries to the segment of keys of the same number.

    query: float[H, T, d]. key, value: float[K, S, d], H a multiple of K (grouped queries). segments: of the queries;
    key_segments: of the keys, None for the same. Where they differ in length, causal queries are the last positions of
    their keys (the past came from a cache). A segment without keys gives zeros.
    window: the last so many positions, its own included, are all that a position sees; causal only.
    bias: what positions add to the scores of a segment, by its numbers of queries and keys.
    Returns float[H, T, d].
    """
    of_keys = segments if key_segments is None else key_segments
    assert segments.total == query.shape[1], f"segments cover {segments.total} positions, queries {query.shape[1]}"
    assert of_keys.total == key.shape[1], f"segments cover {of_keys.total} positions, keys have {key.shape[1]}"
    assert len(segments.lengths) == len(of_keys.lengths), "a segment of keys for each of queries"
    assert causal or window is None, "a window looks back, so it needs causal attention"
    kind = _Kind(causal, scale, window, bias)
    half = query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)
    if half and bias is None and 0 not in of_keys.lengths:
        return _varlen(query, key, value, segments, of_keys, kind)
    if of_keys.lengths == segments.lengths:
        return _square(query, key, value, segments, kind)
    return _between(query, key, value, segments, of_keys, kind)


def _square(query: Tensor, key: Tensor, value: Tensor, segments: Segments, kind: _Kind) -> Tensor:
    """As many keys as queries, run by run."""
    if len(segments.runs) == 1:
        return _run(query, key, value, segments.runs[0], kind)
    spans = [length * count for length, count in segments.runs]
    pieces = zip(query.split(spans, 1), key.split(spans, 1), value.split(spans, 1), segments.runs, strict=True)
    return torch.cat([_run(*piece, kind) for piece in pieces], dim=1)


def _between(query: Tensor, key: Tensor, value: Tensor, of_queries: Segments, of_keys: Segments, kind: _Kind) -> Tensor:
    """Segments of queries and of keys that differ in length; neighbours whose lengths agree are one batch."""
    pairs: list[tuple[int, int, int]] = []
    for queries, keys in zip(of_queries.lengths, of_keys.lengths, strict=True):
        if pairs and pairs[-1][:2] == (queries, keys):
            pairs[-1] = (queries, keys, pairs[-1][2] + 1)
        else:
            pairs.append((queries, keys, 1))
    found: list[Tensor] = []
    start = key_start = 0
    for queries, keys, count in pairs:
        end, key_end = start + queries * count, key_start + keys * count
        part = query[:, start:end]
        if keys:
            found.append(_pair(part, key[:, key_start:key_end], value[:, key_start:key_end], count, kind))
        else:
            found.append(part.new_zeros(part.shape[0], part.shape[1], value.shape[2]))
        start, key_start = end, key_end
    return torch.cat(found, dim=1)


def _pair(query: Tensor, key: Tensor, value: Tensor, count: int, kind: _Kind) -> Tensor:
    """`count` segments of equal lengths; causal queries are the last positions."""
    query, key, value = (one.unflatten(1, (count, -1)).transpose(0, 1) for one in (query, key, value))
    queries, keys = query.shape[2], key.shape[2]
    masked = kind.causal and (queries > 1 or kind.window is not None)
    if query.is_meta and not masked:
        return _unstored(query, key, value, kind._replace(causal=False))
    out = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=_mask(queries, keys, kind, query.device, masked=masked),
        scale=kind.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(0, 1).flatten(1, 2)


def _run(query: Tensor, key: Tensor, value: Tensor, run: tuple[int, int], kind: _Kind) -> Tensor:
    """Neighbours of equal length, (length, how many), as one batch."""
    length, count = run

    def batched(stream: Tensor) -> Tensor:
        batch: Tensor = stream.unflatten(1, (count, length)).transpose(0, 1)
        return batch

    if query.is_meta and kind.bias is None:
        return _unstored(batched(query), batched(key), batched(value), kind)
    masked = kind.causal and (kind.bias is not None or (kind.window is not None and kind.window < length))
    out = scaled_dot_product_attention(
        batched(query),
        batched(key),
        batched(value),
        attn_mask=_mask(length, length, kind, query.device, masked=masked),
        is_causal=kind.causal and not masked,
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


def _mask(queries: int, keys: int, kind: _Kind, device: torch.device, *, masked: bool) -> Tensor | None:
    """What is added to the scores, or bool of what is seen; None for nothing. masked: not all keys are seen."""
    visible = _visible(queries, keys, kind.window, device) if masked else None
    if kind.bias is None:
        return visible
    bias = kind.bias(queries, keys)
    return bias if visible is None else bias.masked_fill(~visible, float("-inf"))


def _visible(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """bool[queries, keys], for queries that are the last positions: what stands up to each, within the window."""
    own = keys - queries
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(own)
    return mask if window is None else mask.triu(own - window + 1)


def _varlen(query: Tensor, key: Tensor, value: Tensor, segments: Segments, of_keys: Segments, kind: _Kind) -> Tensor:
    """CUDA, half precision: one kernel for all segments."""
    from torch.nn.attention.varlen import varlen_attn

    offsets, key_offsets = (
        torch.tensor((0, *one.lengths), device=query.device).cumsum(0).to(torch.int32) for one in (segments, of_keys)
    )
    repeat = query.shape[0] // key.shape[0]
    back = -1 if kind.window is None else kind.window - 1
    out = varlen_attn(
        query.transpose(0, 1).contiguous(),
        key.repeat_interleave(repeat, 0).transpose(0, 1).contiguous(),
        value.repeat_interleave(repeat, 0).transpose(0, 1).contiguous(),
        offsets,
        key_offsets,
        max(segments.lengths),
        max(of_keys.lengths),
        scale=kind.scale,
        window_size=(back, 0) if kind.causal else (-1, -1),
    )
    assert isinstance(out, Tensor)
    return out.transpose(0, 1)
