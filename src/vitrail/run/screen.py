"""What a run tells whoever watches. The command line draws it with rich; a test or a notebook may stay silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Screen(Protocol):
    """Lines, and two kinds of progress."""

    def say(self, text: str) -> None:
        """One line."""
        ...

    def training(self, label: str) -> AbstractContextManager[Callable[[dict[str, Any]], None]]:
        """Progress of a training run; the callable takes each step's record."""
        ...

    def counting(self, label: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Progress of `total` equal pieces of work; 0 where their number is not known."""
        ...


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    @contextmanager
    def training(self, label: str) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Nothing."""
        yield lambda record: None

    @contextmanager
    def counting(self, label: str, total: int) -> Iterator[Callable[[], None]]:
        """Nothing."""
        yield lambda: None
