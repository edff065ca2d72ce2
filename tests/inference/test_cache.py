"""The cache: what it keeps, what queries see of it, and who stays when others leave."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vitrail.contracts.samples import Segments
from vitrail.inference import cache as module
from vitrail.inference.cache import SlotCache

HEADS, KEY_HEADS, WIDTH = 4, 2, 8


def drawn(heads: int, length: int, generator: torch.Generator) -> Tensor:
    return torch.randn(heads, length, WIDTH, generator=generator)


def plain(query: Tensor, key: Tensor, value: Tensor, window: int | None = None) -> Tensor:
    """Queries that are the last positions of what they see."""
    queries, keys = query.shape[1], key.shape[1]
    end = torch.arange(keys - queries, keys)[:, None]
    mask = torch.arange(keys) <= end
    if window is not None:
        mask &= torch.arange(keys) > end - window
    repeat = HEADS // KEY_HEADS
    return scaled_dot_product_attention(
        query[None], key.repeat_interleave(repeat, 0)[None], value.repeat_interleave(repeat, 0)[None], attn_mask=mask
    )[0]


class Naive:
    """Every sequence with all its keys and values, concatenated."""

    def __init__(self) -> None:
        self.past: list[tuple[Tensor, Tensor]] = []

    def attend(self, number: int, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        if number == len(self.past):
            self.past.append((key[:, :0], value[:, :0]))
        keys, values = self.past[number]
        self.past[number] = torch.cat([keys, key], 1), torch.cat([values, value], 1)
        return plain(query, *self.past[number], window)


@settings(max_examples=40, deadline=None)
@given(
    prompts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    events=st.lists(st.sampled_from(["step", "step", "leave", "join", "more"]), max_size=12),
    growth=st.sampled_from([1, 3, 256]),
    window=st.sampled_from([None, 1, 4]),
)
def test_it_is_as_if_each_sequence_kept_everything(
    prompts: list[int], events: list[str], growth: int, window: int | None
) -> None:
    """Sequences step together, join, leave, and go on by several positions; slots move, buffers grow."""
    before, module.GROWTH = module.GROWTH, growth
    try:
        _follow(prompts, events, window)
    finally:
        module.GROWTH = before


def _follow(prompts: list[int], events: list[str], window: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    cache, naive = SlotCache(), Naive()
    at = list(range(len(prompts)))
    """Which of the naive sequences each slot is."""

    def run(slots: list[int], spans: list[int]) -> None:
        query, key, value = (drawn(heads, sum(spans), generator) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
        with cache.covering(slots, spans):
            seen = cache.attend(0, query, key, value, window=window)
        parts = zip(slots, query.split(spans, 1), key.split(spans, 1), value.split(spans, 1), strict=True)
        expected = [naive.attend(at[slot], *part, window) for slot, *part in parts]
        torch.testing.assert_close(seen, torch.cat(expected, 1), rtol=1e-5, atol=1e-5)

    run(list(cache.open(len(prompts), 0)), prompts)
    for event in events:
        count = len(at)
        if event == "join":
            at.append(len(naive.past))
            run(list(cache.open(1, 5)), [3])
        elif event == "leave" and count:
            moved = cache.close(0)
            assert moved == (count - 1 if count > 1 else None)
            last = at.pop()
            if moved is not None:
                at[0] = last
        elif count:
            run(list(range(count)), [1 if event == "step" else 2] * count)
    assert cache.lengths == [naive.past[number][0].shape[1] for number in at]


@pytest.mark.parametrize("media", [(3, 5), (4, 0), (0, 0)])
def test_media_are_seen_by_their_own_sequence(media: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    cache = SlotCache()
    key, value = drawn(KEY_HEADS, sum(media), generator), drawn(KEY_HEADS, sum(media), generator)
    with cache.covering(cache.open(2, 0), (2, 1)):
        cache.keep_media(7, key, value, Segments(media))
    parts = list(zip(key.split(media, 1), value.split(media, 1), strict=True))
    query = drawn(HEADS, 2, generator)
    repeat = HEADS // KEY_HEADS

    def seen(row: Tensor, part: tuple[Tensor, Tensor]) -> Tensor:
        keys, values = (one.repeat_interleave(repeat, 0)[None] for one in part)
        return scaled_dot_product_attention(row[None], keys, values)[0] if keys.shape[2] else torch.zeros_like(row)

    with cache.covering((0, 1), (1, 1)):
        found = cache.attend_media(7, query)
    expected = torch.cat([seen(row, part) for row, part in zip(query.split(1, 1), parts, strict=True)], 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert cache.close(0) == 1
    with cache.covering((0,), (1,)):
        found = cache.attend_media(7, query[:, 1:])
    torch.testing.assert_close(found, expected[:, 1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_keeps_the_format(dtype: torch.dtype) -> None:
    cache, part = SlotCache(), torch.ones(2, 5, 4, dtype=dtype)
    with cache.covering(cache.open(1, 0), (5,)):
        assert cache.attend(0, part, part, part).dtype == dtype
    with cache.covering((0,), (1,)):
        assert cache.attend(0, part[:, :1], part[:, :1], part[:, :1]).dtype == dtype


def test_one_pass_at_a_time() -> None:
    cache = SlotCache()
    slots = cache.open(1, 0)
    with cache.covering(slots, (1,)), pytest.raises(AssertionError, match="one pass"), cache.covering(slots, (1,)):
        pass
    with pytest.raises(AssertionError, match="covering"):
        cache.attend(0, *(torch.ones(1, 1, 2) for _ in range(3)))
