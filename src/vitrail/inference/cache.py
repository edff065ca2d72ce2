"""The past of sequences under way: keys and values of every layer, in memory that the cache owns.

Each sequence has a slot, and slots in use lie together, so a step over all of them reads one view of the buffers:
nothing is copied for a layer or a token but what is new. Memory: two numbers for each layer, head dimension and
position of the longest sequence, times the slots. A sequence that leaves costs the move of the last slot.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from vitrail.contracts.protocols import PositionBias
from vitrail.contracts.samples import Segments
from vitrail.models.ops.attention import packed_attention

GROWTH = 256
"""Positions by which a buffer grows, at least."""


@dataclass
class _Buffer:
    """Keys and values float[slots, heads, room, d]."""

    keys: Tensor
    values: Tensor

    @classmethod
    def like(cls, key: Tensor, slots: int) -> _Buffer:
        """An empty one for keys float[K, T, d]."""
        shape = (slots, key.shape[0], 0, key.shape[2])
        return cls(key.new_empty(shape), key.new_empty(shape))

    def grow(self, slots: int, room: int) -> None:
        """Makes place for so many slots of so many positions; what is there stays."""
        before = self.keys.shape
        if slots <= before[0] and room <= before[2]:
            return
        shape = (max(slots, before[0]), before[1], max(room, before[2]), before[3])
        for name in ("keys", "values"):
            old = getattr(self, name)
            # Zeros: what no sequence has written is read too, behind a mask, and must be a number.
            larger = old.new_zeros(shape)
            larger[: before[0], :, : before[2]] = old
            setattr(self, name, larger)

    def move(self, source: int, target: int, length: int) -> None:
        """The first positions of one slot to another."""
        for buffer in (self.keys, self.values):
            buffer[target, :, :length] = buffer[source, :, :length]


@dataclass(frozen=True)
class _Pass:
    """The sequences that a pass of the model covers: their slots, positions seen before, and new ones."""

    slots: tuple[int, ...]
    past: tuple[int, ...]
    spans: tuple[int, ...]

    @property
    def one_each(self) -> bool:
        """Whether it is a step of every sequence in use, in their order."""
        return set(self.spans) == {1} and self.slots == tuple(range(len(self.slots)))


class SlotCache:
    """State of several sequences; see the `Cache` protocol. Sequences are known by their slots, which may change."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._media_lengths: list[int] = []
        self._layers: dict[int, _Buffer] = {}
        self._media: dict[int, _Buffer] = {}
        self._pass: _Pass | None = None
        self._room = 0

    def open(self, count: int, room: int) -> range:
        """Slots for so many new sequences. room: positions that the longest of them will take, as far as is known."""
        first = len(self.lengths)
        self.lengths += [0] * count
        self._media_lengths += [0] * count
        self._room = max(self._room, room)
        for buffer in self._media.values():
            # They may have no media, and no pass that keeps any: then nothing else makes them a place.
            buffer.grow(len(self.lengths), 0)
        return range(first, first + count)

    def close(self, slot: int) -> int | None:
        """Ends a sequence. Returns the slot whose sequence now is in this one; None where none has moved."""
        last = len(self.lengths) - 1
        for buffers, lengths in ((self._layers, self.lengths), (self._media, self._media_lengths)):
            if slot < last:
                for buffer in buffers.values():
                    buffer.move(last, slot, lengths[last])
                lengths[slot] = lengths[last]
            lengths.pop()
        return last if slot < last else None

    def copy(self, slot: int, others: Collection[int]) -> None:
        """Gives other sequences, which have read nothing yet, what one has read."""
        for buffers, lengths in ((self._layers, self.lengths), (self._media, self._media_lengths)):
            for other in others:
                for buffer in buffers.values():
                    buffer.move(slot, other, lengths[slot])
                lengths[other] = lengths[slot]

    @contextmanager
    def covering(self, slots: Sequence[int], spans: Sequence[int]) -> Generator[None]:
        """Within it a pass of the model runs over so many new positions of each of these sequences, laid end to end."""
        assert self._pass is None, "one pass at a time"
        self._pass = _Pass(tuple(slots), tuple(self.lengths[slot] for slot in slots), tuple(spans))
        try:
            yield
        finally:
            self._pass = None
        for slot, span in zip(slots, spans, strict=True):
            self.lengths[slot] += span

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
        bias: PositionBias | None = None,
    ) -> Tensor:
        """Keeps key and value float[K, T, d] of the new positions; what queries float[H, T, d] see."""
        now = self._now()
        buffer = self._layers.get(layer) or self._layers.setdefault(layer, _Buffer.like(key, len(self.lengths)))
        ends = [past + span for past, span in zip(now.past, now.spans, strict=True)]
        room = max(ends)
        if room > buffer.keys.shape[2] or len(self.lengths) > buffer.keys.shape[0]:
            buffer.grow(len(self.lengths), max(room + GROWTH, self._room))
        if now.one_each:
            positions = torch.tensor(now.past, device=key.device)
            slots = torch.arange(len(now.slots), device=key.device)
            buffer.keys[slots, :, positions] = key.transpose(0, 1)
            buffer.values[slots, :, positions] = value.transpose(0, 1)
            return _one_each(query, buffer, ends, scale, window, bias)
        pieces = zip(now.slots, now.past, ends, key.split(now.spans, 1), value.split(now.spans, 1), strict=True)
        for slot, past, end, keys, values in pieces:
            buffer.keys[slot, :, past:end], buffer.values[slot, :, past:end] = keys, values
        if any(now.past):
            seen = Segments(tuple(ends))
            held = list(zip(now.slots, ends, strict=True))
            key = torch.cat([buffer.keys[slot, :, :end] for slot, end in held], 1)
            value = torch.cat([buffer.values[slot, :, :end] for slot, end in held], 1)
        else:
            seen = Segments(now.spans)
        spans = Segments(now.spans)
        return packed_attention(query, key, value, spans, seen, causal=True, scale=scale, window=window, bias=bias)

    def keep_media(self, layer: int, key: Tensor, value: Tensor, segments: Segments) -> None:
        """Keeps keys and values float[K, S, d] of media. segments: one for each sequence of the pass."""
        now = self._now()
        buffer = self._media.get(layer) or self._media.setdefault(layer, _Buffer.like(key, len(self.lengths)))
        buffer.grow(len(self.lengths), max(segments.lengths))
        pieces = zip(now.slots, key.split(segments.lengths, 1), value.split(segments.lengths, 1), strict=True)
        for slot, keys, values in pieces:
            length = keys.shape[1]
            buffer.keys[slot, :, :length], buffer.values[slot, :, :length] = keys, values
            self._media_lengths[slot] = length

    def has_media(self) -> tuple[bool, ...]:
        """Of each position of the pass, whether its sequence has media that were kept."""
        now = self._now()
        pairs = zip(now.slots, now.spans, strict=True)
        return tuple(bool(self._media_lengths[slot]) for slot, span in pairs for _ in range(span))

    def attend_media(self, layer: int, query: Tensor, *, scale: float | None = None) -> Tensor:
        """What queries float[H, T, d] see of the media of their own sequence; zeros where it has none."""
        now, buffer = self._now(), self._media[layer]
        lengths = [self._media_lengths[slot] for slot in now.slots]
        if now.one_each and max(lengths):
            return _one_each(query, buffer, lengths, scale, None)
        held = list(zip(now.slots, lengths, strict=True))
        keys = torch.cat([buffer.keys[slot, :, :length] for slot, length in held], 1)
        values = torch.cat([buffer.values[slot, :, :length] for slot, length in held], 1)
        spans, seen = Segments(now.spans), Segments(tuple(lengths))
        return packed_attention(query, keys, values, spans, seen, causal=False, scale=scale)

    def _now(self) -> _Pass:
        assert self._pass is not None, "a cache is used within `covering`"
        return self._pass


