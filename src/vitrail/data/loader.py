"""The stream of batches: a function of (seed, epoch, index), so it can be resumed anywhere from three numbers.

One thread prepares packs ahead of the training step. What it has prepared but not handed over is not part of the state.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vitrail.contracts.errors import DataError
from vitrail.contracts.protocols import Source
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import collate
from vitrail.data.config import DialectName, PackConfig
from vitrail.data.encode import Encode, fit
from vitrail.data.ledger import LOST, Event, Ledger
from vitrail.data.pack import pack_window

AHEAD = 4
"""Packs prepared ahead of the step."""

T = TypeVar("T")


@dataclass(frozen=True)
class Cursor:
    """The next pack of the stream: its number in its window, in its epoch."""

    epoch: int = 0
    window: int = 0
    pack: int = 0


@dataclass(frozen=True)
class Item:
    """A batch, where the stream stands after it, and what became of the samples on the way to it.

    epochs: passes over the source so far, as a fraction.
    """

    batch: Batch
    after: Cursor
    epochs: float
    events: tuple[Event, ...]


@dataclass
class Stream:
    """Batches without end, epoch after epoch, in an order fixed by the seed.

    pad_to: fixed length of every text stream, 0 for none. shuffle: else in the source's own order.
    """

    source: Source
    dialect: DialectName
    encode: Encode
    config: PackConfig
    seed: int
    max_lost: float
    pad_to: int = 0
    shuffle: bool = True

    @property
    def windows(self) -> int:
        """Windows in an epoch."""
        return -(-len(self.source) // self.config.window)

    def items(self, start: Cursor, ledger: Ledger) -> Iterator[Item]:
        """Items from `start` on. ledger: what was handed over before; it is read, not written.

        Raises DataError once a greater share than `max_lost` is lost, or when no row is usable at all.
        """
        watch = _Watch(ledger, self.max_lost)
        cursor, events, barren = start, [], 0
        while True:
            packs, lost = self.window(cursor.epoch, cursor.window)
            # What was lost before a pack of this window was handed over is in the ledger already.
            fresh = lost if cursor.pack == 0 else []
            events += fresh
            watch.planned(sum(len(pack.samples) for pack in packs[cursor.pack :]), fresh)
            barren += 1
            # So many windows in a row hold a whole epoch.
            if barren > 2 * self.windows:
                raise DataError(f"{self.source.name}: no usable row; the last: {events[-1].reason}")
            for number in range(cursor.pack, len(packs)):
                batch, fates = collate(packs[number], self.encode.media, self.pad_to)
                events += fates
                watch.collated(fates)
                if batch is not None:
                    after = self._after(cursor, number + 1, len(packs))
                    yield Item(batch, after, self._epochs(cursor, (number + 1) / len(packs)), tuple(events))
                    events, barren = [], 0
            cursor = self._after(cursor, 1, 1)

    def window(self, epoch: int, number: int) -> tuple[list[Pack], list[Event]]:
        """The packs of one window, and the events of the rows that did not make it into one."""
        size = self.config.window
        chance = np.random.default_rng((self.seed, epoch))
        rows = len(self.source)
        order = chance.permutation(rows) if self.shuffle else np.arange(rows)
        samples: list[Sample] = []
        events: list[Event] = []
        for index in order[number * size : (number + 1) * size].tolist():
            name = f"row {index}"
            try:
                row = self.source.row(index)
                name = row.id
                sample = self.encode.row(row, self.source.name, self.dialect)
            except DataError as error:
                events.append(Event(name, self.source.name, "unreadable", str(error)))
                continue
            kept, reason = fit(sample, self.config.length, self.config.patches, self.config.overlong)
            if kept is None:
                events.append(Event(sample.id, self.source.name, "too_long", reason))
            else:
                samples.append(kept)
        return pack_window(samples, self.config.length, self.config.patches), events

    def _after(self, cursor: Cursor, done: int, packs: int) -> Cursor:
        if done < packs:
            return Cursor(cursor.epoch, cursor.window, done)
        if cursor.window + 1 < self.windows:
            return Cursor(cursor.epoch, cursor.window + 1)
        return Cursor(cursor.epoch + 1)

    def _epochs(self, cursor: Cursor, share: float) -> float:
        """Counts rows, so that a short last window weighs what it holds."""
        start = cursor.window * self.config.window
        rows = min(self.config.window, len(self.source) - start)
        return cursor.epoch + (start + share * rows) / len(self.source)


class _Watch:
    """The share of rows lost so far, over all rows planned so far."""

    def __init__(self, ledger: Ledger, max_lost: float) -> None:
        self.ledger = Ledger.from_json(ledger.to_json())
        self.max_lost = max_lost
        self.rows = ledger.total()

    def planned(self, packed: int, lost: list[Event]) -> None:
        self.rows += packed + len(lost)
        self._check(lost)

    def collated(self, fates: list[Event]) -> None:
        self._check([event for event in fates if event.fate in LOST])

    def _check(self, lost: list[Event]) -> None:
        self.ledger.record(lost)
        count = self.ledger.total(*LOST)
        if count > self.max_lost * self.rows:
            first = next(event for event in self.ledger.rows if event.fate in LOST)
            raise DataError(
                f"{count} of {self.rows} rows lost, data.max_lost allows {self.max_lost:.1%}; the first: {first.reason}"
            )


def prefetched(items: Iterator[T], ahead: int = AHEAD) -> Generator[T]:
    """The same items, made in a thread of their own, at most `ahead` of them waiting. Errors arrive in their place."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)
    stop = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(entry, timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if stop.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:  # handed to the reader, which raises it
            put((None, error))

    thread = threading.Thread(target=work, name="vitrail-data", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        stop.set()
        thread.join()
