"""The cache grows without forgetting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.samples import Segments
from vitrail.inference.cache import GROWTH, KeyValueCache, PackedCache


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.sampled_from([1, 2, GROWTH - 1, GROWTH, GROWTH + 1]), min_size=1, max_size=8))
def test_it_returns_all_that_was_given_in_order(steps: list[int]) -> None:
    cache, layers = KeyValueCache(), 2
    total = sum(steps)
    keys = torch.arange(layers * 3 * total * 4.0).reshape(layers, 3, total, 4)
    seen = 0
    for step in steps:
        for layer in range(layers):
            part = keys[layer][:, seen : seen + step]
            all_keys, all_values = cache.update(part, -part, layer)
            assert torch.equal(all_keys, keys[layer][:, : seen + step])
            assert torch.equal(all_values, -keys[layer][:, : seen + step])
        seen += step
        assert cache.length == seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_keeps_the_format(dtype: torch.dtype) -> None:
    cache = KeyValueCache()
    part = torch.ones(2, 5, 4, dtype=dtype)
    for _ in range(2):
        assert {tensor.dtype for tensor in cache.update(part, part, 0)} == {dtype}


def test_an_empty_cache_has_no_length() -> None:
    assert KeyValueCache().length == 0


def test_it_does_not_copy_everything_every_step() -> None:
    """A new buffer once in GROWTH steps, not at each."""
    cache, part, buffers = KeyValueCache(), torch.ones(1, 1, 2), set()
    for _ in range(2 * GROWTH):
        buffers.add(cache.update(part, part, 0)[0].data_ptr())
    assert len(buffers) <= 3


def seen_by(cache: PackedCache, numbers: list[int]) -> list[set[int]]:
    """Which values each new position sees. numbers: of the values handed over, one a position.

    Queries of zeros weigh what they see evenly; of values that are one each in a row of their own nothing else is left.
    """
    value = torch.eye(32)[None, numbers]
    out = cache.attend(0, torch.zeros(1, len(numbers), 1), torch.zeros(1, len(numbers), 1), value)[0]
    shares = [{round(float(share), 5) for share in row[row > 0]} for row in out]
    assert [share for share in shares if len(share) > 1] == [], "even weights"
    return [set(row.nonzero().flatten().tolist()) for row in out]


def test_sequences_side_by_side_keep_their_own_and_leave() -> None:
    cache = PackedCache((3, 1, 2))
    assert seen_by(cache, [0, 1, 2, 3, 4, 5]) == [{0}, {0, 1}, {0, 1, 2}, {3}, {4}, {4, 5}]
    assert seen_by(cache, [6, 7, 8]) == [{0, 1, 2, 6}, {3, 7}, {4, 5, 8}]
    del cache.sequences[0]
    assert seen_by(cache, [9, 10]) == [{3, 7, 9}, {4, 5, 8, 10}]
    assert [cache.sequences[number].length for number in (1, 2)] == [3, 4]


def test_several_positions_a_sequence_may_follow() -> None:
    """Also as many as all prompts had."""
    cache = PackedCache((3, 1))
    seen_by(cache, [0, 1, 2, 3])
    assert seen_by(cache, [4, 5, 6, 7]) == [{0, 1, 2, 4}, {0, 1, 2, 4, 5}, {3, 6}, {3, 6, 7}]
    del cache.sequences[0]
    assert seen_by(cache, [8, 9, 10]) == [{3, 6, 7, 8}, {3, 6, 7, 8, 9}, {3, 6, 7, 8, 9, 10}]


def test_media_are_kept_by_sequence_and_seen_by_their_own() -> None:
    """Zeros where a sequence has none."""
    cache = PackedCache((2, 1, 2))
    value = torch.eye(8)[None, :4]
    cache.keep_media(3, torch.zeros(1, 4, 1), value, Segments((1, 0, 3)))
    first, none, last = cache.attend_media(3, torch.zeros(1, 3, 1))[0]
    assert first.nonzero().flatten().tolist() == [0]
    assert not none.any()
    assert last.nonzero().flatten().tolist() == [1, 2, 3]
    del cache.sequences[0]
    none, last = cache.attend_media(3, torch.zeros(1, 2, 1))[0]
    assert not none.any()
    assert last.nonzero().flatten().tolist() == [1, 2, 3]
