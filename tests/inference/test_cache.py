"""The cache grows without forgetting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.inference.cache import GROWTH, KeyValueCache, PackedCache


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.sampled_from([1, 2, GROWTH - 1, GROWTH, GROWTH + 1]), min_size=1, max_size=8))
def test_it_returns_all_that_was_given_in_order(steps: list[int]) -> None:
    cache, layers = KeyValueCache(), 2
    total = sum(steps)
    keys = torch.arange(layers * 3 * total * 4.0).reshape(layers, 1, 3, total, 4)
    seen = 0
    for step in steps:
        for layer in range(layers):
            part = keys[layer][:, :, seen : seen + step]
            all_keys, all_values = cache.update(part, -part, layer)
            assert torch.equal(all_keys, keys[layer][:, :, : seen + step])
            assert torch.equal(all_values, -keys[layer][:, :, : seen + step])
        seen += step
        assert cache.length == seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_keeps_the_format(dtype: torch.dtype) -> None:
    cache = KeyValueCache()
    part = torch.ones(1, 2, 5, 4, dtype=dtype)
    for _ in range(2):
        assert {tensor.dtype for tensor in cache.update(part, part, 0)} == {dtype}


def test_an_empty_cache_has_no_length() -> None:
    assert KeyValueCache().length == 0


def test_it_does_not_copy_everything_every_step() -> None:
    """A new buffer once in GROWTH steps, not at each."""
    cache, part, places = KeyValueCache(), torch.ones(1, 1, 1, 2), set()
    for _ in range(2 * GROWTH):
        places.add(cache.update(part, part, 0)[0].data_ptr())
    assert len(places) <= 3


def test_sequences_side_by_side_keep_their_own_and_leave() -> None:
    cache, keys = PackedCache((3, 1, 2)), torch.arange(9.0).reshape(1, 1, 9, 1)
    seen, _ = cache.update(keys[:, :, :6], keys[:, :, :6], 0)
    assert seen.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    seen, values = cache.update(keys[:, :, 6:], -keys[:, :, 6:], 0)
    assert seen.flatten().tolist() == [0, 1, 2, 6, 3, 7, 4, 5, 8]
    assert values.flatten().tolist() == [0, 1, 2, -6, 3, -7, 4, 5, -8]
    del cache.sequences[0]
    seen, _ = cache.update(keys[:, :, :2], keys[:, :, :2], 0)
    assert seen.flatten().tolist() == [3, 7, 0, 4, 5, 8, 1]
    assert cache.lengths == (3, 4)
