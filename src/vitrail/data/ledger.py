"""Every sample's outcome, counted by source; the lost and the altered also by name. Nothing disappears silently.

Counts are few and kept in memory; names may be many, so they go to a file that is only appended to. A checkpoint holds
the counts, and how far the file belongs to it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitrail.contracts.samples import Outcome
from vitrail.disk import Lines, replace

LOST: tuple[Outcome, ...] = ("too_long", "unreadable")

BLOCK = 2**20
"""Bytes of a file that are read at once."""


@dataclass(frozen=True)
class Event:
    """What became of one sample. reason: "" for those used as they were."""

    id: str
    source: str
    outcome: Outcome
    reason: str = ""


@dataclass
class Ledger:
    """Counts by source and outcome. rows: the events that are not plainly `used`, until they are taken to a file.

    first_lost: the first of them whose sample is lost; it stays.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    rows: list[Event] = field(default_factory=list)
    first_lost: Event | None = None

    def record(self, events: Iterable[Event]) -> None:
        """Adds what became of some samples."""
        for event in events:
            by_outcome = self.counts.setdefault(event.source, {})
            by_outcome[event.outcome] = by_outcome.get(event.outcome, 0) + 1
            if event.outcome in LOST and self.first_lost is None:
                self.first_lost = event
            if event.outcome != "used":
                self.rows.append(event)

    def total(self, *outcomes: Outcome) -> int:
        """Samples of these outcomes over all sources; of every outcome when none is named."""
        return sum(
            count
            for by_outcome in self.counts.values()
            for outcome, count in by_outcome.items()
            if not outcomes or outcome in outcomes
        )

    def outcomes(self) -> dict[str, int]:
        """Samples of each outcome over all sources."""
        totals: Counter[str] = Counter()
        for by_outcome in self.counts.values():
            totals.update(by_outcome)
        return dict(totals)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the rows; it shares nothing with the ledger."""
        counts = {source: dict(by_outcome) for source, by_outcome in self.counts.items()}
        return {"counts": counts, "first_lost": self.first_lost and asdict(self.first_lost)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ledger:
        """The inverse of `to_json`."""
        # Checkpoints of before held every row.
        lost = (row for row in map(_today, data.get("rows", ())) if row["outcome"] in LOST)
        first: dict[str, Any] | None = data.get("first_lost") or next(lost, None)
        counts = {source: dict(by_outcome) for source, by_outcome in data["counts"].items()}
        return cls(counts, first_lost=Event(**first) if first else None)


class LedgerFile:
    """The rows that a run's ledger had to tell of, one a line, in the order in which they were handed over."""

    def __init__(self, path: Path, kept: Mapping[str, Any]) -> None:
        """kept: the ledger of the checkpoint that is gone on from; rows written after it are cut off.

        Checkpoints of before held the rows themselves, which are written to the file.
        """
        before = [] if "bytes" in kept else list(kept.get("rows", ()))
        size = kept.get("bytes", 0)
        self._digest = hashlib.sha256()
        for block in _blocks(path, size):
            self._digest.update(block)
        self._lines = Lines(path, size)
        self.add(Event(**_today(row)) for row in before)

    def add(self, rows: Iterable[Event]) -> None:
        """Appends rows. Raises OSError where they do not fit; none of them is there then."""
        text = "".join(json.dumps(vars(row), ensure_ascii=False) + "\n" for row in rows)
        self._digest.update(self._lines.write(text))

    def mark(self) -> dict[str, Any]:
        """Brings the rows to the disk; how far they go, for a checkpoint."""
        self._lines.sync()
        return {"bytes": self._lines.size, "sha256": self._digest.hexdigest()}

    def close(self) -> None:
        """Ends the file."""
        self._lines.close()


def damage(path: Path, kept: Mapping[str, Any]) -> str:
    """What is wrong with the part of a ledger's file that a checkpoint counts on; "" for nothing."""
    digest, size = hashlib.sha256(), 0
    for block in _blocks(path, kept.get("bytes", 0)):
        digest.update(block)
        size += len(block)
    if size < kept.get("bytes", 0):
        return f"'{path}' has {size} bytes of the {kept['bytes']} that belong to it"
    if kept.get("sha256", digest.hexdigest()) != digest.hexdigest():
        return f"'{path}' is not what was written"
    return ""


def rows_of(path: Path, kept: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows that a checkpoint's ledger tells of. path: of the file beside it."""
    if "bytes" not in kept:
        yield from map(_today, kept.get("rows", ()))
        return
    left = kept["bytes"]
    if not left:
        return
    with path.open("rb") as file:
        for line in file:
            left -= len(line)
            if left < 0:
                return
            yield json.loads(line)


def write(path: Path, beside: Path, kept: Mapping[str, Any]) -> None:
    """One line of totals, then one line per sample that was lost or altered. beside: the file of a checkpoint's ledger,
    which is `kept`."""
    making = path.with_name(f"{path.name}.part")
    with making.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps({"counts": kept["counts"]}) + "\n")
        for row in rows_of(beside, kept):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    replace(making, path)


def _today(row: Mapping[str, Any]) -> dict[str, Any]:
    """Checkpoints of before called a row's outcome its fate."""
    return {("outcome" if key == "fate" else key): value for key, value in row.items()}


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    """The first so many bytes of a file, or what it has of them."""
    if not size or not path.is_file():
        return
    with path.open("rb") as file:
        while size and (block := file.read(min(size, BLOCK))):
            yield block
            size -= len(block)
