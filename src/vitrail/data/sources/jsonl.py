"""Rows by number from .jsonl files, or from files that are read as a whole (`whole.py`): lists, tables.

Of a .jsonl file, the offset of every 16th row is kept: a megabyte for a million rows, found in about a second. Sixteen
neighbours are read together, in some tens of microseconds.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.sources.config import ROWS, JsonlConfig
from vitrail.data.sources.files import files_of
from vitrail.data.sources.whole import SEPARATORS, Entry, not_utf8, read_whole

BLOCK = 16
"""Rows that share one known offset."""


class JsonlSource:
    """One JSON object a line, one JSON list of objects (LLaVA's files are such lists), or a table, in any files."""

    block = BLOCK

    def __init__(self, config: JsonlConfig, files: list[Path] | None = None) -> None:
        """Goes through the files once. files: those to read, where not what the config's path stands for.

        Raises DataError for a file that is not there or cannot be read as rows, and where there are no rows.
        """
        self.config = config
        self.name = config.path.stem.strip("*-_ ") or config.path.parent.name
        self._confined = not config.allow_outside
        self._files: list[_Lines | _Whole] = []
        left = config.rows
        for path in files or files_of(config.path, ROWS, config.split):
            whole = read_whole(path, left)
            self._files.append(_Lines(path, left) if whole is None else _Whole(path, whole, left))
            left -= len(self._files[-1])
            if config.rows and not left:
                break
        self._starts = [0, *accumulate(map(len, self._files))]
        if not len(self):
            raise DataError(f"data file '{config.path}' has no rows")

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def appendable(self) -> bool:
        """Whether a row may be added to the end of the last file, as a line."""
        return isinstance(self._files[-1], _Lines)

    def row(self, index: int) -> Row:
        """The row at `index`. Raises DataError, naming the line, when it is not a JSON object."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        at = bisect_right(self._starts, index) - 1
        file = self._files[at]
        location, fields = file.entry(index - self._starts[at])
        if not isinstance(fields, dict):
            raise DataError(f"{location}: a row must be a JSON object, got {type(fields).__name__}")
        if isinstance(file, _Whole):
            fields = file.cells(fields, location)
        name = fields.get("id")
        row_id = str(location.rpartition("/")[2] if name is None else name)
        return Row(row_id, fields, self.config.pictures or file.path.parent, location, self._confined)

    def matching(self, pattern: re.Pattern[bytes]) -> Iterator[int]:
        """Numbers of the rows whose line holds the pattern, in one pass over the files; of a list, every row's."""
        for start, file in zip(self._starts, self._files, strict=False):
            yield from (start + index for index in file.matching(pattern))


class _Whole:
    """The rows of a file that is in memory. most: use only so many, 0 or less for all."""

    def __init__(self, path: Path, entries: list[Entry], most: int) -> None:
        self.path, self._entries = path, entries[: most if most > 0 else None]

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, index: int) -> tuple[str, Any]:
        """Where a row stands, and the row."""
        where, fields = self._entries[index]
        return f"{self.path}{where}", fields

    def cells(self, fields: dict[str, Any], location: str) -> dict[str, Any]:
        """A row without the cells of a table that hold nothing. Raises DataError for too many cells, or too few."""
        if self.path.suffix.lower() not in SEPARATORS:
            return fields
        if "" in fields or None in fields.values():
            raise DataError(f"{location}: has another number of cells than the first line")
        return {name: cell for name, cell in fields.items() if cell != ""}

    def matching(self, pattern: re.Pattern[bytes]) -> Iterator[int]:
        yield from range(len(self))


class _Lines:
    """The rows of a .jsonl file. most: use only so many, 0 or less for all."""

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        # Of the first row of each block: where it starts, and the number of its line, from 1.
        self._offsets, self._lines = array("q"), array("q")
        # The block read last: neighbours are asked for one after the other. Replaced as a whole, for threads.
        self._kept: tuple[int, list[tuple[int, bytes]]] = (-1, [])
        self._count = self._scan(most)

    def __len__(self) -> int:
        return self._count

    def entry(self, index: int) -> tuple[str, Any]:
        """Where a row stands, and the row. Raises DataError for a line that is no JSON, or gone."""
        number, line = self._line(index)
        return f"{self.path}:{number}", _parse(line, self.path, number)

    def matching(self, pattern: re.Pattern[bytes]) -> Iterator[int]:
        with self.path.open("rb") as file:
            lines = (line for line in file if not line.isspace())
            for index, line in enumerate(islice(lines, self._count)):
                if pattern.search(line):
                    yield index

    def _scan(self, most: int) -> int:
        """Notes where blocks start, and returns the number of rows.

        Raises DataError for a file in another encoding: one in which several lines are no UTF-8, and none is that is
        more than ASCII. A single such line is damage, and its own row's.
        """
        count = position = others = 0
        wrong: DataError | None = None
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    if count % BLOCK == 0:
                        self._offsets.append(position)
                        self._lines.append(number)
                    count += 1
                    if not line.isascii() and others >= 0:
                        error = _encoding_error(line, self.path, number)
                        others = -1 if error is None else others + 1
                        wrong = wrong or error
                    if count == most > 0:
                        break
                position += len(line)
        if others > 1 and wrong is not None:
            raise wrong
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


def _encoding_error(line: bytes, path: Path, number: int) -> DataError | None:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return not_utf8(path, number, error)
    return None


def _parse(line: bytes, path: Path, number: int) -> Any:
    location = f"{path}:{number}"
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        # The decoder counts lines from the row's own: its "line 1" would only confuse.
        raise DataError(f"{location}: not JSON: {error.msg} (column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path, number, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{location}: not JSON: {error}") from error
