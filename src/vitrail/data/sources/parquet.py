"""Rows by number from .parquet and .arrow files.

A parquet file is read row group by row group: a group is decoded as a whole, tens of milliseconds for a thousand
pictures of 100 kB, and then lies in memory until others take its room. As many groups as take half of that room are
drawn from at once, so that a window mixes rows from all over the files; the other half is for those that come next. An
.arrow file is mapped into memory and costs next to nothing. A row becomes Python objects when it is asked for, in about
50 us.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, TypeVar

from vitrail.contracts.errors import DataError, nearest
from vitrail.contracts.messages import Row
from vitrail.data.sources.config import TABLES, ParquetConfig
from vitrail.data.sources.files import files_of, missing_extra, one_line

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `count` values of together at most `size` bytes, and always the last one, however large.

    Threads may share it: what is kept is replaced as a whole. It is sent to other processes empty.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._kept: tuple[tuple[K, V, int], ...] = ()

    def get(self, key: K) -> V | None:
        """The value, or None when it is no longer there."""
        for kept, value, _ in self._kept:
            if kept == key:
                return value
        return None

    def put(self, key: K, value: V, size: int) -> V:
        """Keeps a value of `size` bytes, and lets the oldest ones go."""
        kept: list[tuple[K, V, int]] = []
        left = self.size
        for entry in ((key, value, size), *self._kept)[: self.count]:
            left -= entry[2]
            if left < 0 and kept:
                break
            kept.append(entry)
        self._kept = tuple(kept)
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self.count, "size": self.size, "_kept": ()}


try:
    import pyarrow as pa
    from pyarrow import ipc
    from pyarrow import parquet as pq
except ImportError as error:  # pragma: no cover
    raise missing_extra("reading .parquet and .arrow files") from error

ARROW_BLOCK = 16
"""Rows of an .arrow file need no neighbours; this many still share pages of the disk."""

KEPT_GROUPS, KEPT_BYTES = 64, 256 << 20
MOST_TOGETHER = 32
"""Row groups that are drawn from at once, at most: as many pieces of a .jsonl as a window of 512 rows holds."""

LARGEST_GROUP = 2 << 30
"""Bytes of a row group, decoded. A larger one would be the end of most machines, once for each worker."""

OPEN_FILES = 8


@dataclass(frozen=True)
class Group:
    """Neighbours that are read together. file, number: which group of which file. first: its first row there.

    size: bytes, decoded, by the file's footer; 0 of an .arrow file, which is not decoded.
    """

    file: int
    number: int
    first: int
    rows: int
    size: int


class ParquetSource:
    """Rows of one or several files. Each is a pure function of the files and the row's number."""

    def __init__(self, config: ParquetConfig) -> None:
        """Reads the files' footers. Raises DataError for files that are no tables, or hold no rows."""
        self.config = config
        self.name = config.path.stem.strip("*-_ ") or config.path.parent.name
        self.files = files_of(config.path, TABLES, config.split)
        self._open: Recent[int, Any] = Recent(OPEN_FILES, OPEN_FILES)
        self._recent: Recent[tuple[int, int], Any] = Recent(KEPT_GROUPS, KEPT_BYTES)
        groups = [group for file in range(len(self.files)) for group in self._groups_of(file)]
        if config.rows:
            groups = _first(groups, config.rows)
        sizes = Counter(group.rows for group in groups)
        if not sizes:
            raise DataError(f"'{config.path}' has no rows")
        self.block = max(sizes, key=lambda rows: (rows * sizes[rows], rows))
        if all(_is_arrow(path) for path in self.files):
            self.block = ARROW_BLOCK
        elif config.shuffle:
            # Blocks that begin where groups begin are decoded once: the short groups, at the ends of files, come last.
            groups.sort(key=lambda group: group.rows != self.block)
        self.together = self._together(groups)
        self._groups = groups
        self._starts = [0, *accumulate(group.rows for group in groups)]

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, index: int) -> Row:
        """The row at `index`, pictures as bytes. Raises DataError, naming file and row, when it cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        at = bisect_right(self._starts, index) - 1
        group, within = self._groups[at], index - self._starts[at]
        path, number = self.files[group.file], group.first + within
        location = f"{path}, row {number}"
        try:
            fields = self._table(group).slice(within, 1).to_pylist()[0]
        except (OSError, ValueError, pa.ArrowException, IndexError) as error:
            raise DataError(f"{location}: cannot be read: {one_line(error)}") from error
        name = fields.get("id")
        row_id = f"{path.name}:{number}" if name is None else str(name)
        return Row(row_id, fields, self.config.pictures or path.parent, location, not self.config.allow_outside)

    def _groups_of(self, file: int) -> list[Group]:
        path = self.files[file]
        try:
            opened = self._file(file)
            if _is_arrow(path):
                schema, sizes = opened[0].schema if opened else None, [(batch.num_rows, 0) for batch in opened]
            else:
                footer = opened.metadata
                schema = opened.schema_arrow
                groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
                sizes = [(_checked(path, group), _size(group, self.config.columns)) for group in groups]
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"'{path}' cannot be read as a table: {one_line(error)}") from error
        if schema is not None:
            self._check_columns(path, schema.names)
        starts = [0, *accumulate(rows for rows, _ in sizes)]
        return [Group(file, number, starts[number], rows, size) for number, (rows, size) in enumerate(sizes) if rows]

    def _together(self, groups: list[Group]) -> int:
        """How many row groups are drawn from at once."""
        if all(_is_arrow(path) for path in self.files):
            return 1
        largest = max(group.size for group in groups)
        return max(1, min(MOST_TOGETHER, KEPT_BYTES // 2 // max(largest, 1)))

    def _check_columns(self, path: Path, there: list[str]) -> None:
        for column in self.config.columns:
            if column not in there:
                raise DataError(
                    f"'{path}' has no column '{column}'{nearest(column, there)}; it has: {', '.join(there)}"
                )

    def _file(self, file: int) -> Any:
        """A ParquetFile, or the record batches of an .arrow file, which stay on the disk until they are used."""
        opened = self._open.get(file)
        if opened is None:
            path = self.files[file]
            opened = _batches(path) if _is_arrow(path) else pq.ParquetFile(path)
            self._open.put(file, opened, 1)
        return opened

    def _table(self, group: Group) -> Any:
        columns = list(self.config.columns) or None
        if _is_arrow(self.files[group.file]):
            batch = self._file(group.file)[group.number]
            return batch.select(columns) if columns else batch
        key = (group.file, group.number)
        table = self._recent.get(key)
        if table is None:
            table = self._file(group.file).read_row_group(group.number, columns=columns, use_threads=False)
            self._recent.put(key, table, table.nbytes)
        return table


def _is_arrow(path: Path) -> bool:
    return path.suffix.lower() == ".arrow"


def _batches(path: Path) -> list[Any]:
    """Both of Arrow's layouts: the stream that `datasets` writes, and the file with an index."""
    source = pa.memory_map(str(path))
    with path.open("rb") as file:
        indexed = file.read(6) == b"ARROW1"
    if indexed:
        reader = ipc.open_file(source)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]
    return list(ipc.open_stream(source))


def _checked(path: Path, group: Any) -> int:
    if group.total_byte_size > LARGEST_GROUP:
        raise DataError(
            f"'{path}' has a row group of {group.num_rows} rows and {group.total_byte_size / 1e9:.1f} GB, which is "
            f"read as a whole: at most {LARGEST_GROUP / 1e9:.1f} GB; write it anew with a smaller row_group_size"
        )
    rows: int = group.num_rows
    return rows


def _size(group: Any, columns: tuple[str, ...]) -> int:
    """Bytes of a row group's columns, unpacked; of those that are read, where not all are."""
    chunks = (group.column(number) for number in range(group.num_columns))
    return sum(
        one.total_uncompressed_size for one in chunks if not columns or one.path_in_schema.split(".")[0] in columns
    )


def _first(groups: list[Group], rows: int) -> list[Group]:
    """The groups of the first rows, the last of them cut short."""
    kept, left = [], rows
    for group in groups:
        if left:
            kept.append(replace(group, rows=min(group.rows, left)))
            left -= kept[-1].rows
    return kept
