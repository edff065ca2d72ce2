"""A score with its 95 % interval: Wilson's for shares, the percentile bootstrap for means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_Z = 1.959963984540054  # the two-sided 95 % point of the normal distribution
_DRAWS_AT_ONCE = 4_000_000  # 32 MB of indices; bounds memory, not the result


@dataclass(frozen=True)
class Score:
    """A mean over `n` answers and the 95 % interval around it.

    value, low, high: in the unit of the metric (0 to 1 for shares); all three None when n is 0.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """The four fields by name, ready for `json.dumps`."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Score:
        """Reads what `to_json` wrote. Absent fields are None, an absent n is 0."""
        value, low, high = record.get("value"), record.get("low"), record.get("high")
        return cls(value, low, high, int(record.get("n") or 0))

    def apart_from(self, other: Score) -> bool:
        """Whether the two intervals share no point. False when either has none."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return False
        return self.low > other.high or other.low > self.high


NOTHING = Score(None, None, None, 0)
"""The score over no answers."""


def wilson(successes: int, n: int) -> Score:
    """The share `successes / n` with Wilson's 95 % interval, which stays inside 0 to 1 and is honest at both ends.

    Source: Wilson 1927 (JASA 22), without continuity correction.
    """
    assert 0 <= successes <= n, f"{successes} successes out of {n}"
    if n == 0:
        return NOTHING
    share = successes / n
    scale = 1 + _Z**2 / n
    centre = (share + _Z**2 / (2 * n)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # At 0 and n the exact ends are 0 and 1; rounding would leave them a hair inside.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Score(share, low, high, n)


def bootstrap(values: Sequence[float], seed: int, resamples: int = 2000) -> Score:
    """The mean of `values` with the 95 % percentile bootstrap interval (2.5th and 97.5th percentile of `resamples`).

    The same values and seed give the same interval. Equal values give an interval of no width: the method sees only
    the spread that is there.
    Source: Efron 1979 (Ann. Statist. 7).
    """
    if not values:
        return NOTHING
    array = np.asarray(values, dtype=np.float64)
    assert np.isfinite(array).all(), "bootstrap: a value is not finite"
    random = np.random.default_rng(seed)
    rows = max(1, _DRAWS_AT_ONCE // array.size)
    means = [
        array[random.integers(0, array.size, size=(min(rows, resamples - done), array.size))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Score(float(array.mean()), float(low), float(high), int(array.size))
