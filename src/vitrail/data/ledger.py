"""Every sample's fate, counted by source; the lost and the altered also by name. Nothing disappears silently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitrail.contracts.samples import Fate

LOST: tuple[Fate, ...] = ("too_long", "unreadable")


@dataclass(frozen=True)
class Event:
    """What became of one sample. reason: "" for those used as they were."""

    id: str
    source: str
    fate: Fate
    reason: str = ""


@dataclass
class Ledger:
    """Counts by source and fate; rows: the events that are not plainly `used`."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    rows: list[Event] = field(default_factory=list)

    def record(self, events: Iterable[Event]) -> None:
        """Adds what became of some samples."""
        for event in events:
            by_fate = self.counts.setdefault(event.source, {})
            by_fate[event.fate] = by_fate.get(event.fate, 0) + 1
            if event.fate != "used":
                self.rows.append(event)

    def total(self, *fates: Fate) -> int:
        """Samples of these fates over all sources; of every fate when none is named."""
        return sum(
            count for by_fate in self.counts.values() for fate, count in by_fate.items() if not fates or fate in fates
        )

    def fates(self) -> dict[str, int]:
        """Samples of each fate over all sources."""
        totals: Counter[str] = Counter()
        for by_fate in self.counts.values():
            totals.update(by_fate)
        return dict(totals)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a checkpoint; it shares nothing with the ledger."""
        counts = {source: dict(by_fate) for source, by_fate in self.counts.items()}
        return {"counts": counts, "rows": [asdict(event) for event in self.rows]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Ledger:
        """The inverse of `to_json`."""
        return cls(counts=data["counts"], rows=[Event(**row) for row in data["rows"]])

    def write(self, path: Path) -> None:
        """One line of totals, then one line per sample that was lost or altered."""
        lines = [json.dumps({"counts": self.counts})]
        lines += [json.dumps(asdict(event), ensure_ascii=False) for event in self.rows]
        # Half a surrogate pair, which JSON can carry and UTF-8 cannot, is written as JSON writes it.
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")
