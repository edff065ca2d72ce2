"""Work done ahead of the training step: in a thread of this process, or in processes of their own.

What is handed out are pure functions of their argument, and results come back in the order they were asked for, so the
number of workers changes no batch.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")

CHUNK = 16
"""Jobs that travel to a process together."""


class Workers(Generic[J, R]):
    """Applies `work` to jobs, in order. count: processes; 0 does the work where the result is asked for."""

    def __init__(self, work: Callable[[J], R], count: int) -> None:
        """work: with processes, it and its jobs must be picklable."""
        self.work, self.count = work, count
        self._pool: ProcessPoolExecutor | None = None

    def all(self, jobs: Iterable[J]) -> Iterator[R]:
        """Every job's result."""
        if not self.count:
            return map(self.work, jobs)
        return self._started().map(_do, jobs, chunksize=CHUNK)

    def ahead(self, jobs: Iterator[J], ahead: int) -> Generator[R]:
        """Every job's result, with at most `ahead` more under way; jobs are taken as late as that allows."""
        if not self.count:
            yield from map(self.work, jobs)
            return
        pool = self._started()
        waiting: list[Future[R]] = []
        for job in jobs:
            waiting.append(pool.submit(_do, job))
            if len(waiting) > ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()

    def close(self) -> None:
        """Ends the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not forked: threads of this process, torch's among them, would be copied in the middle of what they do.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, context, _begin, (self.work,))
        return self._pool


_work: Callable[[Any], Any] | None = None
"""What this process does, where it is a worker."""


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    threading.Thread(target=_end_with_parent, name="vitrail-parent", daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    wait([parent.sentinel])
    os._exit(0)


def _do(job: Any) -> Any:
    assert _work is not None, "a worker knows its work"
    return _work(job)
