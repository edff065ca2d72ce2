"""Mixtures: shares met exactly, every row once an epoch, and a place that a stream goes on from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.config import MixtureConfig, PartConfig
from vitrail.data.mixture import Mixture, Part, Replay, SourceCursor, open_mixture
from vitrail.data.order import rows_at
from vitrail.synthetic.config import DrawnConfig


class Rows:
    """A source of numbered rows. synthetic: every so many-th row says it is."""

    def __init__(self, name: str, count: int, block: int = 1, synthetic: int = 0) -> None:
        self.name, self.block, self._count, self._synthetic = name, block, count, synthetic

    def __len__(self) -> int:
        return self._count

    def row(self, index: int) -> Row:
        said = bool(self._synthetic) and index % self._synthetic == 0
        return Row(f"{self.name} {index}", {"synthetic": said})


class Streamed:
    """The same, in its own order alone. opened: the cursors it was opened at."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self._count, self.opened = name, count, []  # type: ignore[var-annotated]

    def rows(self, epoch: int, cursor: Any) -> Iterator[tuple[Row | DataError, Any]]:
        self.opened.append((epoch, cursor))
        for index in range((cursor or {"next": 0})["next"], self._count):
            yield Row(f"{self.name} {epoch}.{index}", {}), {"next": index + 1}


def names(mixture: Mixture, drawn: Sequence[Any]) -> list[str]:
    said = []
    for one in drawn:
        part = mixture.parts[one.part]
        row = one.row if one.row is not None else part.source.row(one.index)  # type: ignore[union-attr]
        assert isinstance(row, Row)
        said.append(row.id)
    return said


def windows(mixture: Mixture, sizes: Sequence[int], progress: float = 0.0) -> list[list[str]]:
    places, number, found = mixture.start(), 0, []
    for size in sizes:
        drawn, places, _ = mixture.draw(places, number, size, progress)
        assert [one.number for one in drawn] == list(range(number, number + size))
        found.append(names(mixture, drawn))
        number += size
    return found


# Order


@settings(deadline=None)
@given(
    rows=st.integers(1, 80), block=st.integers(1, 12), seed=st.integers(0, 5), epoch=st.integers(0, 3), data=st.data()
)
def test_every_row_has_one_position_in_an_epoch(rows: int, block: int, seed: int, epoch: int, data: Any) -> None:
    whole = rows_at(0, rows, rows, block, seed, epoch)
    assert sorted(whole) == list(range(rows))
    start = data.draw(st.integers(0, rows))
    count = data.draw(st.integers(0, rows - start))
    assert rows_at(start, count, rows, block, seed, epoch) == whole[start : start + count]
    for together in (2, 5):
        mixed = rows_at(0, rows, rows, block, seed, epoch, together)
        assert sorted(mixed) == list(range(rows))
        assert rows_at(start, count, rows, block, seed, epoch, together) == mixed[start : start + count]
    assert rows_at(start, count, rows, block, None, epoch) == list(range(start, start + count))


def test_neighbours_of_a_block_come_together() -> None:
    order = rows_at(0, 100, 100, 10, 0, 0)
    for start in range(0, 100, 10):
        assert order[start : start + 10] == list(range(order[start], order[start] + 10))
    assert order != list(range(100))


# Shares


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    size=st.integers(1, 17),
    epochs=st.integers(1, 2),
)
def test_without_shares_every_row_comes_once_an_epoch(counts: list[int], size: int, epochs: int) -> None:
    mixture = Mixture([Part(Rows(f"part {n}", count, 3), "tags", f"part {n}") for n, count in enumerate(counts)], 0)
    rows = sum(counts)
    assert mixture.rows == rows
    sizes = [min(size, rows - start) for _ in range(epochs) for start in range(0, rows, size)]
    found = Counter(name for window in windows(mixture, sizes) for name in window)
    assert found == {f"part {n} {index}": epochs for n, count in enumerate(counts) for index in range(count)}


@settings(deadline=None, max_examples=50)
@given(shares=st.lists(st.floats(0.05, 9), min_size=1, max_size=4), size=st.integers(1, 50))
def test_shares_are_met_to_within_one_sample(shares: list[float], size: int) -> None:
    parts = [Part(Rows(str(n), 7), "tags", str(n), ((0.0, share),)) for n, share in enumerate(shares)]
    total = Counter(name.split()[0] for window in windows(Mixture(parts, 0), [size] * 6) for name in window)
    for number, share in enumerate(shares):
        assert abs(total[str(number)] - 6 * size * share / sum(shares)) < 1 + 1e-6


def test_temperature_lifts_small_sources() -> None:
    parts = [Part(Rows("large", 900), "tags", "large"), Part(Rows("small", 100), "tags", "small")]
    assert Mixture(parts, 0).shares(0.0) == [0.9, 0.1]
    assert Mixture(parts, 0, temperature=2.0).shares(0.0) == [0.75, 0.25]
    assert Mixture(parts, 0, temperature=1e6).shares(0.0) == pytest.approx([0.5, 0.5], abs=1e-5)


def test_shares_change_over_the_stage() -> None:
    text = Part(Rows("text", 50), "tags", "text", ((0.0, 1.0), (0.5, 0.3)))
    seen = Part(Rows("seen", 50), "tags", "seen", ((0.0, 0.0), (0.5, 0.7)))
    mixture = Mixture([text, seen], 0)
    assert mixture.shares(0.0) == [1.0, 0.0]
    assert mixture.shares(0.25) == pytest.approx([0.65, 0.35])
    assert mixture.shares(0.5) == mixture.shares(1.0) == pytest.approx([0.3, 0.7])


