"""A recipe's data to an opened mixture. A plain source is a mixture of one part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.data.config import DialectName, MixtureConfig, PartConfig, SourceConfig, TrainingData
from vitrail.data.mixture import Mixture, Part, numbered, points

Opened = Mapping[SourceConfig, tuple[Source | StreamedSource, DialectName]]
"""Opened sources, with the dialects of their rows."""


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


def open_held_out(config: SourceConfig, opened: Opened) -> tuple[Source, DialectName]:
    """The source of held-out rows, which are asked for by number. Raises DataError for a stream without an end."""
    source, dialect = opened[config]
    if numbered(source):
        return source, dialect
    if not config.rows:
        raise DataError(f"data.held_out: {source.name} is streamed: say with `rows:` how many of its rows to take")
    return FirstRows(source), dialect


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
    source, dialect = opened[config.source]
    if group:
        name = f"{name} of {group}"
    shuffle = config.source.shuffle
    return Part(source, dialect, name, points(config.share), group, config.synthetic, config.augment, shuffle)
