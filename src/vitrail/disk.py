"""Files that neither a kill, a power cut nor a full disk leaves half written.

A file is made beside its place, brought to the disk and renamed; lines are appended whole or not at all. Each costs an
fsync: milliseconds, so not for what is written many times a second.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

FULL = (errno.ENOSPC, errno.EDQUOT)
FIRST_PAUSE, LONGEST_PAUSE, TICK = 0.5, 60.0, 0.1
"""Seconds before a full disk is tried again, which double up to the longest; and between looks for who asks to end."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error comes of a disk or a quota that is full. safetensors tells it in words alone."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if any(f"(os error {number})" in str(error) for number in FULL):
            return True
        error = error.__cause__
    return False


def with_room(work: Callable[[], T], say: Callable[[str], None], asked_to_end: Callable[[], bool] = lambda: False) -> T:
    """Does the work; while the disk is full, says so, waits and does it again from its start.

    Raises what the work raises for any other reason, or once someone asks to end.
    """
    pause, said = FIRST_PAUSE, False
    while True:
        try:
            result = work()
        except Exception as error:
            if not is_full(error) or asked_to_end():
                raise
            if not said:
                say(f"waiting for room on the disk: {error}")
            pause, said = _rested(pause, asked_to_end), True
            continue
        if said:
            say("there is room again: going on")
        return result


def _rested(pause: float, asked_to_end: Callable[[], bool]) -> float:
    """Waits so many seconds, or less when someone asks to end; returns how long to wait the next time."""
    until = time.monotonic() + pause
    while time.monotonic() < until and not asked_to_end():
        time.sleep(TICK)
    return min(2 * pause, LONGEST_PAUSE)


def synced(path: Path) -> None:
    """Brings a file, or what a folder says is in it, to the disk."""
    if path.is_dir():
        if os.name == "nt":  # which opens no folder, and writes their entries at once
            return
        opened = os.open(path, os.O_RDONLY)
    else:
        opened = os.open(path, os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file, making its folder if need be; one already there is replaced whole or not at all.

    Half a surrogate pair, which JSON can carry and UTF-8 cannot, is written as JSON writes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        making.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace"))
        replace(making, path)
    finally:
        making.unlink(missing_ok=True)


def replace(made: Path, path: Path) -> None:
    """Puts a file that is whole in its place, on the disk."""
    synced(made)
    made.replace(path)
    synced(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write files into, which are put in their places at `path` when all are whole; others there stay.

    Where `path` does not exist, all of them appear at once.
    """
    making = path.with_name(f"{path.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(parents=True)
        yield making
        _put(making, path)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _put(making: Path, path: Path) -> None:
    made = sorted(file for file in making.rglob("*") if file.is_file())
    if not path.exists():
        for file in (*made, *{file.parent for file in made}, making):
            synced(file)
        making.rename(path)
        synced(path.parent)
        return
    for file in made:
        target = path / file.relative_to(making)
        target.parent.mkdir(parents=True, exist_ok=True)
        replace(file, target)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; about a second a gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Lines:
    """A file of lines that grows. size: its bytes."""

    def __init__(self, path: Path, size: int) -> None:
        """Keeps the first `size` bytes of what is there, and goes on after them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.size = path, size
        # Not buffered: what could not be written would wait there, and be written twice in the end.
        self._file: Any = path.open("ab", buffering=0)
        assert self._file.tell() >= size, "no more is kept than there is"
        self._file.truncate(size)

    def write(self, text: str) -> bytes:
        """Appends whole lines; returns the bytes they became. Where they do not fit, OSError, and nothing is there."""
        data = text.encode("utf-8", "backslashreplace")
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(self.size)
            raise
        self.size += len(data)
        return data

    def sync(self) -> None:
        """Brings what was appended to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends the file."""
        self._file.close()
