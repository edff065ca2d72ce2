"""The limit on lost rows is judged over enough rows: the first window says little about a file of thousands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.data.config import JsonlConfig, PackConfig
from vitrail.data.encode import Encode
from vitrail.data.ledger import Event, Ledger
from vitrail.data.loader import Cursor, Stream
from vitrail.data.mixture import open_mixture
from vitrail.data.watch import Watch


def lost(count: int) -> list[Event]:
    return [Event(f"r{number}", "s", "unreadable", f"row {number} is torn") for number in range(count)]


def judged(rows: int, gone: int, allowed: float, *, every: bool = False) -> bool:
    """Whether so many lost of so many are too many."""
    watch = Watch(Ledger(), allowed)
    try:
        watch.planned(rows - gone, lost(gone), every=every)
    except DataError:
        return True
    return False


def test_some_of_the_first_rows_say_little() -> None:
    """Seven of the first 512 are 1.4 %, but 1 % may be all there are; of 5,120 as great a share is too much."""
    assert not judged(512, 7, 0.01)
    assert judged(5120, 70, 0.01)
    assert judged(512, 60, 0.01)


def test_once_all_rows_are_known_the_share_itself_counts() -> None:
    assert judged(512, 7, 0.01, every=True)
    assert not judged(512, 5, 0.01, every=True)


def test_none_may_be_lost_means_none() -> None:
    assert judged(6, 1, 0.0)
    assert judged(100_000, 1, 0.0)
    assert not judged(6, 6, 1.0, every=True)


def test_what_was_lost_before_a_stop_counts(tmp_path: Path) -> None:
    before = Ledger()
    before.record([*lost(70), *(Event(f"u{number}", "s", "used") for number in range(5000))])
    with pytest.raises(DataError, match=r"^71 of 5071 rows lost"):
        Watch(before, 0.01).planned(0, lost(1), every=False)


@pytest.mark.parametrize(("bad", "ends"), [(3, False), (30, True)])
def test_a_bad_first_window_does_not_end_a_good_file(bad: int, ends: bool, tiny_encode: Encode, tmp_path: Path) -> None:
    """Three torn lines at the head of 300, of which 2 % may be lost: half of the first window, and well within it."""
    row = {"messages": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Hm."}]}
    lines = ["{torn"] * bad + [json.dumps(row)] * (300 - bad)
    # Blocks of 16 lines are shuffled; the file is read as it lies here.
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = JsonlConfig(tmp_path / "rows.jsonl", dialect="openai", shuffle=False)
    mixture = open_mixture(config, {config: build.build_source(config)}, 0)
    stream = Stream(mixture, tiny_encode, PackConfig(64, 64, window=100), max_lost=0.02)
    items = stream.items(Cursor(), Ledger())

    def one_epoch() -> float:
        return next(item.epochs for item in items if item.epochs >= 1)

    if ends:
        with pytest.raises(DataError, match=r"^30 of 100 rows lost, data\.max_lost allows 2\.0%"):
            one_epoch()
    else:
        assert one_epoch() == 1.0
