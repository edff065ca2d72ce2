"""Keys and values of the past, one growing pair of tensors a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GROWTH = 256
"""Places added when a buffer is full."""


class KeyValueCache:
    """For one sequence. Named methods are what transformers' layers call."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor, int]] = {}

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Appends float[1, heads, T, d] and returns all that was seen, as views of the buffers."""
        new = keys.shape[2]
        if layer_idx not in self._layers:
            self._layers[layer_idx] = _room(keys, 0, new), _room(values, 0, new), 0
        all_keys, all_values, used = self._layers[layer_idx]
        if used + new > all_keys.shape[2]:
            all_keys, all_values = _room(all_keys, used, new), _room(all_values, used, new)
        all_keys[:, :, used : used + new] = keys
        all_values[:, :, used : used + new] = values
        self._layers[layer_idx] = all_keys, all_values, used + new
        return all_keys[:, :, : used + new], all_values[:, :, : used + new]

    @property
    def length(self) -> int:
        """Places seen so far."""
        return self._layers[0][2] if self._layers else 0


class PackedCache:
    """For several sequences side by side, laid end to end as in a pack: first their prompts, then a place each.

    sequences: by number; those that are deleted are no longer part of the stream.
    """

    def __init__(self, prompts: Sequence[int]) -> None:
        """prompts: lengths."""
        self.sequences = {number: KeyValueCache() for number in range(len(prompts))}
        self._prompts = tuple(prompts)

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Appends float[1, heads, T, d], whose places are the sequences' in their order; returns all that was seen."""
        new = keys.shape[2]
        spans = self._prompts if new == sum(self._prompts) else (1,) * len(self.sequences)
        parts = zip(self.sequences.values(), keys.split(spans, 2), values.split(spans, 2), strict=True)
        seen = [cache.update(*part, layer_idx) for cache, *part in parts]
        if len(seen) == 1:
            return seen[0]
        all_keys, all_values = zip(*seen, strict=True)
        return torch.cat(all_keys, 2), torch.cat(all_values, 2)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Places seen so far, of each sequence."""
        return tuple(cache.length for cache in self.sequences.values())


def _room(buffer: Tensor, used: int, new: int) -> Tensor:
    """A larger buffer that starts with the first `used` places of the given one."""
    larger = buffer.new_empty(*buffer.shape[:2], used + new + GROWTH, buffer.shape[3])
    larger[:, :, :used] = buffer[:, :, :used]
    return larger
