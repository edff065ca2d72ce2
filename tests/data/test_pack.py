"""Packing: every sample once, both budgets held, little padding, and nothing but the window decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.samples import Pack, Sample, View
from vitrail.data.collate import best_fit, fixed_length, pack_window
from vitrail.data.config import PackConfig

LENGTH, PATCHES = 64, 100
MakeSample = Callable[..., Sample]


def view(patches: int) -> View:
    """A view of so many patches, one token each."""
    return View(8, 8 * patches, 1, patches, 1, patches)


@st.composite
def windows(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Tokens and patches of every sample of a window; each fits a pack by itself."""
    size = draw(st.integers(0, 40))
    return [(draw(st.integers(1, LENGTH)), draw(st.integers(0, PATCHES))) for _ in range(size)]


def window(make_sample: MakeSample, measures: Sequence[tuple[int, int]]) -> list[Sample]:
    return [
        make_sample(str(number), tokens, [(0, view(patches))] if patches else [])
        for number, (tokens, patches) in enumerate(measures)
    ]


def names(packs: Sequence[Pack]) -> list[list[int]]:
    return [[int(sample.id) for sample in pack.samples] for pack in packs]


@settings(deadline=None)
@given(measures=windows())
def test_every_sample_is_packed_once_within_both_budgets(
    make_sample: MakeSample, measures: list[tuple[int, int]]
) -> None:
    packs = best_fit(window(make_sample, measures), LENGTH, PATCHES)
    assert sorted(number for pack in names(packs) for number in pack) == list(range(len(measures)))
    for pack in packs:
        assert pack.samples
        assert pack.tokens <= LENGTH
        assert pack.patches <= PATCHES


@settings(deadline=None)
@given(measures=windows())
def test_order_is_the_windows_order(make_sample: MakeSample, measures: list[tuple[int, int]]) -> None:
    packs = names(best_fit(window(make_sample, measures), LENGTH, PATCHES))
    firsts = [min(pack) for pack in packs]
    assert firsts == sorted(firsts)


@settings(deadline=None)
@given(measures=windows())
def test_samples_of_equal_size_are_neighbours(make_sample: MakeSample, measures: list[tuple[int, int]]) -> None:
    for pack in best_fit(window(make_sample, measures), LENGTH, PATCHES):
        sizes = [(sample.patches, len(sample)) for sample in pack.samples]
        assert sizes == sorted(sizes)


@settings(deadline=None)
@given(measures=windows())
def test_the_same_window_gives_the_same_packs(make_sample: MakeSample, measures: list[tuple[int, int]]) -> None:
    once = best_fit(window(make_sample, measures), LENGTH, PATCHES)
    again = best_fit(window(make_sample, measures), LENGTH, PATCHES)
    assert names(once) == names(again)


@settings(deadline=None)
@given(measures=windows())
def test_no_two_packs_could_be_one(make_sample: MakeSample, measures: list[tuple[int, int]]) -> None:
    # Best fit leaves at most one pack half empty when tokens alone decide.
    packs = best_fit(window(make_sample, [(tokens, 0) for tokens, _ in measures]), LENGTH, PATCHES)
    assert sum(pack.tokens <= LENGTH // 2 for pack in packs) <= 1


def test_no_samples_no_packs() -> None:
    assert best_fit([], LENGTH, PATCHES) == []


def test_the_patch_budget_alone_can_open_a_pack(make_sample: MakeSample) -> None:
    samples = window(make_sample, [(4, 60), (4, 60), (4, 40), (4, 0)])
    assert names(best_fit(samples, LENGTH, PATCHES)) == [[3, 2, 0], [1]]


@pytest.mark.parametrize("seed", range(5))
def test_few_tokens_are_padding_on_a_realistic_mix(make_sample: MakeSample, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(96, 513, 512)
    packs = best_fit([make_sample(str(n), int(tokens)) for n, tokens in enumerate(lengths)], 2048, 16_384)
    assert sum(pack.tokens for pack in packs) == lengths.sum()
    assert sum(pack.tokens for pack in packs) / (2048 * len(packs)) >= 0.98


@pytest.mark.parametrize(("tokens", "patches", "said"), [(65, 0, "tokens"), (4, 101, "patches")])
def test_a_sample_that_fits_no_pack_is_our_own_mistake(
    make_sample: MakeSample, tokens: int, patches: int, said: str
) -> None:
    with pytest.raises(AssertionError, match=f"sample 1 has more {said} than a pack"):
        best_fit(window(make_sample, [(3, 3), (tokens, patches)]), LENGTH, PATCHES)


@settings(deadline=None)
@given(measures=windows())
def test_fixed_length_fills_packs_and_cuts_only_their_last_sample(
    make_sample: MakeSample, measures: list[tuple[int, int]]
) -> None:
    samples = window(make_sample, measures)
    packs = fixed_length(samples, LENGTH, PATCHES)
    found = [sample for pack in packs for sample in pack.samples]
    assert sorted(int(sample.id) for sample in found) == list(range(len(measures)))
    for pack in packs:
        assert pack.tokens <= LENGTH
        assert pack.patches <= PATCHES
        cut = [sample for sample in pack.samples if sample.outcome == "text_cut"]
        if cut:
            (last,) = cut
            assert pack.tokens == LENGTH
            assert int(last.id) == max(int(sample.id) for sample in pack.samples)
            assert "to fill a pack" in last.reason
    assert all(sample.slots == samples[int(sample.id)].slots for sample in found), "no picture is cut"


def test_the_recipe_names_the_policy(make_sample: MakeSample) -> None:
    samples = window(make_sample, [(40, 0), (40, 0), (40, 0)])
    best = pack_window(samples, PackConfig(length=64, patches=PATCHES))
    fixed = pack_window(samples, PackConfig(length=64, patches=PATCHES, policy="fixed_length"))
    assert [pack.tokens for pack in best] == [40, 40, 40]
    assert [pack.tokens for pack in fixed] == [64, 40]
