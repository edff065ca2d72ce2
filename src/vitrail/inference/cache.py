"""Keys and values of the past of several sequences, laid end to end as in a pack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitrail.contracts.samples import Segments
from vitrail.models.ops.attention import packed_attention

GROWTH = 256
"""Positions added when a buffer is full."""


class KeyValueCache:
    """For one sequence."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor, int]] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Appends float[heads, T, d] and returns all that was seen, as views of the buffers."""
        new = keys.shape[1]
        if layer not in self._layers:
            self._layers[layer] = _room(keys, 0, new), _room(values, 0, new), 0
        all_keys, all_values, used = self._layers[layer]
        if used + new > all_keys.shape[1]:
            all_keys, all_values = _room(all_keys, used, new), _room(all_values, used, new)
        all_keys[:, used : used + new] = keys
        all_values[:, used : used + new] = values
        self._layers[layer] = all_keys, all_values, used + new
        return all_keys[:, : used + new], all_values[:, : used + new]

    def holds(self, layer: int) -> bool:
        """Whether the layer has a past."""
        return layer in self._layers

    @property
    def length(self) -> int:
        """Positions seen so far."""
        return self._layers[0][2] if self._layers else 0


class PackedCache:
    """For several sequences side by side: first their prompts, then equally many positions each.

    sequences: by number; those that are deleted are no longer part of the stream.
    """

    def __init__(self, prompts: Sequence[int]) -> None:
        """prompts: lengths."""
        self.sequences = {number: KeyValueCache() for number in range(len(prompts))}
        self._prompts = tuple(prompts)
        self._media: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
    ) -> Tensor:
        """Keeps keys and values float[K, T, d]; what queries float[H, T, d] see of past and present."""
        count = len(self.sequences)
        follows = any(cache.holds(layer) for cache in self.sequences.values())
        spans = (key.shape[1] // count,) * count if follows else self._prompts
        parts = zip(self.sequences.values(), key.split(spans, 1), value.split(spans, 1), strict=True)
        seen = [cache.update(keys, values, layer) for cache, keys, values in parts]
        keys, values = seen[0] if len(seen) == 1 else (torch.cat(some, 1) for some in zip(*seen, strict=True))
        past = Segments(tuple(keys.shape[1] for keys, _ in seen))
        return packed_attention(
            query, keys, values, Segments(tuple(spans)), past, causal=True, scale=scale, window=window
        )

    def keep_media(self, layer: int, key: Tensor, value: Tensor, segments: Segments) -> None:
        """Keeps keys and values float[K, S, d] of media. segments: one a sequence."""
        parts = zip(self.sequences, key.split(segments.lengths, 1), value.split(segments.lengths, 1), strict=True)
        for number, keys, values in parts:
            self._media[number, layer] = keys, values

    def attend_media(self, layer: int, query: Tensor, *, scale: float | None = None) -> Tensor:
        """What one query float[H, 1, d] of each sequence sees of the sequence's own media; zeros where it has none."""
        kept = [self._media[number, layer] for number in self.sequences]
        keys, values = (torch.cat(some, 1) for some in zip(*kept, strict=True))
        seen = Segments(tuple(keys.shape[1] for keys, _ in kept))
        return packed_attention(query, keys, values, Segments((1,) * len(kept)), seen, causal=False, scale=scale)


def _room(buffer: Tensor, used: int, new: int) -> Tensor:
    """A larger buffer that starts with the first `used` positions of the given one."""
    larger = buffer.new_empty(buffer.shape[0], used + new + GROWTH, buffer.shape[2])
    larger[:, :used] = buffer[:, :used]
    return larger
