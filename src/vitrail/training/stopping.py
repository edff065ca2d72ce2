"""Ctrl-C and SIGTERM end a run after the step in progress, with a checkpoint; a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):  # noqa: N818 (it is no error)
    """The user stopped the run; a checkpoint was left behind. number: the signal."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class StopRequest:
    """number: the signal that asked for the end, 0 while none did."""

    number: int = 0


ECHO = 2.0
"""Seconds in which a signal may arrive twice: from the terminal, say, and passed on by torchrun."""


@contextmanager
def stop_request(*, repeated: bool = False) -> Iterator[StopRequest]:
    """Notes the first signal; the handlers found are put back then, so that a second one acts as usual.

    repeated: one request may come as several signals, ECHO seconds apart at most.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; elsewhere whoever started the thread decides.
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    first = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        again, first = bool(request.number), first or time.monotonic()
        if again and time.monotonic() - first < ECHO:
            return
        request.number = request.number or number
        if again or not repeated:
            for known, handler in before.items():
                signal.signal(known, handler)
        if again:
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
