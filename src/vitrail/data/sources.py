"""Rows by number from a .jsonl file, whose line offsets alone stay in memory, or from a .json list, read as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.config import JsonlConfig


class JsonlSource:
    """One JSON object a line, or one JSON list of objects (LLaVA's files are such lists)."""

    def __init__(self, config: JsonlConfig) -> None:
        self.path = config.path
        self.name = config.path.stem
        self.folder = config.pictures or config.path.parent
        if not self.path.is_file():
            raise DataError(f"data file '{self.path}' {'is not a file' if self.path.exists() else 'does not exist'}")
        self._list: list[Any] | None = None
        self._offsets = np.zeros(0, np.int64)
        self._lines = np.zeros(0, np.int64)
        if is_list(self.path):
            self._list = _read_list(self.path)
            count = len(self._list)
        else:
            self._offsets, self._lines = _line_offsets(self.path)
            count = len(self._offsets)
        self._count = min(count, config.rows) if config.rows else count
        if not self._count:
            raise DataError(f"data file '{self.path}' has no rows")

    def __len__(self) -> int:
        return self._count

    def row(self, index: int) -> Row:
        """The row at `index`. Raises DataError, naming the line, when it is not a JSON object."""
        if self._list is not None:
            fields, place = self._list[index], f"{self.path}[{index}]"
        else:
            place = f"{self.path}:{self._lines[index]}"
            fields = self._parse(index, place)
        if not isinstance(fields, dict):
            raise DataError(f"{place}: a row must be a JSON object, got {type(fields).__name__}")
        name = fields.get("id")
        return Row(str(place.rpartition("/")[2] if name is None else name), fields, self.folder, place)

    def matching(self, pattern: re.Pattern[bytes]) -> Iterator[int]:
        """Numbers of the rows whose line holds the pattern, in one pass over the file; of a list, every row's."""
        if self._list is not None:
            yield from range(self._count)
            return
        with self.path.open("rb") as file:
            lines = (line for line in file if line.strip())
            for index, line in enumerate(islice(lines, self._count)):
                if pattern.search(line):
                    yield index

    def _parse(self, index: int, place: str) -> Any:
        try:
            with self.path.open("rb") as file:
                file.seek(int(self._offsets[index]))
                line = file.readline().rstrip()
            return json.loads(line)
        except OSError as error:
            raise DataError(f"{place}: cannot be read: {error.strerror}") from error
        except json.JSONDecodeError as error:
            # The decoder counts lines from the row's own: its "line 1" would only confuse.
            raise DataError(f"{place}: not JSON: {error.msg} (column {error.colno})") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: not JSON: {error}") from error


def is_list(path: Path) -> bool:
    """Whether a file is one JSON list, and not a row a line."""
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _read_list(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    assert isinstance(rows, list)
    return rows


def _line_offsets(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each non-empty line starts, and its number from 1."""
    offsets, numbers, position = [], [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                offsets.append(position)
                numbers.append(number)
            position += len(line)
    return np.asarray(offsets, np.int64), np.asarray(numbers, np.int64)
