"""Seeded draws that come out the same on every platform, in every process and with every version of numpy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of draws that is a pure function of its key.

    Only `random.Random.random` is used below: it is the one stream that Python promises not to change between
    versions, and numpy promises none.
    """

    def __init__(self, *key: str | int) -> None:
        """key: names the stream, e.g. (purpose, split, seed, index)."""
        digest = blake2b(repr(key).encode(), digest_size=8).digest()
        self._uniform = random.Random(int.from_bytes(digest, "big")).random

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(self._uniform() * count)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._uniform() * (high - low + 1))

    def spread(self, reach: float) -> float:
        """A number between -reach and reach."""
        return (2 * self._uniform() - 1) * reach

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._uniform() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items in random order."""
        pool = list(items)
        for index in range(count):
            other = self.between(index, len(pool) - 1)
            pool[index], pool[other] = pool[other], pool[index]
        return pool[:count]

    def sample_from(self, first: int, items: Sequence[T], count: int) -> list[T]:
        """The item at index `first`, then `count` - 1 different others in random order."""
        return [items[first], *self.sample([*items[:first], *items[first + 1 :]], count - 1)]
