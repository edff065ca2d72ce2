"""Rows by number from a .jsonl file, or from a .json list, which is read as a whole.

Of a .jsonl file, the offset of every 16th row is kept: a megabyte for a million rows, found in about a second. Sixteen
neighbours are read together, in some tens of microseconds.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.sources.annotations import annotations_in
from vitrail.data.sources.config import JsonlConfig

BLOCK = 16
"""Rows that share one known offset."""


class JsonlSource:
    """One JSON object a line, or one JSON list of objects (LLaVA's files are such lists)."""

    block = BLOCK

    def __init__(self, config: JsonlConfig) -> None:
        self.path = config.path
        self.name = config.path.stem
        self.folder = config.pictures or config.path.parent
        self._confined = not config.allow_outside
        if not self.path.is_file():
            raise DataError(f"data file '{self.path}' {'is not a file' if self.path.exists() else 'does not exist'}")
        # Of the first row of each block: where it starts, and the number of its line, from 1.
        self._offsets, self._lines = array("q"), array("q")
        # The block read last: neighbours are asked for one after the other. Replaced as a whole, for threads.
        self._kept: tuple[int, list[tuple[int, bytes]]] = (-1, [])
        self._list = _read_list(self.path) if is_list(self.path) else annotations_in(self.path)
        if self._list is not None:
            self._count = min(len(self._list), config.rows or len(self._list))
        else:
            self._count = self._scan(config.rows)
        if not self._count:
            raise DataError(f"data file '{self.path}' has no rows")

    def __len__(self) -> int:
        return self._count

    def row(self, index: int) -> Row:
        """The row at `index`. Raises DataError, naming the line, when it is not a JSON object."""
        if not 0 <= index < self._count:
            raise IndexError(f"row {index} of {self._count}")
        if self._list is not None:
            fields, location = self._list[index], f"{self.path}[{index}]"
        else:
            number, line = self._line(index)
            location = f"{self.path}:{number}"
            fields = _parse(line, location)
        if not isinstance(fields, dict):
            raise DataError(f"{location}: a row must be a JSON object, got {type(fields).__name__}")
        name = fields.get("id")
        row_id = str(location.rpartition("/")[2] if name is None else name)
        return Row(row_id, fields, self.folder, location, self._confined)

    def matching(self, pattern: re.Pattern[bytes]) -> Iterator[int]:
        """Numbers of the rows whose line holds the pattern, in one pass over the file; of a list, every row's."""
        if self._list is not None:
            yield from range(self._count)
            return
        with self.path.open("rb") as file:
            lines = (line for line in file if not line.isspace())
            for index, line in enumerate(islice(lines, self._count)):
                if pattern.search(line):
                    yield index

    def _scan(self, most: int) -> int:
        """Notes where blocks start, and returns the number of rows. most: stop there; 0 for all."""
        count = position = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    if count % BLOCK == 0:
                        self._offsets.append(position)
                        self._lines.append(number)
                    count += 1
                    if count == most:
                        break
                position += len(line)
        return count

    def _line(self, index: int) -> tuple[int, bytes]:
        """Number and content of a row's line."""
        block, within = divmod(index, BLOCK)
        kept, lines = self._kept
        if kept != block:
            try:
                lines = self._read(block)
            except OSError as error:
                raise DataError(f"{self.path}, row {index}: cannot be read: {error.strerror}") from error
            self._kept = block, lines
        if within >= len(lines):
            raise DataError(f"{self.path}, row {index}: the file has become shorter since it was opened")
        return lines[within]

    def _read(self, block: int) -> list[tuple[int, bytes]]:
        with self.path.open("rb") as file:
            file.seek(self._offsets[block])
            numbered = ((number, line.rstrip()) for number, line in enumerate(file, self._lines[block]))
            return list(islice((one for one in numbered if one[1]), BLOCK))

    def __getstate__(self) -> dict[str, Any]:
        """Without the block that is kept, whose lines may be long."""
        return {**vars(self), "_kept": (-1, [])}


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


def _parse(line: bytes, location: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        # The decoder counts lines from the row's own: its "line 1" would only confuse.
        raise DataError(f"{location}: not JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{location}: not JSON: {error}") from error
