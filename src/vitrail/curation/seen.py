"""What was met before: rows and pictures, in a temporary database on disk, so that memory does not grow with the data.

A row costs about 20 us, a picture 100 us, a million of them some hundred megabytes of disk while the check runs.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROWS, COLUMNS = 16, 17
"""Of the print of a picture: 16 x 16 differences of neighbours."""

EDGE = 3
"""Neighbours of a print that differ by no more levels than this count as equal: noise is no edge."""

APART, FAR = 12, 20
"""Two pictures are nearly the same when at most so many of their 256 edges differ, and no value of their prints by more
levels of 255. Resized, stretched and pressed drawn documents differ by 7 edges and 7 levels, others by 49 and 44."""

CROWD = 20
"""So many pictures that share a band are compared; beyond that the band says nothing, such as that of blank paper."""


@dataclass(frozen=True)
class Met:
    """Where a row or a picture was met first. name: its location. held_out: among the held-out rows."""

    name: str
    held_out: bool


class Seen:
    """Answers where something was met first, and notes it if it was not. A context: the database goes with it."""

    def __init__(self) -> None:
        handle, self._path = tempfile.mkstemp(prefix="vitrail-", suffix=".sqlite")
        os.close(handle)
        self._base = sqlite3.connect(self._path, isolation_level=None)
        for line in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA locking_mode = EXCLUSIVE",
            "CREATE TABLE met (kind INTEGER, digest BLOB, name TEXT, held_out INTEGER, PRIMARY KEY (kind, digest)) "
            "WITHOUT ROWID",
            "CREATE TABLE prints (number INTEGER PRIMARY KEY, name TEXT, held_out INTEGER, print BLOB)",
            "CREATE TABLE bands (band INTEGER, number INTEGER)",
            "CREATE INDEX by_band ON bands (band)",
            "BEGIN",
        ):
            self._base.execute(line)

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        os.unlink(self._path)

    def row(self, digest: bytes, met: Met) -> Met | None:
        """The first row of the same words and pictures, or None."""
        return self._first(0, digest, met)

    def picture(self, digest: bytes, met: Met) -> Met | None:
        """The first picture of the same bytes, or None."""
        return self._first(1, digest, met)

    def similar(self, shape: NDArray[np.uint8], met: Met) -> Met | None:
        """The first picture that looks nearly the same, or None. shape: from `print_of`."""
        edges = _edges(shape)
        keys = _bands(edges)
        candidates: dict[int, None] = {}
        for key in keys:
            numbers = self._base.execute("SELECT number FROM bands WHERE band = ? LIMIT ?", (key, CROWD + 1)).fetchall()
            if len(numbers) <= CROWD:
                candidates.update(dict.fromkeys(number for (number,) in numbers))
        for number in sorted(candidates):
            name, held_out, found = self._base.execute(
                "SELECT name, held_out, print FROM prints WHERE number = ?", (number,)
            ).fetchone()
            other = np.frombuffer(found, np.uint8).reshape(ROWS, COLUMNS, 3)
            if np.abs(other.astype(np.int16) - shape).max() <= FAR and (_edges(other) != edges).sum() <= APART:
                return Met(name, bool(held_out))
        if keys:
            added = self._base.execute(
                "INSERT INTO prints (name, held_out, print) VALUES (?, ?, ?)", (met.name, met.held_out, shape.tobytes())
            )
            self._base.executemany("INSERT INTO bands VALUES (?, ?)", [(key, added.lastrowid) for key in keys])
        return None

    def _first(self, kind: int, digest: bytes, met: Met) -> Met | None:
        found = self._base.execute(
            "SELECT name, held_out FROM met WHERE kind = ? AND digest = ?", (kind, digest)
        ).fetchone()
        if found is not None:
            return Met(found[0], bool(found[1]))
        self._base.execute("INSERT INTO met VALUES (?, ?, ?, ?)", (kind, digest, met.name, met.held_out))
        return None


def print_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8[H, W, 3] to uint8[16, 17, 3]: what remains of a picture when it is seen from very far away."""
    return np.asarray(Image.fromarray(pixels).resize((COLUMNS, ROWS), Image.Resampling.BILINEAR))


def _edges(shape: NDArray[np.uint8]) -> NDArray[np.bool_]:
    grey = shape.astype(np.int16).sum(2)
    found: NDArray[np.bool_] = grey[:, 1:] - grey[:, :-1] > 3 * EDGE
    return found


def _bands(edges: NDArray[np.bool_]) -> list[int]:
    """A number for each row of edges that has any."""
    packed = np.packbits(edges, axis=1)
    return [(row << 16) | (int(high) << 8) | int(low) for row, (high, low) in enumerate(packed) if high or low]
