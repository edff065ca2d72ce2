"""The stream of batches: every row once an epoch, resumed anywhere as if never stopped, and nothing lost in silence."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import DataError, VitrailError
from vitrail.contracts.samples import Batch
from vitrail.data.config import PackConfig, ResolutionConfig
from vitrail.data.encode import Encode
from vitrail.data.ledger import Event, Ledger, LedgerFile, damage, rows_of, write
from vitrail.data.loader import AHEAD, Cursor, Item, Stream, prefetched
from vitrail.data.mixture import Mixture, Part, SourceCursor
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.media.config import AugmentConfig, FetchConfig

Paint = Callable[[Path, int, int], Path]
WriteRows = Callable[[Path, Sequence[Any]], JsonlSource]
PACK = PackConfig(length=120, patches=400, window=8)


def talk(name: str, text: str, answer: str = "Yes.", **columns: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return {"id": name, "messages": turns, **columns}


def words(count: int) -> list[dict[str, Any]]:
    """Rows of text alone, of different lengths."""
    return [talk(str(number), "x" * (5 + 7 * number % 40)) for number in range(count)]


def mixture(source: JsonlSource, seed: int = 0) -> Mixture:
    return Mixture([Part(source, "tags", source.name)], seed)


def at_epoch(stream: Stream, epoch: int) -> Cursor:
    rows = (stream.mixture.rows or 0) * epoch
    return Cursor((SourceCursor(epoch, due=float(rows), drawn=rows),), samples=rows)


def one_epoch(stream: Stream, epoch: int = 0) -> list[Item]:
    items = stream.items(at_epoch(stream, epoch), Ledger())
    return list(itertools.takewhile(lambda item: item.epochs <= epoch + 1, items))


def order(items: Sequence[Item]) -> list[str]:
    return [name for item in items for name in item.batch.sample_ids]


def same(one: Item, other: Item) -> None:
    """Everything equal, to the bit."""
    assert (one.after, one.epochs, one.events) == (other.after, other.epochs, other.events)
    assert equal(one.batch, other.batch)


def equal(one: Batch, other: Batch) -> bool:
    if one.streams.keys() != other.streams.keys() or one.targets.keys() != other.targets.keys():
        return False
    if dataclasses.replace(one, streams=other.streams, targets=other.targets) != other:
        return False
    held = [(vars(stream), vars(other.streams[name])) for name, stream in one.streams.items()]
    return all(
        torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        for mine, theirs in [*held, (one.targets, other.targets)]
        for name, value in mine.items()
    )


@pytest.fixture
def plain(tmp_path: Path, encode: Encode, write_rows: WriteRows) -> Stream:
    """29 rows of text: three windows of 8 and one of 5."""
    source = write_rows(tmp_path / "plain.jsonl", words(29))
    return Stream(mixture(source, seed=3), encode, PACK, max_lost=0.0)


# Order


def test_every_row_comes_once_an_epoch(plain: Stream) -> None:
    assert plain.windows == 4
    for epoch in (0, 1, 2):
        assert sorted(order(one_epoch(plain, epoch)), key=int) == [str(number) for number in range(29)]


def test_order_is_a_function_of_seed_and_epoch(plain: Stream) -> None:
    other = dataclasses.replace(plain, mixture=dataclasses.replace(plain.mixture, seed=4))
    orders = [order(one_epoch(stream, epoch)) for stream in (plain, other) for epoch in (0, 1)]
    assert len({tuple(names) for names in orders}) == 4
    assert order(one_epoch(plain, 1)) == orders[1]
    assert order(one_epoch(dataclasses.replace(other, mixture=plain.mixture))) == orders[0]


def test_epochs_are_counted_in_rows(plain: Stream) -> None:
    items = list(itertools.islice(plain.items(Cursor(), Ledger()), 40))
    shares = [item.epochs for item in items]
    assert shares == sorted(set(shares))
    # Windows end where their rows say: the last one holds 5 of 29.
    for end in (8 / 29, 16 / 29, 24 / 29, 1.0, 1 + 8 / 29):
        assert min(abs(share - end) for share in shares) < 1e-12
    epochs = [item.after.parts[0].epoch if item.after.parts else 0 for item in items]
    assert epochs == [int(share) for share in shares]


def test_batches_of_one_length_when_asked(plain: Stream) -> None:
    for item in one_epoch(dataclasses.replace(plain, pad_to=120)):
        assert len(item.batch.text.ids) == 120
        assert item.batch.tokens + item.batch.padding == 120


# A poisoned file


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory, paint: Paint, write_rows: WriteRows) -> JsonlSource:
    """Thirty good rows with pictures, and one of every kind of bad row among them."""
    folder = tmp_path_factory.mktemp("poisoned")
    for number in range(5):
        paint(folder / f"{number}.png", 16 + 8 * number, 24)
    half = paint(folder / "half.png", 40, 40)
    half.write_bytes(half.read_bytes()[:300])
    (folder / "text.png").write_text("I am no picture")
    rows: list[Any] = [
        talk(f"good {number}", "<image>" + "What is it? "[: number % 12], images=[f"{number % 5}.png"])
        for number in range(30)
    ]
    bad = [
        talk("missing", "<image>?", images=["gone.png"]),
        talk("text", "<image>?", images=["text.png"]),
        talk("half", "<image>?", images=["half.png"]),
        talk("empty", "<image>?", " ", images=["0.png"]),
        talk("tags", "<image><image>?", images=["0.png"]),
        talk("long", "x" * 500),
        "{broken",
    ]
    for number, row in enumerate(bad):
        rows.insert(4 * number + 1, row)
    return write_rows(folder / "poisoned.jsonl", rows)


BAD = {
    "missing": ("unreadable", 2, "does not exist"),
    "text": ("unreadable", 6, "is not a picture"),
    "half": ("unreadable", 10, "is damaged"),
    "empty": ("unreadable", 14, "empty answer"),
    "tags": ("unreadable", 18, "2 <image> tags but 1 pictures"),
    "long": ("too_long", 22, "a pack holds 400 (data.pack.length)"),
    "row 25": ("unreadable", 26, "not JSON"),
}
"""Name in the ledger: outcome, line of the file, part of the reason."""


def stream_of(source: JsonlSource, encode: Encode, *, max_lost: float = 0.5, **pack: Any) -> Stream:
    return Stream(mixture(source), encode, PackConfig(**{"length": 400, "window": 64, **pack}), max_lost)


def ledger_of(items: Sequence[Item]) -> Ledger:
    ledger = Ledger()
    for item in items:
        ledger.record(item.events)
    return ledger


def test_the_ledger_is_right_to_the_row(poisoned: JsonlSource, encode: Encode, tmp_path: Path) -> None:
    items = one_epoch(stream_of(poisoned, encode))
    assert Counter(order(items)) == Counter(f"good {number}" for number in range(30))
    ledger = ledger_of(items)
    assert ledger.counts == {"poisoned": {"used": 30, "unreadable": 6, "too_long": 1}}
    assert ledger.total() == len(poisoned)
    assert ledger.total("unreadable", "too_long") == 7
    assert {event.id for event in ledger.rows} == set(BAD)
    for event in ledger.rows:
        outcome, line, reason = BAD[event.id]
        assert event.outcome == outcome
        assert f"poisoned.jsonl:{line}: " in event.reason
        assert reason in event.reason
        assert len(event.reason.splitlines()) == 1
    kept = filed(ledger, tmp_path / "beside.jsonl")
    write(tmp_path / "ledger.jsonl", tmp_path / "beside.jsonl", kept)
    totals, *rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert totals == {"counts": ledger.counts}
    assert [Event(**row) for row in rows] == ledger.rows


def test_every_epoch_counts_anew(poisoned: JsonlSource, encode: Encode) -> None:
    items = list(itertools.takewhile(lambda i: i.epochs <= 2, stream_of(poisoned, encode).items(Cursor(), Ledger())))
    assert ledger_of(items).counts == {"poisoned": {"used": 60, "unreadable": 12, "too_long": 2}}


def test_cut_rows_are_in_the_ledger_and_are_not_lost(poisoned: JsonlSource, encode: Encode) -> None:
    stream = stream_of(poisoned, encode, length=26, overlong="truncate_text", max_lost=1.0)
    ledger = ledger_of(one_epoch(stream))
    cut = [event for event in ledger.rows if event.outcome == "text_cut"]
    assert cut
    assert len(cut) == ledger.counts["poisoned"]["text_cut"]
    assert all("a pack holds 26" in event.reason for event in cut)
    assert ledger.total() == len(poisoned)
    assert ledger.total("too_long", "unreadable") < ledger.total() - len(cut)


def test_a_run_that_must_not_lose_long_rows_fails(poisoned: JsonlSource, encode: Encode) -> None:
    stream = stream_of(poisoned, encode, overlong="error", max_lost=1.0)
    with pytest.raises(DataError, match=r"poisoned\.jsonl:22: 506 tokens, a pack holds 400"):
        one_epoch(stream)


@pytest.mark.parametrize(
    ("max_lost", "said"),
    [(0.0, "6 of 37 rows lost, data.max_lost allows 0.0%"), (0.17, "7 of 37 rows lost, data.max_lost allows 17.0%")],
    ids=["by its rows", "by a picture that breaks off"],
)
def test_more_lost_than_allowed_fails_in_one_line(
    poisoned: JsonlSource, encode: Encode, max_lost: float, said: str
) -> None:
    with pytest.raises(DataError) as caught:
        one_epoch(stream_of(poisoned, encode, max_lost=max_lost))
    message = str(caught.value)
    assert message.startswith(f"{said}; the first: ")
    assert "poisoned.jsonl:" in message
    assert len(message.splitlines()) == 1


def filed(ledger: Ledger, path: Path) -> dict[str, Any]:
    """Writes the rows as a run does; what a checkpoint holds then."""
    file = LedgerFile(path, {"counts": {}})
    file.add(ledger.rows)
    kept = {**ledger.to_json(), **file.mark()}
    file.close()
    return kept


def test_as_much_lost_as_allowed_goes_on(poisoned: JsonlSource, encode: Encode) -> None:
    assert len(order(one_epoch(stream_of(poisoned, encode, max_lost=0.19)))) == 30


def test_ledgers_survive_json_and_share_nothing() -> None:
    ledger = Ledger()
    ledger.record([Event("a", "one", "used"), Event("b", "one", "too_long", "why"), Event("c", "two", "text_cut", "é")])
    plain = ledger.to_json()
    copy = Ledger.from_json(json.loads(json.dumps(plain)))
    assert ledger.rows.pop().id == "c"
    assert ledger.rows.pop() == copy.first_lost == Event("b", "one", "too_long", "why")
    assert copy == ledger
    ledger.record([Event("d", "one", "used")])
    assert Ledger.from_json(plain) == copy
    assert copy != ledger
    # Checkpoints of before held the rows, and called a row's outcome its fate.
    before = [{"id": "b", "source": "one", "fate": "too_long", "reason": "why"}]
    assert Ledger.from_json({"counts": plain["counts"], "rows": before}) == copy


def test_a_ledger_can_be_written_whatever_rows_are_called(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.record([Event("half \ud83d", "one", "unreadable", "é\n")])
    write(tmp_path / "ledger.jsonl", tmp_path / "beside.jsonl", filed(ledger, tmp_path / "beside.jsonl"))
    _, row = (tmp_path / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert Event(**json.loads(row)) == ledger.rows[0]


def test_a_ledger_is_appended_to_and_cut_off_where_its_checkpoint_ends(tmp_path: Path) -> None:
    """What a checkpoint holds of it does not grow with its rows; rows written after the checkpoint are gone again."""
    path = tmp_path / "ledger.jsonl"
    events = [Event(f"{number} é", "one", "text_cut", "too long") for number in range(1000)]
    first = filed(Ledger(), path)
    file = LedgerFile(path, first)
    file.add(events[:400])
    kept = file.mark()
    file.add(events[400:700])
    file.close()
    assert len(json.dumps(kept)) < 120
    assert [row["id"] for row in rows_of(path, kept)] == [event.id for event in events[:400]]
    assert damage(path, kept) == ""
    again = LedgerFile(path, kept)
    again.add(events[400:])
    whole = again.mark()
    again.close()
    straight = LedgerFile(tmp_path / "straight.jsonl", {"counts": {}})
    straight.add(events)
    assert straight.mark() == whole
    straight.close()
    assert path.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()
    path.write_bytes(path.read_bytes().replace(b"399", b"398"))
    assert "is not what was written" in damage(path, whole)
    path.write_bytes(path.read_bytes()[: kept["bytes"] - 1])
    assert "bytes of the" in damage(path, kept)


def test_a_large_poisoned_file_is_accounted_for_to_the_row(
    tmp_path: Path, encode: Encode, write_rows: WriteRows, paint: Paint
) -> None:
    """One row in a hundred has a corrupt picture, one a tag too many, five are too long."""
    for number in range(7):
        paint(tmp_path / f"{number}.png", 16 + 8 * number, 24)
    chance = np.random.default_rng(0)
    outcomes = chance.permutation(["corrupt"] * 4 + ["tags"] * 4 + ["long"] * 20 + ["good"] * 372).tolist()
    rows = []
    for number, outcome in enumerate(outcomes):
        picture = f"{number % 7}.png"
        if outcome == "corrupt":
            whole = (tmp_path / picture).read_bytes()
            picture = f"bad {number}.png"
            (tmp_path / picture).write_bytes(whole[: 20 + number] if number % 2 else b"")
        text = "<image>" * (2 if outcome == "tags" else 1) + "x" * (300 if outcome == "long" else number % 30)
        rows.append(talk(f"{outcome} {number}", text, images=[picture]))
    source = write_rows(tmp_path / "my.jsonl", rows)
    stream = stream_of(source, encode, length=200, window=32, max_lost=0.08)
    items = one_epoch(stream)
    ledger = ledger_of(items)
    assert ledger.counts == {"my": {"used": 372, "unreadable": 8, "too_long": 20}}
    assert {event.id for event in ledger.rows} == {row["id"] for row in rows if not row["id"].startswith("good")}
    assert sorted(order(items)) == sorted(row["id"] for row in rows if row["id"].startswith("good"))
    for event in ledger.rows:
        assert event.outcome == ("too_long" if event.id.startswith("long") else "unreadable")
        assert f"my.jsonl:{int(event.id.split()[1]) + 1}: " in event.reason
    with pytest.raises(DataError, match=r"rows lost, data.max_lost allows 2\.0%"):
        one_epoch(dataclasses.replace(stream, max_lost=0.02))


def test_addresses_are_fetched_where_the_recipe_says_so(
    tmp_path: Path, encode: Encode, write_rows: WriteRows, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetched(url: str, config: FetchConfig) -> bytes:
        asked.append(url)
        return paint(tmp_path / "a.png", 24, 16).read_bytes()

    row = talk("one", "<image>What?", images=["https://images.example.org/a.png?key=secret"])
    source = write_rows(tmp_path / "my.jsonl", [row])
    with pytest.raises(DataError, match=r"'https://images\.example\.org/a\.png' is not fetched: data\.fetch\.hosts"):
        next(stream_of(source, encode, max_lost=0.0).items(Cursor(), Ledger()))
    monkeypatch.setattr("vitrail.data.encode.fetched", fetched)
    allowed = dataclasses.replace(encode, fetch=FetchConfig(hosts=("images.example.org",)))
    item = next(stream_of(source, allowed).items(Cursor(), Ledger()))
    assert item.batch.vision is not None
    assert len(item.batch.vision.token_index) == 6
    assert len(asked) >= 1


# Nothing usable


def test_a_file_of_bad_rows_fails_instead_of_spinning(tmp_path: Path, encode: Encode, write_rows: WriteRows) -> None:
    stream = stream_of(write_rows(tmp_path / "bad.jsonl", ["{broken"] * 9), encode, max_lost=1.0, window=4)
    with pytest.raises(DataError, match=r"^bad: no usable row; the last: .*bad\.jsonl:\d: not JSON"):
        next(stream.items(Cursor(), Ledger()))


def test_pictures_that_all_break_off_fail_instead_of_spinning(
    tmp_path: Path, encode: Encode, write_rows: WriteRows, paint: Paint
) -> None:
    half = paint(tmp_path / "half.png", 40, 40)
    half.write_bytes(half.read_bytes()[:300])
    source = write_rows(tmp_path / "bad.jsonl", [talk(str(n), "<image>?", images=["half.png"]) for n in range(9)])
    stream = stream_of(source, encode, max_lost=1.0, window=4)
    with pytest.raises(DataError, match=r"^bad: no usable row; the last: .*is damaged"):
        next(stream.items(Cursor(), Ledger()))


def test_one_good_row_among_bad_ones_is_enough(tmp_path: Path, encode: Encode, write_rows: WriteRows) -> None:
    rows: list[Any] = ["{broken"] * 15
    rows.insert(7, talk("good", "Hm?"))
    stream = stream_of(write_rows(tmp_path / "bad.jsonl", rows), encode, max_lost=1.0, window=2)
    items = list(itertools.islice(stream.items(Cursor(), Ledger()), 12))
    assert order(items) == ["good"] * 12
    assert [math.ceil(item.epochs) for item in items] == list(range(1, 13))


# Resuming

REFERENCE = 45


@pytest.fixture(scope="module")
def uninterrupted(poisoned: JsonlSource, encode: Encode) -> tuple[Stream, list[Item]]:
    """Some epochs of a stream that loses as many rows as it may, in packs of two or three samples."""
    stream = stream_of(poisoned, encode, length=60, window=20, max_lost=0.3)
    return stream, list(itertools.islice(stream.items(Cursor(), Ledger()), REFERENCE))


def test_the_reference_has_it_all(uninterrupted: tuple[Stream, list[Item]]) -> None:
    _, items = uninterrupted
    assert items[-1].epochs > 2
    assert {event.outcome for item in items for event in item.events} == {"used", "unreadable", "too_long"}
    assert len({item.after for item in items}) == REFERENCE


@settings(deadline=None, max_examples=30)
@given(stop=st.integers(0, REFERENCE - 1), ahead=st.integers(1, 6))
def test_resumed_anywhere_it_goes_on_as_if_never_stopped(
    uninterrupted: tuple[Stream, list[Item]], stop: int, ahead: int
) -> None:
    stream, items = uninterrupted
    state = json.dumps(ledger_of(items[:stop]).to_json())
    cursor = items[stop - 1].after if stop else Cursor()
    going_on = stream.items(cursor, Ledger.from_json(json.loads(state)))
    for expected, item in zip(items[stop : stop + ahead], going_on, strict=False):
        same(item, expected)


@pytest.mark.parametrize("stop", range(1, 8))
def test_losses_within_the_limit_stay_within_it_when_resumed(
    tmp_path: Path, encode: Encode, write_rows: WriteRows, stop: int
) -> None:
    # All of a window's losses are known with its first pack, its good rows only as they are handed over.
    rows: list[Any] = [*words(18), "{broken", "{broken"]
    stream = stream_of(write_rows(tmp_path / "my.jsonl", rows), encode, length=50, max_lost=0.1)
    items = list(itertools.islice(stream.items(Cursor(), Ledger()), 10))
    resumed = stream.items(items[stop - 1].after, ledger_of(items[:stop]))
    same(next(resumed), items[stop])


def test_the_callers_ledger_is_read_and_not_written(poisoned: JsonlSource, encode: Encode) -> None:
    ledger = Ledger()
    items = stream_of(poisoned, encode, window=8).items(Cursor(), ledger)
    for _ in range(6):
        ledger.record(next(items).events)
    seen = json.dumps(ledger.to_json())
    next(items)
    assert json.dumps(ledger.to_json()) == seen
    assert ledger.total() == sum(sum(by_outcome.values()) for by_outcome in ledger.counts.values())
    assert ledger.total("unreadable", "too_long") == len(ledger.rows)


# The thread that works ahead


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "vitrail-data"]


def test_prefetched_items_are_the_same(uninterrupted: tuple[Stream, list[Item]]) -> None:
    stream, items = uninterrupted
    fetched = prefetched(stream.items(Cursor(), Ledger()))
    for expected, item in zip(items[:20], fetched, strict=False):
        same(item, expected)
    fetched.close()
    assert workers() == []


def test_an_error_comes_in_its_place() -> None:
    def three_and_an_error() -> Iterator[int]:
        yield from (1, 2, 3)
        raise DataError("the fourth")

    fetched = prefetched(three_and_an_error())
    assert [next(fetched) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(VitrailError, match=r"^the fourth$"):
        next(fetched)
    assert workers() == []


def test_what_ends_ends_here_too() -> None:
    assert list(prefetched((number for number in range(20)), ahead=2)) == list(range(20))
    assert list(prefetched(number for number in ())) == []
    assert workers() == []


@pytest.mark.parametrize("taken", [1, 2, 9])
def test_closed_early_it_stops_its_thread(taken: int) -> None:
    made = itertools.count()
    fetched = prefetched(made)
    assert list(itertools.islice(fetched, taken)) == list(range(taken))
    assert len(workers()) == 1
    fetched.close()
    assert workers() == []
    # It works ahead, but not far: what waits, and one in its hand.
    assert taken <= next(made) <= taken + AHEAD + 1


def test_abandoned_before_it_began_there_is_no_thread() -> None:
    fetched = prefetched(number for number in (1,))
    fetched.close()
    assert workers() == []


# Processes that prepare packs, and ranks that share them


def test_the_number_of_workers_changes_no_batch(uninterrupted: tuple[Stream, list[Item]]) -> None:
    stream, items = uninterrupted
    start = 7
    prepared = dataclasses.replace(stream, workers=2).items(items[start - 1].after, ledger_of(items[:start]))
    for expected, item in zip(items[start : start + 6], prepared, strict=False):
        same(item, expected)
    prepared.close()


def test_a_worker_changes_no_batch_and_ends_when_its_stream_does(uninterrupted: tuple[Stream, list[Item]]) -> None:
    stream, whole = uninterrupted
    before = set(multiprocessing.active_children())
    items = prefetched(dataclasses.replace(stream, workers=1).items(Cursor(), Ledger()))
    for expected in whole[:6]:
        same(next(items), expected)
    items.close()
    started = [process for process in multiprocessing.active_children() if process not in before]
    for process in started:
        process.join(60)
        assert process.exitcode is not None


@pytest.mark.parametrize(("ranks", "again", "stop"), [(1, 3, 2), (2, 1, 3), (3, 4, 1), (4, 2, 5), (2, 2, 0)])
def test_ranks_share_one_order_also_when_their_number_changes(plain: Stream, ranks: int, again: int, stop: int) -> None:
    whole = [item.batch.sample_ids for item in itertools.islice(plain.items(Cursor(), Ledger()), REFERENCE)]

    def rounds(count: int, start: Cursor, taken: int) -> list[Item]:
        """`taken` items of each rank, in the order of the ranks within each round."""
        streams = [dataclasses.replace(plain, rank=rank, ranks=count) for rank in range(count)]
        each = [list(itertools.islice(one.items(start, Ledger()), taken)) for one in streams]
        return [item for one in zip(*each, strict=True) for item in one]

    first = rounds(ranks, Cursor(), stop)
    # Whatever rank wrote the checkpoint: all of them stand behind the whole round.
    for cursor in [item.after for item in first[-ranks:]] or [Cursor()]:
        found = [item.batch.sample_ids for item in [*first, *rounds(again, cursor, 2)]]
        assert found == whole[: len(found)]


# What else a row may carry


def test_pictures_are_altered_anew_for_every_sample_of_the_stream(
    tmp_path: Path, encode: Encode, write_rows: WriteRows, paint: Paint
) -> None:
    paint(tmp_path / "a.png", 64, 64)
    rows = [talk(str(number), "<image>What?", images=["a.png"]) for number in range(2)]
    rows.append(talk("box", "<image>Where?", "[1, 2, 3, 4]", images=["a.png"]))
    source = write_rows(tmp_path / "my.jsonl", rows)
    config = AugmentConfig(share=1.0)
    part = Part(source, "tags", source.name, augment=config)
    stream = Stream(Mixture([part], 0), encode, PackConfig(length=100), 0.0)
    items = list(itertools.islice(stream.items(Cursor(), Ledger()), 6))
    seen = {item.batch.vision.values.numpy().tobytes() for item in items if item.batch.vision}
    assert len(seen) == 6
    again = list(itertools.islice(stream.items(items[2].after, Ledger()), 3))
    for item, expected in zip(again, items[3:], strict=True):
        same(item, expected)
    samples = [sample for pack in stream.first_window().packs for sample in pack.samples]
    assert {sample.id: sample.alter.still for sample in samples} == {"0": False, "1": False, "box": True}  # type: ignore[union-attr]


def test_pictures_grow_over_the_stage_and_vary_at_random(
    tmp_path: Path, encode: Encode, write_rows: WriteRows, paint: Paint
) -> None:
    paint(tmp_path / "a.png", 64, 64)
    rows = [talk(str(number), "<image>What?", images=["a.png"]) for number in range(40)]
    source = write_rows(tmp_path / "my.jsonl", rows)
    stream = Stream(mixture(source), encode, PackConfig(length=100, window=4), 0.0, lasts=("epochs", 1.0))

    def largest(kind: Literal["growing", "random"]) -> list[int]:
        chosen = dataclasses.replace(stream, resolution=ResolutionConfig(kind, 4, 64))
        views = [item.batch.vision.segments.lengths for item in one_epoch(chosen) if item.batch.vision]
        return [patches // 4 for lengths in views for patches in lengths]

    growing, random = largest("growing"), largest("random")
    assert growing == sorted(growing)
    assert (growing[0], growing[-1] >= 49) == (4, True)
    assert len(set(random)) > 4
    assert random != sorted(random)


def test_a_cursor_is_small_and_survives_json(uninterrupted: tuple[Stream, list[Item]]) -> None:
    for item in uninterrupted[1]:
        text = json.dumps(item.after.to_json())
        assert Cursor.from_json(json.loads(text)) == item.after
        assert len(text) < 1000
    assert Cursor.from_json({}) == Cursor()
