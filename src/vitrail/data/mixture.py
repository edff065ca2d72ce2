"""Which rows a window takes: shares of several sources, met exactly over time, from a cursor that JSON can carry.

Every source has its own cursor, so a stream goes on without reading again what it has read. What a window holds depends
on that cursor, the seed and the progress at its start, and on nothing else. A plain source is a mixture of one part.
In which order the rows of a source come, says `order.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from typing_extensions import TypeIs

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.data.config import MixtureConfig, PartConfig, Reading, SourceConfig, TrainingData
from vitrail.data.order import rows_at
from vitrail.media.config import AugmentConfig

Points = tuple[tuple[float, float], ...]


def numbered(source: Source | StreamedSource) -> TypeIs[Source]:
    """Whether the rows of a source have numbers; else they come in their own order alone."""
    return hasattr(source, "row")


@dataclass(frozen=True)
class Part:
    """An opened source of a mixture. share: points of (progress, share); () where the number of rows decides.

    group: parts of one group share what the mixture gives the group.
    """

    source: Source | StreamedSource
    reading: Reading
    name: str
    share: Points = ()
    group: str = ""
    synthetic: bool = False
    augment: AugmentConfig | None = None
    shuffle: bool = True


@dataclass(frozen=True)
class SourceCursor:
    """Where one source stands. at: rows read of the epoch, or the cursor that a streamed source has given.

    due: samples its share asked for so far. drawn, synthetic: samples it gave.
    """

    epoch: int = 0
    at: Any = None
    due: float = 0.0
    drawn: int = 0
    synthetic: int = 0


@dataclass(frozen=True)
class Pick:
    """A row to be made a sample: its number in a source, or, where it had to be read to be chosen, the row or error.

    part: number of the part. number: of the sample in the stream, from 0.
    """

    part: int
    number: int
    index: int = -1
    row: Row | DataError | None = None


@dataclass
class Mixture:
    """Parts with shares. groups: share of each group of parts; they sum to 1.

    max_synthetic: share of samples that may be synthetic, by part or by the row's own word.
    """

    parts: Sequence[Part]
    seed: int
    groups: Mapping[str, float] = field(default_factory=lambda: {"": 1.0})
    temperature: float = 1.0
    max_synthetic: float = 1.0
    _open: dict[int, tuple[SourceCursor, Iterator[tuple[Row | DataError, Any]]]] = field(
        default_factory=dict, repr=False
    )

    @property
    def rows(self) -> int | None:
        """Rows of one epoch over all parts; None where a part is streamed."""
        counts = [len(part.source) if numbered(part.source) else None for part in self.parts]
        return None if None in counts else sum(count or 0 for count in counts)

    def start(self) -> tuple[SourceCursor, ...]:
        """Where every part begins."""
        return tuple(SourceCursor() for _ in self.parts)

    def shares(self, progress: float) -> list[float]:
        """Share of each part, summing to 1. Synthetic parts are held to `max_synthetic`, the others take the rest."""
        shares = [0.0] * len(self.parts)
        for group, of_group in self.groups.items():
            members = [number for number, part in enumerate(self.parts) if part.group == group]
            asked = [self._share(self.parts[number], progress, alone=len(members) == 1) for number in members]
            if not sum(asked):
                raise DataError(f"every source has a share of 0 at {progress:.0%} of the stage")
            for number, share in zip(members, asked, strict=True):
                shares[number] = of_group * share / sum(asked)
        made = sum(share for share, part in zip(shares, self.parts, strict=True) if part.synthetic)
        if made <= self.max_synthetic or made >= 1.0:
            return shares
        less, more = self.max_synthetic / made, (1 - self.max_synthetic) / (1 - made)
        return [share * (less if part.synthetic else more) for share, part in zip(shares, self.parts, strict=True)]

    def _share(self, part: Part, progress: float, *, alone: bool) -> float:
        if alone:
            return 1.0
        if not part.share:
            if numbered(part.source):
                return float(len(part.source) ** (1 / self.temperature))
            raise DataError(f"{part.name}: a streamed source has no number of rows: give every part a share")
        at, values = zip(*part.share, strict=True)
        return float(np.interp(progress, at, values))

    def draw(
        self, cursors: Sequence[SourceCursor], number: int, count: int, progress: float
    ) -> tuple[list[Pick], tuple[SourceCursor, ...], list[tuple[Part, Row]]]:
        """The next `count` samples from `cursors` on, the cursors after them, and the rows passed over.

        number: of the first sample in the stream. Rows lie in a random order, or, where no part is shuffled, evenly
        interleaved. Raises DataError where a part has no row to give.
        """
        due = [cursor.due + count * share for cursor, share in zip(cursors, self.shares(progress), strict=True)]
        wanted = _whole([now - cursor.drawn for now, cursor in zip(due, cursors, strict=True)], count)
        rows: list[list[tuple[int, Row | DataError | None]]] = []
        after, passed = [], []
        for part, cursor, amount, owed in zip(range(len(self.parts)), cursors, wanted, due, strict=True):
            taken, then, skipped = self._take(part, cursor, amount)
            rows.append(taken)
            after.append(replace(then, due=owed, drawn=cursor.drawn + amount))
            passed += [(self.parts[part], row) for row in skipped]
        laid = [(part, *entry) for part, entries in enumerate(rows) for entry in entries]
        laid = [laid[at] for at in self._layout([len(entries) for entries in rows], number)]
        picks = [Pick(part, number + at, index, row) for at, (part, index, row) in enumerate(laid)]
        return picks, tuple(after), passed

    def _layout(self, counts: Sequence[int], number: int) -> list[int]:
        """An order of the entries of all parts, which lie part by part."""
        total = sum(counts)
        if any(part.shuffle for part in self.parts):
            order: list[int] = np.random.default_rng((self.seed, number, total)).permutation(total).tolist()
            return order
        shares = [(number + 0.5) / count for count in counts for number in range(count)]
        return sorted(range(total), key=shares.__getitem__)

    def _take(
        self, number: int, cursor: SourceCursor, count: int
    ) -> tuple[list[tuple[int, Row | DataError | None]], SourceCursor, list[Row]]:
        """`count` entries of one part; rows are read here only where they must be, to know whether they may be used."""
        part = self.parts[number]
        sort_out = self.max_synthetic < 1 and not part.synthetic
        taken: list[tuple[int, Row | DataError | None]] = []
        passed: list[Row] = []
        epochs_without = 0
        while len(taken) < count:
            before = len(taken)
            missing = count - len(taken)
            entries, cursor, ended = self._some(number, cursor, missing, read=sort_out)
            for entry in entries:
                row = entry[1]
                if sort_out and isinstance(row, Row) and row.fields.get("synthetic") is True:
                    if cursor.synthetic + 1 > self.max_synthetic * (cursor.drawn + len(taken) + 1):
                        passed.append(row)
                        continue
                    cursor = replace(cursor, synthetic=cursor.synthetic + 1)
                taken.append(entry)
            epochs_without = epochs_without + ended if len(taken) == before else 0
            if epochs_without > 1:
                raise DataError(f"{part.name}: an epoch of it gives no row that may be used")
        return taken, cursor, passed

    def _some(
        self, number: int, cursor: SourceCursor, count: int, *, read: bool
    ) -> tuple[list[tuple[int, Row | DataError | None]], SourceCursor, bool]:
        """Up to `count` entries of the epoch the cursor is in, the cursor after them, and whether the epoch ended."""
        part = self.parts[number]
        source = part.source
        if not numbered(source):
            return self._some_streamed(number, source, cursor, count)
        start, rows = cursor.at or 0, len(source)
        count = min(count, rows - start)
        seed = (self.seed * 1000 + number) if part.shuffle else None
        found = rows_at(start, count, rows, source.block, seed, cursor.epoch, getattr(source, "together", 1))
        entries = [(index, _read(source, index) if read else None) for index in found]
        ended = start + count == rows
        after = replace(cursor, epoch=cursor.epoch + ended, at=None if ended else start + count)
        return entries, after, ended

    def _some_streamed(
        self, number: int, source: StreamedSource, cursor: SourceCursor, count: int
    ) -> tuple[list[tuple[int, Row | DataError | None]], SourceCursor, bool]:
        where, opened = self._open.pop(number, (None, None))
        if opened is None or where is None or (where.epoch, where.at) != (cursor.epoch, cursor.at):
            opened = source.rows(cursor.epoch, cursor.at)
        entries: list[tuple[int, Row | DataError | None]] = []
        for row, after in opened:
            entries.append((-1, row))
            cursor = replace(cursor, at=after)
            if len(entries) == count:
                self._open[number] = (cursor, opened)
                return entries, cursor, False
        return entries, replace(cursor, epoch=cursor.epoch + 1, at=None), True


def _read(source: Source, index: int) -> Row | DataError:
    try:
        return source.row(index)
    except DataError as error:
        return error


def _whole(amounts: Sequence[float], total: int) -> list[int]:
    """Amounts to whole numbers of that total, none below 0: rounded down, and the largest remainders get one more."""
    floors = [max(0, int(np.floor(round(amount, 6)))) for amount in amounts]
    # A share that fell may leave a part with more than it is due by now: the others wait for what that is.
    over = sum(floors) - total
    for part in sorted(range(len(floors)), key=lambda part: -floors[part]):
        if over <= 0:
            break
        less = min(over, floors[part])
        floors[part], over = floors[part] - less, over - less
    rest = sorted(range(len(amounts)), key=lambda part: (floors[part] - amounts[part], part))
    for part in rest[: total - sum(floors)]:
        floors[part] += 1
    return floors


def points(share: float | Points | None) -> Points:
    """A share as a recipe has it, as points of (progress, share)."""
    if share is None:
        return ()
    return share if isinstance(share, tuple) else ((0.0, share),)


Opened = Mapping[SourceConfig, tuple[Source | StreamedSource, Reading]]
"""Opened sources, with how their rows are read."""


@dataclass(frozen=True)
class Replay:
    """Rows of an earlier stage among those of this one. share: of the samples."""

    stage: str
    data: TrainingData
    share: float


def sources_of(data: TrainingData) -> Iterator[SourceConfig]:
    """Every source that the data names."""
    if isinstance(data, MixtureConfig):
        yield from (part.source for part in data.parts)
    else:
        yield data


class FirstRows:
    """The first rows of a streamed source, kept in memory, to be asked for by number."""

    block = 1

    def __init__(self, source: StreamedSource) -> None:
        """Reads the source to its end: it must have been given a number of rows. Raises DataError for bad rows."""
        self.name = source.name
        self._rows = []
        for row, _ in source.rows(0, None):
            if isinstance(row, DataError):
                raise row
            self._rows.append(row)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Row:
        """The row at `index`."""
        return self._rows[index]


def open_held_out(config: SourceConfig, opened: Opened) -> tuple[Source, Reading]:
    """The source of held-out rows, which are asked for by number. Raises DataError for a stream without an end."""
    source, reading = opened[config]
    if numbered(source):
        return source, reading
    if not config.rows:
        raise DataError(f"data.held_out: {source.name} is streamed: say with `rows:` how many of its rows to take")
    return FirstRows(source), reading


def open_mixture(data: TrainingData, opened: Opened, seed: int, replays: tuple[Replay, ...] = ()) -> Mixture:
    """The mixture of a stage. opened: all of its sources. seed: of the order. Raises DataError for a missing share."""
    groups = {"": 1.0 - sum(replay.share for replay in replays)}
    parts = _parts(data, opened, "")
    for replay in replays:
        groups[replay.stage] = replay.share
        parts += _parts(replay.data, opened, replay.stage)
    if isinstance(data, MixtureConfig):
        return Mixture(parts, seed, groups, data.temperature, data.max_synthetic)
    return Mixture(parts, seed, groups)


def _parts(data: TrainingData, opened: Opened, group: str) -> list[Part]:
    if isinstance(data, MixtureConfig):
        return [_part(config.name, config, opened, group) for config in data.parts]
    source, _ = opened[data]
    return [_part(source.name, PartConfig(source.name, data), opened, group)]


def _part(name: str, config: PartConfig, opened: Opened, group: str) -> Part:
    source, reading = opened[config.source]
    if group:
        name = f"{name} of {group}"
    shuffle = config.source.shuffle
    return Part(source, reading, name, points(config.share), group, config.synthetic, config.augment, shuffle)
