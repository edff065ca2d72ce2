"""The blocks of a file read last, kept until they are too many bytes: neighbours are asked for soon after each other.

A look-up compares with each block that is kept, a few microseconds for all of them.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `count` values of together at most `size` bytes, and always the last one, however large.

    Threads may share it: what is kept is replaced as a whole. It is sent to other processes empty.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._kept: tuple[tuple[K, V, int], ...] = ()

    def get(self, key: K) -> V | None:
        """The value, or None when it is no longer there."""
        for kept, value, _ in self._kept:
            if kept == key:
                return value
        return None

    def put(self, key: K, value: V, size: int) -> V:
        """Keeps a value of `size` bytes, and lets the oldest ones go."""
        kept: list[tuple[K, V, int]] = []
        left = self.size
        for entry in ((key, value, size), *self._kept)[: self.count]:
            left -= entry[2]
            if left < 0 and kept:
                break
            kept.append(entry)
        self._kept = tuple(kept)
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self.count, "size": self.size, "_kept": ()}
