"""Many whole numbers, remembered by how often each came: of a thousand or of a billion the same few kilobytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil, log10
from typing import Any

DIGITS = 3
"""Digits that are kept of each number: enough for a histogram, and at most 900 numbers for each power of ten."""

Bin = tuple[int, int, int]
"""From, up to and not including, and how many."""


@dataclass
class Tally:
    """Counts of numbers of 0 or more. least, most, count and total are exact, the rest is to three digits."""

    counts: Counter[int] = field(default_factory=Counter)
    count: int = 0
    total: int = 0
    least: int = 0
    most: int = 0

    def add(self, value: int) -> None:
        """One more number."""
        self.least = value if not self.count else min(self.least, value)
        self.most = max(self.most, value)
        self.count, self.total = self.count + 1, self.total + value
        step = 10 ** max(0, len(str(value)) - DIGITS)
        self.counts[value // step * step] += 1

    def quantile(self, share: float) -> int:
        """The number that a `share` of the numbers do not exceed; 0 where there is none."""
        wanted, seen = share * self.count, 0
        for value, times in sorted(self.counts.items()):
            seen += times
            if seen >= wanted:
                return min(max(value, self.least), self.most)
        return 0

    def bins(self, most: int = 24) -> list[Bin]:
        """At most about `most` bins of one round width from the least number on.

        Where a few numbers are far beyond the others, the last bin holds all of these and reaches to the largest.
        """
        if not self.count:
            return []
        far = self.quantile(0.97)
        top = self.most if self.most <= 3 * far else far
        width = _round_up((top - self.least + 1) / most)
        start = self.least // width * width
        number = (top - start) // width + 1
        filled = [0] * (number + 1)
        for value, times in self.counts.items():
            filled[min(max(0, value - start) // width, number)] += times
        bins = [(start + index * width, start + (index + 1) * width, filled[index]) for index in range(number)]
        if filled[number]:
            bins.append((start + number * width, self.most + 1, filled[number]))
        return bins

    def to_json(self) -> dict[str, Any]:
        """What is worth telling."""
        if not self.count:
            return {"count": 0}
        return {
            "count": self.count,
            "total": self.total,
            "mean": self.total / self.count,
            "least": self.least,
            "median": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "most": self.most,
            "bins": self.bins(),
        }


def _round_up(width: float) -> int:
    """The next 1, 2 or 5 times a power of ten."""
    if width <= 1:
        return 1
    power: int = 10 ** int(log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= ceil(width))
