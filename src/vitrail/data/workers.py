"""Work done ahead of the training step: in a thread of this process, or in processes of their own.

What is handed out are pure functions of their argument, and results come back in the order they were asked for, so the
number of workers changes no batch.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

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
        return map(pickle.loads, self._started().map(_do, jobs, chunksize=CHUNK))

    def ahead(self, jobs: Iterator[J], ahead: int) -> Generator[R]:
        """Every job's result, with at most `ahead` more under way; jobs are taken as late as that allows."""
        if not self.count:
            yield from map(self.work, jobs)
            return
        pool = self._started()
        waiting: list[Future[bytes]] = []
        for job in jobs:
            waiting.append(pool.submit(_do, job))
            if len(waiting) > ahead:
                yield pickle.loads(waiting.pop(0).result())
        while waiting:
            yield pickle.loads(waiting.pop(0).result())

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


def _do(job: Any) -> bytes:
    assert _work is not None, "a worker knows its work"
    made = io.BytesIO()
    _Pickler(made, pickle.HIGHEST_PROTOCOL).dump(_work(job))
    return made.getvalue()


class _Pickler(pickle.Pickler):
    """Tensors as plain bytes.

    Left to torch, each of them would become a file in shared memory, with a connection of its own to hand it over:
    slower than copying what a batch holds.
    """

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented
