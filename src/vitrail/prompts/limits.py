"""What a run of somebody else's chat template may use: steps, time, and how large anything it makes may be.

Sizes are looked at before anything is made; a step costs some ten nanoseconds, every 64th a look at the clock.
"""

from __future__ import annotations

import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.utils import Namespace

STEPS = 500_000
"""Turns of loops, calls, filters and operators of one run."""
SECONDS = 5.0
"""Of computing in one run, on this thread: a busy machine stops no template."""
LARGEST = 10_000_000
"""Characters of one value, and of all that is written."""
MADE = 200_000_000
"""Characters, and bytes of lists, that are made in one run."""
LONGEST = 1_000_000
"""Characters of a template."""
ELEMENT, BETWEEN, BITS, DIGITS, DEEP = 16, 4, 10_000, 5, 100
"""Bytes that an element of a list counts; characters that are written around one; bits of a number; digits that no
width has; lists within each other."""


def stop(reason: str) -> NoReturn:
    """Ends the run: raises jinja's TemplateError, as a template does that refuses its conversation."""
    raise TemplateError(reason)


class Budget:
    """What one run has used."""

    __slots__ = ("checked", "made", "start", "steps", "written")

    def __init__(self) -> None:
        self.steps = self.made = self.written = self.checked = 0
        self.start = time.thread_time()

    def step(self, count: int = 1) -> None:
        """So many steps more."""
        self.steps += count
        if self.steps > STEPS:
            stop(f"it was stopped after {STEPS:,} steps")
        if self.steps - self.checked >= 64:
            self.checked = self.steps
            if time.thread_time() - self.start > SECONDS:
                stop(f"it was stopped after {SECONDS:g} s")

    def make(self, value: Any) -> None:
        """A value that was made."""
        size = size_of(value)
        self.made += size
        if size > LARGEST or self.made > MADE:
            stop(f"it makes more than {LARGEST if size > LARGEST else MADE:,} characters")
        self.step(1 + size // 1024)


_BUDGET: ContextVar[Budget] = ContextVar("budget")


def budget() -> Budget:
    """That of the run which is under way."""
    return _BUDGET.get()


@contextmanager
def limited() -> Iterator[None]:
    """A new budget for whatever template is run within."""
    token = _BUDGET.set(Budget())
    try:
        yield
    finally:
        _BUDGET.reset(token)


def size_of(value: Any) -> int:
    """Of the value alone, in characters or bytes."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple | dict | set | frozenset):
        return ELEMENT * len(value)
    return value.bit_length() // 8 if isinstance(value, int) else 1


def weight(value: Any) -> int:
    """Characters that a value would be written as, about: all that is within it, as often as it is there.

    A list that holds one long text a thousand times weighs a thousand. Raises TemplateError above LARGEST.
    """
    if isinstance(value, str):
        fits(len(value))
        return len(value) + 1
    total = seen = 0
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        seen += 1
        if isinstance(one, str | bytes):
            total += len(one)
        elif isinstance(one, Mapping):
            waiting += one.keys()
            waiting += one.values()
        elif isinstance(one, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
            waiting += one
        elif isinstance(one, Namespace):
            waiting.append(one._Namespace__attrs)
        elif isinstance(one, range):
            total += len(one)
        elif isinstance(one, int):
            total += one.bit_length() // 3
        if total + ELEMENT * seen > LARGEST:
            stop(f"it handles a value of more than {LARGEST:,} characters")
    budget().step(1 + seen // 16)
    return total + BETWEEN * seen


def fits(size: int) -> None:
    """Raises TemplateError for a value of more characters than allowed."""
    if size > LARGEST:
        stop(f"it makes a value of more than {LARGEST:,} characters")


def all_of(values: Iterable[Any]) -> list[Any]:
    """As a list; a generator's values are made here, and counted."""
    most = LARGEST // ELEMENT
    found = list(islice(values, most + 1))
    fits(ELEMENT * len(found))
    budget().step(1 + len(found) // 64)
    return found
