"""The stream of batches: what comes next follows from the seed and a cursor, so it can be resumed anywhere.

A window of samples is drawn from the mixture, encoded (pictures by their headers alone) and packed; then each pack is
collated, which decodes its pictures. Ranks take packs one after the other from where they start, so the global order
depends neither on their number nor on that of the workers. What was prepared but not handed over is not part of the
state.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import ImagePart
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import gather, normalised, pack_window
from vitrail.data.config import PackConfig, ResolutionConfig
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode, fitted
from vitrail.data.ledger import Event, Ledger
from vitrail.data.mixture import Mixture, Part, Pick, SourceCursor, numbered
from vitrail.data.watch import Watch
from vitrail.data.workers import Workers
from vitrail.media.augment import Augmentation, speaks_of_boxes

AHEAD = 4
"""Packs prepared ahead of the step, and as many more under way where processes prepare them."""

BARREN = 50
"""So many windows in a row without a usable row end a stream whose length nobody knows."""

T = TypeVar("T")


@dataclass(frozen=True)
class Cursor:
    """A window's start, and how many of its packs were handed over; a few hundred bytes as JSON.

    parts: where each source stood; () at the very beginning. samples, packs, tokens: of all windows before.
    pack: packs handed over since, by all ranks.
    """

    parts: tuple[SourceCursor, ...] = ()
    samples: int = 0
    packs: int = 0
    tokens: int = 0
    pack: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Cursor:
        """The inverse of `to_json`; of nothing, the beginning."""
        return cls(**{**data, "parts": tuple(SourceCursor(**part) for part in data.get("parts", ()))})


@dataclass(frozen=True)
class Item:
    """A batch, where the stream stands after it, and what became of the samples on the way to it.

    epochs: passes over the sources so far, as a fraction; 0 where one of them is streamed. replaced: worker processes
    that were lost on the way to it, and made again.
    """

    batch: Batch
    after: Cursor
    epochs: float
    events: tuple[Event, ...]
    replaced: int = 0


@dataclass(frozen=True)
class End:
    """Where an epoch ends, or a stage of so many: the step takes what is left, and no pack of the next one.

    events: of rows lost since the last pack. The others as in Item.
    """

    after: Cursor
    epochs: float
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Window:
    """What one window became. samples: drawn for it. after: the start of the next one."""

    packs: list[Pack]
    events: list[Event]
    samples: int
    after: Cursor


@dataclass(frozen=True)
class RowJob:
    """A row that was picked, to be encoded. most_tokens: limit of its pictures."""

    pick: Pick
    most_tokens: int | None


@dataclass(frozen=True)
class Preparation:
    """What workers do: a picked row to a sample, or to what became of it; a pack to a gathered batch.

    Pure functions both.
    """

    parts: tuple[Part, ...]
    encode: Encode
    pack: PackConfig
    pad_to: int
    seed: int

    def __call__(self, job: RowJob | Pack | None) -> Any:
        """Sample | Event for a row; (Batch | None, events) for a pack, and where an epoch ends, which is None."""
        if isinstance(job, RowJob):
            return self.sample(job)
        return (None, []) if job is None else gather(job, self.encode.media, self.pad_to)

    def sample(self, job: RowJob) -> Sample | Event:
        """What cannot be used becomes an event."""
        pick = job.pick
        part, row = self.parts[pick.part], pick.row
        name = f"row {pick.index}" if pick.index >= 0 else f"sample {pick.number}"
        try:
            if row is None:
                assert numbered(part.source), "a row that was not read when it was picked has a number"
                row = part.source.row(pick.index)
            if isinstance(row, DataError):
                raise row
            name = row.id
            conversation = to_conversation(row, part.reading)
            found = fitted(self.encode, conversation, part.name, self.pack, job.most_tokens)
        except DataError as error:
            return Event(name, part.name, "unreadable", str(error))
        if isinstance(found, Event) or part.augment is None:
            return found
        # What a row says about where things stand in a picture must stay true.
        messages = conversation.messages
        known = any(isinstance(one, ImagePart) and one.characters for one in conversation.media)
        still = known or any(m.calls for m in messages) or speaks_of_boxes(m.text for m in messages)
        return replace(found, alter=Augmentation(part.augment, (self.seed, pick.number), still))


@dataclass
class Stream:
    """Batches without end, in an order fixed by the seed.

    lasts: how long the stage is, which is what the progress of shares and resolution is measured in; None for no end.
    pad_to: fixed length of every text stream, 0 for none. workers: processes that prepare packs, 0 for none.
    rank, ranks: whose packs these are.
    """

    mixture: Mixture
    encode: Encode
    config: PackConfig
    max_lost: float
    resolution: ResolutionConfig | None = None
    lasts: tuple[Literal["packs", "epochs", "tokens"], float] | None = None
    pad_to: int = 0
    workers: int = 0
    rank: int = 0
    ranks: int = 1

    @property
    def windows(self) -> int | None:
        """Windows in an epoch; None where a source is streamed."""
        rows = self.mixture.rows
        return None if rows is None else -(-rows // self.config.window)

    def items(self, start: Cursor, ledger: Ledger) -> Generator[Item]:
        """As `marked`, but for the marks."""
        events: tuple[Event, ...] = ()
        with closing(self.marked(start, ledger)) as marked:
            for one in marked:
                if isinstance(one, Item):
                    yield replace(one, events=(*events, *one.events)) if events else one
                events = (*events, *one.events) if isinstance(one, End) else ()

    def marked(self, start: Cursor, ledger: Ledger) -> Generator[Item | End]:
        """Items from `start` on, and, where the stage is counted in epochs, the ends at which a step must end.

        ledger: what was handed over before; it is read, not written. Raises DataError once a greater share than
        `max_lost` is lost, or when no row is usable at all.
        """
        watch = Watch(ledger, self.max_lost)
        workers = self._workers()
        under_way: deque[_Planned] = deque()

        def packs() -> Iterator[Pack | None]:
            for planned in self._planned(start, watch, workers):
                under_way.append(planned)
                yield planned.pack

        carried: tuple[Event, ...] = ()
        told = 0
        try:
            for batch, outcomes in workers.ahead(packs(), AHEAD):
                planned = under_way.popleft()
                watch.collated(outcomes)
                carried = (*carried, *planned.events, *outcomes)
                if planned.pack is None:
                    yield End(planned.after, planned.epochs, carried)
                    carried = ()
                elif batch is None and self.ranks > 1:
                    raise DataError(f"a whole pack cannot be read, and ranks must keep step: {outcomes[0].reason}")
                elif batch is not None:
                    watch.barren = 0
                    made, replaced = normalised(batch, self.encode.media), workers.lost - told
                    yield Item(made, planned.after, planned.epochs, carried, replaced)
                    carried, told = (), told + replaced
        finally:
            workers.close()

    def first_window(self) -> Window:
        """The stream's first window, for those who want to look at it."""
        with closing(self.windows_on()) as windows:
            return next(windows)

    def windows_on(self) -> Generator[Window]:
        """Every window from the first on, for those who count what comes of them."""
        cursor = Cursor()
        with closing(self._workers()) as workers:
            while True:
                window = self._window(cursor, workers)
                yield window
                cursor = window.after

    def _workers(self) -> Workers[Any, Any]:
        work = Preparation(tuple(self.mixture.parts), self.encode, self.config, self.pad_to, self.mixture.seed)
        return Workers(work, self.workers, self._named)

    def _named(self, job: RowJob | Pack | None) -> str:
        """A job, for messages."""
        if isinstance(job, RowJob):
            where = f"row {job.pick.index}" if job.pick.index >= 0 else f"sample {job.pick.number}"
            return f"{where} of {self.mixture.parts[job.pick.part].name}"
        assert job is not None, "nothing is lost to the end of an epoch"
        first = job.samples[0]
        return f"a pack of {len(job.samples)} rows, the first {first.id} of {first.source}"

    def _planned(self, start: Cursor, watch: Watch, workers: Workers[Any, Any]) -> Iterator[_Planned]:
        """This rank's packs, each with what became of the rows that were lost on the way to it; and the ends."""
        cursor, events, rank = start, [], 0
        while True:
            window = self._window(cursor, workers)
            skip = min(cursor.pack, len(window.packs))
            # What was lost before a pack of this window was handed over is in the ledger already.
            fresh = [] if cursor.pack else window.events
            events += fresh
            every = self.mixture.rows is not None and window.after.samples >= self.mixture.rows
            watch.planned(sum(len(pack.samples) for pack in window.packs[skip:]), fresh, every=every)
            # So many windows in a row hold a whole epoch, whatever is under way.
            if watch.barren > 2 * (self.windows or BARREN) + AHEAD:
                names = ", ".join(part.name for part in self.mixture.parts)
                raise DataError(f"{names}: no usable row; the last: {watch.ledger.rows[-1].reason}")
            done = self._epochs(cursor.samples + window.samples * skip / max(1, len(window.packs)))
            for number in range(skip, len(window.packs)):
                epochs = self._epochs(cursor.samples + window.samples * (number + 1) / len(window.packs))
                if rank == self.rank:
                    after = self._after(cursor, window, number + self.ranks - self.rank)
                    yield _Planned(window.packs[number], after, epochs, tuple(events))
                # What was lost before another rank's pack is that rank's to tell.
                events = []
                rank = (rank + 1) % self.ranks
                if self._ends_within(done, epochs):
                    yield _Planned(None, self._after(cursor, window, number + 1), epochs, ())
                done = epochs
            if self._ends_epoch(window):
                # One rank tells what was lost on the way, and the next epoch's first pack is the first one's.
                lost = tuple(events) if self.rank == 0 else ()
                yield _Planned(None, window.after, self._epochs(window.after.samples), lost)
                cursor, events, rank = window.after, [], 0
                continue
            cursor = self._after(cursor, window, max(cursor.pack, len(window.packs)))

    def _ends_epoch(self, window: Window) -> bool:
        """Whether a stage counted in epochs has come to the end of one with this window."""
        counted = self.lasts is not None and self.lasts[0] == "epochs" and self.mixture.rows
        return bool(counted) and not window.after.samples % (self.mixture.rows or 1)

    def _ends_within(self, before: float, now: float) -> bool:
        """Whether a stage of a part of an epoch ends between these two, both in epochs."""
        if self.lasts is None or self.lasts[0] != "epochs" or not self.lasts[1] % 1:
            return False
        return before < self.lasts[1] <= now

    def _window(self, cursor: Cursor, workers: Workers[Any, Any]) -> Window:
        """Draws, encodes and packs the window that the cursor stands in."""
        size, rows = self.config.window, self.mixture.rows
        if rows is not None:
            # Epochs end with a window of their own, or one would hold rows of the next.
            size = min(size, rows - cursor.samples % rows)
        progress = self._progress(cursor)
        picks, parts, passed = self.mixture.draw(cursor.parts or self.mixture.start(), cursor.samples, size, progress)
        why = f"over data.max_synthetic ({self.mixture.max_synthetic:.0%})"
        events = [Event(row.id, part.name, "over_share", f"{row.location or row.id}: {why}") for part, row in passed]
        samples: list[Sample] = []
        # Read as they lie in their sources, so that a block is decoded once; taken in the order they were drawn in.
        order = sorted(range(len(picks)), key=lambda number: (picks[number].part, picks[number].index))
        jobs = (RowJob(picks[number], self._most_tokens(picks[number].number, progress)) for number in order)
        made = dict(zip(order, workers.all(jobs), strict=True))
        for number in range(len(picks)):
            found = made[number]
            if isinstance(found, Sample):
                samples.append(found)
                continue
            if found.outcome == "too_long" and self.config.overlong == "error":
                raise DataError(found.reason)
            events.append(found)
        packs = pack_window(samples, self.config)
        tokens = cursor.tokens + sum(pack.tokens for pack in packs)
        after = Cursor(parts, cursor.samples + size, cursor.packs + len(packs), tokens)
        return Window(packs, events, size, after)

    def _after(self, cursor: Cursor, window: Window, done: int) -> Cursor:
        """The cursor after `done` packs of this window, which other ranks may take beyond its end."""
        if done < len(window.packs):
            return replace(cursor, pack=done)
        return replace(window.after, pack=done - len(window.packs))

    def _progress(self, cursor: Cursor) -> float:
        """Share of the stage that is planned before this window; it depends on the stream alone, not on the step."""
        if self.lasts is None:
            return 0.0
        unit, amount = self.lasts
        done = {"packs": cursor.packs, "epochs": self._epochs(cursor.samples), "tokens": cursor.tokens}
        return min(1.0, done[unit] / amount)

    def _most_tokens(self, number: int, progress: float) -> int | None:
        match self.resolution:
            case ResolutionConfig(kind="growing", least=least, most=most):
                return round(least + progress * (most - least))
            case ResolutionConfig(kind="random", least=least, most=most):
                return int(np.random.default_rng((self.mixture.seed, number)).integers(least, most + 1))
        return None

    def _epochs(self, samples: float) -> float:
        """Counts rows, so that a short last window weighs what it holds."""
        return samples / self.mixture.rows if self.mixture.rows else 0.0


@dataclass(frozen=True)
class _Planned:
    """A pack to be collated, None for an end; after and epochs: as in Item; events: of rows lost before it."""

    pack: Pack | None
    after: Cursor
    epochs: float
    events: tuple[Event, ...]


def prefetched(items: Generator[T], ahead: int = AHEAD) -> Generator[T]:
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
            with closing(items):
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
