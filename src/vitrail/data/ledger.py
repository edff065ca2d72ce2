"""Every sample's outcome, counted by source; the lost and the altered also by name. Nothing disappears silently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitrail.contracts.samples import Outcome

LOST: tuple[Outcome, ...] = ("too_long", "unreadable")


@dataclass(frozen=True)
class Event:
    """What became of one sample. reason: "" for those used as they were."""

    id: str
    source: str
    outcome: Outcome
    reason: str = ""


@dataclass
class Ledger:
    """Counts by source and outcome; rows: the events that are not plainly `used`."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    rows: list[Event] = field(default_factory=list)

    def record(self, events: Iterable[Event]) -> None:
        """Adds what became of some samples."""
        for event in events:
            by_outcome = self.counts.setdefault(event.source, {})
            by_outcome[event.outcome] = by_outcome.get(event.outcome, 0) + 1
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
        """Plain data, for a checkpoint; it shares nothing with the ledger."""
        counts = {source: dict(by_outcome) for source, by_outcome in self.counts.items()}
        return {"counts": counts, "rows": [asdict(event) for event in self.rows]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Ledger:
        """The inverse of `to_json`."""
        # Checkpoints of before called it a row's fate.
        rows = ({("outcome" if key == "fate" else key): value for key, value in row.items()} for row in data["rows"])
        return cls(counts=data["counts"], rows=[Event(**row) for row in rows])

    def write(self, path: Path) -> None:
        """One line of totals, then one line per sample that was lost or altered."""
        lines = [json.dumps({"counts": self.counts})]
        lines += [json.dumps(asdict(event), ensure_ascii=False) for event in self.rows]
        # Half a surrogate pair, which JSON can carry and UTF-8 cannot, is written as JSON writes it.
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")
