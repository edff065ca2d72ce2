"""The share of rows lost so far, against what the recipe allows: judged over enough rows to know.

One lost row of the first six says little about a file of a thousand. A run stops once the share is above the limit with
95 % confidence (the lower end of Wilson's interval), or, once every row has been planned, as soon as it is above it.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.contracts.errors import DataError
from vitrail.data.ledger import LOST, Event, Ledger
from vitrail.metrics.intervals import wilson


class Watch:
    """Over all rows planned so far. barren: windows planned since the last batch."""

    def __init__(self, ledger: Ledger, max_lost: float) -> None:
        self.ledger = Ledger.from_json(ledger.to_json())
        self.max_lost = max_lost
        self.rows, self.barren, self.every = ledger.total(), 0, False

    def planned(self, packed: int, lost: Sequence[Event], *, every: bool) -> None:
        """A window was planned. packed: rows in its packs; lost: on the way to them; every: of an epoch, by now.

        Raises DataError where more rows are lost than may be.
        """
        self.rows, self.barren = self.rows + packed + len(lost), self.barren + 1
        self.every = self.every or every
        self._check(lost)

    def collated(self, outcomes: Sequence[Event]) -> None:
        """A pack was read; what became of its rows. Raises DataError as `planned` does."""
        self._check([event for event in outcomes if event.outcome in LOST])

    def _check(self, lost: Sequence[Event]) -> None:
        self.ledger.record(lost)
        # Of the rows themselves, only the last and the first one lost are ever told.
        del self.ledger.rows[:-1]
        count = self.ledger.total(*LOST)
        if count <= self.max_lost * self.rows:
            return
        surely = wilson(count, self.rows).low or 0.0
        if self.every or surely > self.max_lost:
            first = self.ledger.first_lost
            assert first is not None, "a row is lost"
            raise DataError(
                f"{count} of {self.rows} rows lost, data.max_lost allows {self.max_lost:.1%}; the first: {first.reason}"
            )