def test_replay_takes_its_share_of_the_stage() -> None:
    own, first, second = DrawnConfig(rows=10), DrawnConfig(rows=20), DrawnConfig(rows=60)
    earlier = MixtureConfig((PartConfig("first", first), PartConfig("second", second)))
    opened = {config: (Rows(name, config.rows), "tags") for config, name in ((own, "own"), (first, "a"), (second, "b"))}
    mixture = open_mixture(own, opened, 0, (Replay("align", earlier, 0.2),))  # type: ignore[arg-type]
    assert [part.name for part in mixture.parts] == ["own", "first of align", "second of align"]
    assert mixture.shares(0.0) == pytest.approx([0.8, 0.05, 0.15])


def test_a_mixture_without_any_share_left_is_an_error() -> None:
    falling = Part(Rows("one", 5), "tags", "one", ((0.0, 1.0), (1.0, 0.0)))
    other = Part(Rows("two", 5), "tags", "two", ((0.0, 1.0), (1.0, 0.0)))
    with pytest.raises(DataError, match="every source has a share of 0 at 100% of the stage"):
        Mixture([falling, other], 0).shares(1.0)


# Synthetic rows


def test_synthetic_parts_are_held_to_their_cap() -> None:
    parts = [
        Part(Rows("drawn", 90), "tags", "drawn", synthetic=True),
        Part(Rows("real", 10), "tags", "real"),
    ]
    assert Mixture(parts, 0, max_synthetic=0.4).shares(0.0) == pytest.approx([0.4, 0.6])
    assert Mixture(parts, 0).shares(0.0) == pytest.approx([0.9, 0.1])


def test_synthetic_rows_are_passed_over_beyond_their_cap() -> None:
    mixture = Mixture([Part(Rows("mixed", 40, synthetic=2), "tags", "mixed")], 0, max_synthetic=0.25)
    places, passed, found = mixture.start(), 0, []
    for number in range(4):
        drawn, places, over = mixture.draw(places, number * 8, 8, 0.0)
        passed += len(over)
        found += names(mixture, drawn)
    made = sum(int(name.split()[1]) % 2 == 0 for name in found)
    assert len(found) == 32
    assert made <= 8
    assert places[0].synthetic == made
    assert passed > 0


def test_a_part_of_synthetic_rows_alone_fails_instead_of_spinning() -> None:
    mixture = Mixture([Part(Rows("made", 9, synthetic=1), "tags", "made")], 0, max_synthetic=0.0)
    with pytest.raises(DataError, match="made: an epoch of it gives no row that may be used"):
        mixture.draw(mixture.start(), 0, 4, 0.0)


# Going on


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=8), stop=st.integers(0, 7), progress=st.floats(0, 1))
def test_it_goes_on_from_a_place_as_if_never_stopped(sizes: list[int], stop: int, progress: float) -> None:
    def make() -> tuple[Mixture, Streamed]:
        streamed = Streamed("streamed", 7)
        parts = [
            Part(Rows("rows", 11, 2, synthetic=3), "tags", "rows", ((0.0, 1.0), (1.0, 3.0))),
            Part(streamed, "tags", "streamed", ((0.0, 2.0),)),
        ]
        return Mixture(parts, 5, max_synthetic=0.2), streamed

    whole, _ = make()
    expected = windows(whole, sizes, progress)
    places, number = whole.start(), 0
    stop = min(stop, len(sizes) - 1)
    for size in sizes[:stop]:
        _, places, _ = whole.draw(places, number, size, progress)
        number += size
    resumed, streamed = make()
    places = tuple(SourceCursor(**json.loads(json.dumps(vars(place)))) for place in places)
    for size, window in zip(sizes[stop:], expected[stop:], strict=True):
        drawn, places, _ = resumed.draw(places, number, size, progress)
        number += size
        assert names(resumed, drawn) == window
    # Opened once where it stood, and then once an epoch: nothing is read again to get there.
    assert len(streamed.opened) <= 1 + places[1].epoch
    assert mixture_rows_are_unknown(resumed)


def mixture_rows_are_unknown(mixture: Mixture) -> bool:
    return mixture.rows is None


def test_a_streamed_source_among_others_needs_a_share() -> None:
    parts = [Part(Streamed("hub", 3), "tags", "hub"), Part(Rows("rows", 3), "tags", "rows")]
    with pytest.raises(DataError, match="hub: a streamed source has no number of rows: give every part a share"):
        Mixture(parts, 0).shares(0.0)


def test_an_empty_stream_fails_instead_of_spinning() -> None:
    mixture = Mixture([Part(Streamed("hub", 0), "tags", "hub")], 0)
    with pytest.raises(DataError, match="hub: an epoch of it gives no row"):
        mixture.draw(mixture.start(), 0, 4, 0.0)


def test_what_is_not_shuffled_keeps_its_order_and_is_interleaved() -> None:
    parts = [
        Part(Rows("a", 8), "tags", "a", ((0.0, 3.0),), shuffle=False),
        Part(Rows("b", 8), "tags", "b", ((0.0, 1.0),), shuffle=False),
    ]
    (window,) = windows(Mixture(parts, 0), [8])
    assert [name for name in window if name[0] == "a"] == [f"a {index}" for index in range(6)]
    assert [name for name in window if name[0] == "b"] == ["b 0", "b 1"]
    assert window.index("b 0") < 4 < window.index("b 1") + 1