def _one_each(
    query: Tensor,
    buffer: _Buffer,
    ends: Sequence[int],
    scale: float | None,
    window: int | None,
    bias: PositionBias | None = None,
) -> Tensor:
    """One query float[H, N, d] of each of the first N slots against what stands before `ends` in its slot."""
    count, most = len(ends), max(ends)
    keys, values = buffer.keys[:count, :, :most], buffer.values[:count, :, :most]
    mask = None
    if min(ends) < most or (window is not None and window < most):
        index, end = torch.arange(most, device=query.device), torch.tensor(ends, device=query.device)[:, None]
        mask = index < end
        if window is not None:
            mask &= index >= end - window
        mask = mask[:, None, None]
    if bias is not None:
        added = torch.stack([pad(bias(1, end), (0, most - end)) for end in ends])
        mask = added if mask is None else added.masked_fill(~mask, float("-inf"))
    out = scaled_dot_product_attention(
        query.transpose(0, 1)[:, :, None],
        keys,
        values,
        attn_mask=mask,
        scale=scale,
        enable_gqa=query.shape[0] != keys.shape[1],
    )[:, :, 0]
    if 0 in ends:
        # A softmax over nothing is no number.
        out = out.masked_fill(torch.tensor(ends, device=query.device).eq(0)[:, None, None], 0.0)
    return out.transpose(0, 1)
