"""Packed attention against the plain kind with a mask, written out here."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitrail.contracts.samples import Segments
from vitrail.models.ops.attention import packed_attention

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)
heads = st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)])
windows = st.none() | st.integers(1, 6)


def plain(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool, scale: float, window: int | None = None
) -> Tensor:
    """One softmax over everything, with a mask. segments: of the keys; the queries are the last positions."""
    of_key = torch.repeat_interleave(torch.arange(len(segments.lengths)), torch.tensor(segments.lengths))
    keys = torch.arange(key.shape[1])
    # There may be more queries than keys where all see all.
    queries = (torch.arange(query.shape[1]) + key.shape[1] - query.shape[1]).clamp(min=0)
    mask = of_key[queries][:, None] == of_key
    if causal:
        mask &= keys <= queries[:, None]
    if window is not None:
        mask &= keys > queries[:, None] - window
    repeat = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(repeat, 0), value.repeat_interleave(repeat, 0)
    scores = (query @ key.transpose(1, 2) * scale).masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ value


def drawn(seed: int, heads: tuple[int, int], queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (heads[0], queries, 8), (heads[1], keys, 8), (heads[1], keys, 8)
    query, key, value = (torch.randn(shape, generator=generator) for shape in shapes)
    return query, key, value


@settings(max_examples=80, deadline=None)
@given(lengths=lengths, heads=heads, causal=st.booleans(), window=windows, seed=st.integers(0, 1000))
def test_it_is_plain_attention_with_a_mask(
    lengths: tuple[int, ...], heads: tuple[int, int], causal: bool, window: int | None, seed: int
) -> None:
    window = window if causal else None
    segments = Segments(lengths)
    streams = [stream.requires_grad_() for stream in drawn(seed, heads, segments.total, segments.total)]
    ours = packed_attention(*streams, segments, causal=causal, scale=0.3, window=window)
    reference = plain(*streams, segments, causal, 0.3, window)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(seed))
    for mine, theirs in zip(
        torch.autograd.grad((ours * weights).sum(), streams),
        torch.autograd.grad((reference * weights).sum(), streams),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(keys=st.integers(2, 12), data=st.data(), heads=heads, causal=st.booleans(), window=windows)
def test_with_a_past_the_queries_are_the_last_positions(
    keys: int, data: st.DataObject, heads: tuple[int, int], causal: bool, window: int | None
) -> None:
    queries = data.draw(st.integers(1, keys - 1))
    window = window if causal else None
    query, key, value = drawn(keys, heads, queries, keys)
    lengths = Segments((queries,)), Segments((keys,))
    ours = packed_attention(query, key, value, *lengths, causal=causal, scale=0.5, window=window)
    reference = plain(query, key, value, Segments((keys,)), causal, 0.5, window)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


def test_the_usual_scale_is_the_default() -> None:
    query, key, value = drawn(0, (2, 2), 5, 5)
    ours = packed_attention(query, key, value, Segments((2, 3)), causal=True)
    torch.testing.assert_close(ours, plain(query, key, value, Segments((2, 3)), True, 8**-0.5), atol=1e-6, rtol=1e-5)


def test_nothing_outside_a_segment_is_felt() -> None:
    """Not merely little: not at all."""
    segments = Segments((3, 5, 5, 2))
    query, key, value = drawn(1, (4, 2), 15, 15)
    before = packed_attention(query, key, value, segments, causal=False)
    key[:, 3:8] += 7.0
    value[:, 3:8] = 1e6
    after = packed_attention(query, key, value, segments, causal=False)
    assert torch.equal(before[:, :3], after[:, :3])
    assert torch.equal(before[:, 8:], after[:, 8:])
    assert not torch.equal(before[:, 3:8], after[:, 3:8])


def test_segments_are_required() -> None:
    query, key, value = drawn(0, (2, 2), 6, 6)
    with pytest.raises(TypeError, match="segments"):
        packed_attention(query, key, value, causal=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("lengths", [(5,), (3, 4), (6, 1), ()])
def test_segments_must_cover_the_stream(lengths: tuple[int, ...]) -> None:
    query, key, value = drawn(0, (2, 2), 6, 6)
    with pytest.raises(AssertionError, match="segments cover"):
        packed_attention(query, key, value, Segments(lengths), causal=True)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=2, max_size=6).map(tuple), heads=heads, window=windows)
def test_behind_several_pasts_each_query_is_the_last_position_of_its_own(
    lengths: tuple[int, ...], heads: tuple[int, int], window: int | None
) -> None:
    query, key, value = drawn(sum(lengths), heads, len(lengths), sum(lengths))
    each, past = Segments((1,) * len(lengths)), Segments(lengths)
    ours = packed_attention(query, key, value, each, past, causal=True, scale=0.5, window=window)
    pasts = zip(query.split(1, 1), key.split(lengths, 1), value.split(lengths, 1), lengths, strict=True)
    alone = [plain(*past, Segments((length,)), True, 0.5, window) for *past, length in pasts]
    torch.testing.assert_close(ours, torch.cat(alone, 1), atol=1e-5, rtol=1e-5)


pairs = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 7)), min_size=1, max_size=6)
"""Lengths of segments of queries and of keys."""


@settings(max_examples=120, deadline=None)
@given(pairs=pairs, heads=heads, causal=st.booleans(), window=windows, seed=st.integers(0, 1000))
def test_queries_of_each_segment_see_the_keys_of_theirs(
    pairs: list[tuple[int, int]], heads: tuple[int, int], causal: bool, window: int | None, seed: int
) -> None:
    """Pair by pair, with every gradient; where there are no keys there is nothing, and causal queries are the last."""
    window = window if causal else None
    # The past of a causal query has the query itself in it.
    pairs = [(queries, queries + keys if causal and keys else keys) for queries, keys in pairs]
    of_queries, of_keys = (Segments(lengths) for lengths in zip(*pairs, strict=True))
    streams = [stream.requires_grad_() for stream in drawn(seed, heads, of_queries.total, of_keys.total)]
    ours = packed_attention(*streams, of_queries, of_keys, causal=causal, scale=0.3, window=window)
    query, key, value = streams
    cut = query.split(of_queries.lengths, 1), key.split(of_keys.lengths, 1), value.split(of_keys.lengths, 1)
    alone = [
        plain(*part, Segments((keys,)), causal, 0.3, window) if keys else torch.zeros_like(part[0])
        for *part, keys in zip(*cut, of_keys.lengths, strict=True)
    ]
    reference = torch.cat(alone, 1)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)
    if not of_keys.total:
        return
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(seed))
    for mine, theirs in zip(
        torch.autograd.grad((ours * weights).sum(), streams),
        torch.autograd.grad((reference * weights).sum(), streams),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_segments_without_keys_give_zeros(causal: bool) -> None:
    query, key, value = drawn(0, (4, 2), 6, 3)
    out = packed_attention(query, key, value, Segments((2, 1, 3)), Segments((0, 3, 0)), causal=causal)
    assert torch.equal(out[:, :2], torch.zeros(4, 2, 8))
    assert torch.equal(out[:, 3:], torch.zeros(4, 3, 8))
    assert (out[:, 2] != 0).all()
    nothing = packed_attention(query, key[:, :0], value[:, :0], Segments((6,)), Segments((0,)), causal=causal)
    assert torch.equal(nothing, torch.zeros(4, 6, 8))


def test_causal_queries_are_the_last_positions_of_their_keys() -> None:
    """Weights are even where the queries are zeros: of values 1, 2, 4 ... the sum tells which were seen."""
    query, key, value = torch.zeros(1, 5, 1), torch.zeros(1, 9, 1), 2.0 ** torch.arange(9)[None, :, None]
    out = packed_attention(query, key, value, Segments((2, 3)), Segments((4, 5)), causal=True)
    seen = [[0, 1, 2], [0, 1, 2, 3], [4, 5, 6], [4, 5, 6, 7], [4, 5, 6, 7, 8]]
    expected = [sum(2**index for index in indices) / len(indices) for indices in seen]
    torch.testing.assert_close(out.flatten(), torch.tensor(expected))


def test_a_segment_of_keys_for_each_of_queries() -> None:
    query, key, value = drawn(0, (2, 2), 3, 6)
    with pytest.raises(AssertionError, match="a segment of keys for each of queries"):
        packed_attention(query, key, value, Segments((3,)), Segments((3, 3)), causal=True)
    with pytest.raises(AssertionError, match="segments cover 5 positions, keys have 6"):
        packed_attention(query, key, value, Segments((3,)), Segments((5,)), causal=True)


def test_a_window_needs_causal_attention() -> None:
    query, key, value = drawn(0, (2, 2), 6, 6)
    with pytest.raises(AssertionError, match="causal"):
        packed_attention(query, key, value, Segments((6,)), causal=False, window=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("causal", [True, False])
def test_one_kernel_for_all_segments_on_cuda(causal: bool, window: int | None) -> None:
    segments = Segments((3, 70, 5, 5, 1))
    window = window if causal else None
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(count, 84, 64, generator=generator) for count in (4, 2, 2))
    reference = plain(query, key, value, segments, causal, 0.125, window)
    half = [stream.cuda().bfloat16().requires_grad_() for stream in (query, key, value)]
    ours = packed_attention(*half, segments, causal=causal, scale=0.125, window=window)
    torch.testing.assert_close(ours.float().cpu(), reference, atol=2e-2, rtol=2e-2)
    ours.float().square().sum().backward()
    full = [stream.requires_grad_() for stream in (query, key, value)]
    plain(*full, segments, causal, 0.125, window).square().sum().backward()
    for mine, theirs in zip(half, full, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad.float().cpu(), theirs.grad, atol=5e-2, rtol=5e-2)
