"""Work done ahead of the training step: in a thread of this process, or in processes of their own.

What is handed out are pure functions of their argument, and results come back in the order they were asked for, so the
number of workers changes no batch. Nor does it when one is lost, to a kernel that needs its memory, say: another takes
its place and does its job again. A worker costs a process, and a thread of this one that waits for it.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from vitrail.contracts.errors import TrainingError, VitrailError

J = TypeVar("J")
R = TypeVar("R")

CHUNK = 16
"""Jobs that travel to a process together."""

DONE, FAILED = b"+", b"-"
"""Before each answer of a worker."""

TRIES = 3
"""So many workers in a row may be lost to one job."""

GRACE = 2.0
"""Seconds in which workers may bring their jobs to an end when they are let go."""

GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What a terminal or a scheduler sends to every process of a run: the one that trains decides what comes of it."""


class Workers(Generic[J, R]):
    """Applies `work` to jobs, in order. count: processes; 0 does the work where the result is asked for.

    lost: processes that ended by themselves and were replaced.
    """

    def __init__(self, work: Callable[[J], R], count: int, name: Callable[[J], str] = repr) -> None:
        """work: with processes, it and its jobs must be picklable. name: of a job, for messages."""
        self.work, self.count, self.name, self.lost = work, count, name, 0
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._processes: list[_Process] = []
        self._closed = False

    def all(self, jobs: Iterable[J]) -> Generator[R]:
        """Every job's result. Raises as `ahead`."""
        if not self.count:
            yield from map(self.work, jobs)
            return
        rest = iter(jobs)
        chunks = iter(lambda: list(islice(rest, CHUNK)), [])
        futures = [self._started().submit(self._done, chunk) for chunk in chunks]
        try:
            for future in futures:
                yield from self._results(future)
        finally:
            for future in futures:
                future.cancel()

    def ahead(self, jobs: Iterator[J], ahead: int) -> Generator[R]:
        """Every job's result, with at most `ahead` more under way; jobs are taken as late as that allows.

        Raises what the work raises, and TrainingError for a job to which worker after worker is lost.
        """
        if not self.count:
            yield from map(self.work, jobs)
            return
        waiting: list[Future[list[bytes]]] = []
        for job in jobs:
            waiting.append(self._started().submit(self._done, [job]))
            if len(waiting) > ahead:
                yield from self._results(waiting.pop(0))
        while waiting:
            yield from self._results(waiting.pop(0))

    def close(self) -> None:
        """Ends the processes."""
        self._closed = True
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
            atexit.unregister(self.close)
        processes, self._processes = self._processes, []
        for process in processes:
            process.let_go()
        until = time.monotonic() + GRACE
        for process in processes:
            process.end(until)

    def _started(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads, self._closed = ThreadPoolExecutor(self.count, "vitrail-worker"), False
            self._own = threading.local()
            atexit.register(self.close)
        return self._threads

    @staticmethod
    def _results(future: Future[list[bytes]]) -> Iterator[R]:
        return map(pickle.loads, future.result())

    def _done(self, jobs: list[J]) -> list[bytes]:
        """Results of some jobs, pickled, by the process that belongs to this thread."""
        try:
            return self._process().do(jobs)
        except _LostError as error:
            if len(jobs) == 1:
                return [self._again(jobs[0], error)]
        # One of them may be what the worker was lost to: the next loses no others with it.
        return [result for job in jobs for result in self._done([job])]

    def _again(self, job: J, error: _LostError) -> bytes:
        for _ in range(TRIES - 1):
            try:
                return self._process().do([job])[0]
            except _LostError as another:
                error = another
        raise TrainingError(
            f"{TRIES} worker processes in a row were lost while preparing {self.name(job)} ({error}); if memory is "
            "short, fewer data.workers need less of it, and a run may go on with fewer"
        )

    def _process(self) -> _Process:
        """This thread's process; a new one where the last was lost."""
        if self._closed:
            raise RuntimeError("the workers were let go of")  # nobody asks for the result any more
        found: _Process | None = getattr(self._own, "process", None)
        if found is not None and found.is_alive():
            return found
        if found is not None:
            self._forget(found)
        self._own.process = started = _Process(self.work)
        self._processes.append(started)
        if self._closed:
            started.let_go()
        return started

    def _forget(self, process: _Process) -> None:
        with suppress(ValueError):  # all were let go of meanwhile
            self._processes.remove(process)
            self.lost += 1


class _LostError(Exception):
    """A worker ended before its answer; the message says how."""


class _Process:
    """A worker, and the pipe to it."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        # Not forked: threads of this process, torch's among them, would be copied in the middle of what they do.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work), name="vitrail-worker", daemon=True)
        self._busy, self._leaving = threading.Lock(), False
        with _signals_held():
            self._process.start()
        theirs.close()

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def do(self, jobs: list[Any]) -> list[bytes]:
        """The results, pickled. Raises _LostError, and what the work raises."""
        with self._busy:
            try:
                self._pipe.send_bytes(_pickled(jobs))
                return [self._answer() for _ in jobs]
            except (OSError, EOFError) as broken:
                self._pipe.close()
                self._process.join(GRACE)
                code = self._process.exitcode
                how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"status {code}"
                raise _LostError(how) from broken
            finally:
                if self._leaving:
                    self._pipe.close()

    def _answer(self) -> bytes:
        done, answer = self._pipe.recv_bytes() == DONE, self._pipe.recv_bytes()
        if done:
            return answer
        raise pickle.loads(answer)

    def let_go(self) -> None:
        """Nothing more is asked of it: it ends once it has done what it does."""
        self._leaving = True
        if self._busy.acquire(blocking=False):
            self._pipe.close()
            self._busy.release()

    def end(self, until: float) -> None:
        """Waits for its end, and makes it end at the time `until`."""
        self._process.join(max(0.0, until - time.monotonic()))
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process that this thread starts within is never reached by the signals of its group, from its first moment."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started on its own, it does not let them through again in this thread.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """What a worker does: jobs until nobody is left to ask for them."""
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="vitrail-parent", daemon=True).start()
    try:
        while True:
            for job in pickle.loads(pipe.recv_bytes()):
                word, answer = _answer(work, job)
                pipe.send_bytes(word)
                pipe.send_bytes(answer)
                if word == FAILED:  # nobody waits for the jobs after it
                    break
    except (OSError, EOFError):
        os._exit(0)


def _answer(work: Callable[[Any], Any], job: Any) -> tuple[bytes, bytes]:
    """Whether it was done; the result, or the error, pickled."""
    try:
        return DONE, _pickled(work(job))
    except Exception as error:
        told = f"in a worker process:\n{traceback.format_exc()}"
        if not isinstance(error, VitrailError):
            error.add_note(told)
        try:
            pickle.loads(failed := _pickled(error))
        except Exception:
            failed = _pickled(RuntimeError(told))
        return FAILED, failed


def _end_with_parent() -> None:
    """A worker whose parent was killed would do its job to the end."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    wait([parent.sentinel])
    os._exit(0)


def _pickled(value: Any) -> bytes:
    made = io.BytesIO()
    _Pickler(made, pickle.HIGHEST_PROTOCOL).dump(value)
    return made.getvalue()


class _Pickler(pickle.Pickler):
    """Tensors as plain bytes.

    Left to torch, each of them would become a file in shared memory, with a connection of its own to hand it over:
    slower than copying what a batch holds.
    """

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")  # where nobody has imported it, there are no tensors
        if torch is not None and isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented
