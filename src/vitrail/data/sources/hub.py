"""Rows of the Hugging Face hub, or of files too many to index, streamed by the `datasets` library.

Shards (files, as a rule) are read one after the other, in an order that follows from the seed and the epoch; there is
no shuffle buffer whose content a stop could lose. To go on from a cursor, the shards before it are not touched; within
its own shard a parquet file goes on at the row group, any other file is read again up to the row (a second for 100,000
rows of JSON).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.sources.config import HubConfig
from vitrail.data.sources.files import SAVED_SPLITS, files_of, is_pattern, missing_extra, one_line
from vitrail.data.sources.splits import ALL, split_of_rows
from vitrail.data.sources.webdataset import fields_of

try:
    import datasets
except ImportError as error:  # pragma: no cover
    raise missing_extra("streaming a data set") from error

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
READERS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tar": "webdataset",
}
"""By which of the library's readers local files are read."""


@dataclass(frozen=True)
class StreamCursor:
    """What a stream goes on from, as plain data.

    shards: how many there were. shard_index: which of them is being read, counted in the epoch's order. group: row
    group of a parquet file, 0 in any other. row: rows read of the group. taken: rows read of the epoch.
    """

    shards: int
    shard_index: int = 0
    group: int = 0
    row: int = 0
    taken: int = 0


class HubSource:
    """Rows in the order in which they arrive; see `StreamedSource`. It is sent to other processes unopened."""

    def __init__(self, config: HubConfig) -> None:
        """Asks for the list of files. Raises DataError for a data set that is not there, or cannot be reached."""
        self.config = config
        self.name = Path(config.path).stem.strip("*-_ ") or Path(config.path).parent.name
        self._dataset: Any = None
        self._opened()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}

    def rows(self, epoch: int, cursor: Any) -> Iterator[tuple[Row | DataError, Any]]:
        """The rows of an epoch from a cursor on, each with the cursor after it; see `StreamedSource`.

        Raises DataError when the stream itself breaks off: the rows behind the break are not known to be bad.
        """
        shards = self._opened()
        here = StreamCursor(shards.num_shards) if cursor is None else StreamCursor(**cursor)
        if here.shards != shards.num_shards:
            raise DataError(
                f"{self.config.path}: has {shards.num_shards} shards and had {here.shards} when it was last read; "
                "a stream goes on in the same data only"
            )
        order = self._order(epoch, here.shards)
        while here.shard_index < here.shards and not self._enough(here):
            for fields, after in self._shard(order[here.shard_index], here):
                yield self._row(fields, order[here.shard_index], here), asdict(after)
                here = after
                if self._enough(here):
                    return
            here = replace(here, shard_index=here.shard_index + 1, group=0, row=0)

    def _enough(self, cursor: StreamCursor) -> bool:
        return 0 < self.config.rows <= cursor.taken

    def _order(self, epoch: int, shards: int) -> list[int]:
        if not self.config.shuffle:
            return list(range(shards))
        order: list[int] = np.random.default_rng((self.config.seed, epoch)).permutation(shards).tolist()
        return order

    def _shard(self, number: int, cursor: StreamCursor) -> Iterator[tuple[dict[str, Any], StreamCursor]]:
        """The rows of a shard from a cursor on, each with the cursor after it."""
        try:
            shard = self._opened().shard(num_shards=cursor.shards, index=number).reshard()
            for group in range(cursor.group, shard.num_shards):
                cursor = cursor if group == cursor.group else replace(cursor, group=group, row=0)
                for fields in shard.shard(num_shards=shard.num_shards, index=group).skip(cursor.row):
                    cursor = replace(cursor, row=cursor.row + 1, taken=cursor.taken + 1)
                    yield fields, cursor
        except Exception as error:  # of the network, of any file format, of the library
            reason = one_line(error.__cause__ or error)
            where = self._location(number, cursor)
            raise DataError(f"{where}: the stream breaks off: {reason}") from error

    def _location(self, shard: int, cursor: StreamCursor) -> str:
        group = f", group {cursor.group}" if cursor.group else ""
        return f"{self.config.path}, shard {shard}{group}, row {cursor.row}"

    def _row(self, fields: dict[str, Any], shard: int, at: StreamCursor) -> Row | DataError:
        location = self._location(shard, at)
        if "__key__" in fields:
            members = {name: value for name, value in fields.items() if not name.startswith("__") and value is not None}
            try:
                fields = fields_of(members, location, self.config.caption)
            except DataError as error:
                return error
        name = fields.get("id")
        row_id = f"{self.name}/{shard}/{at.group}/{at.row}" if name is None else str(name)
        return Row(row_id, fields, self.config.pictures, location, not self.config.allow_outside)

    def _opened(self) -> Any:
        if self._dataset is None:
            # What goes wrong is said once, by us.
            datasets.logging.set_verbosity(logging.CRITICAL)
            datasets.disable_progress_bars()
            self._dataset = self._load()
        return self._dataset

    def _load(self) -> Any:
        config = self.config
        local = Path(config.path).exists() or is_pattern(config.path)
        if local:
            arguments = _of_files(config)
        elif HUB_ID.fullmatch(config.path):
            arguments = {"path": config.path, "name": config.subset, "revision": config.revision}
        else:
            raise DataError(f"'{config.path}' is neither a file of this machine nor a hub id (owner/name)")
        try:
            dataset = datasets.load_dataset(**arguments, split=config.split, streaming=True)
            # Pictures stay bytes: they are decoded where all others are.
            return dataset if dataset.features is None else dataset.decode(False)
        except Exception as error:  # of the network, of any file format, of the library
            raise DataError(f"{config.path}: cannot be opened: {one_line(error)}") from error


def _of_files(config: HubConfig) -> dict[str, Any]:
    path = Path(config.path)
    files = files_of(path, tuple(READERS), ALL)
    # A file that no name gives a split is of whichever is asked for: `split` has a default, for data of the hub.
    named = any(split_of_rows(str(file.relative_to(path) if path.is_dir() else file.name)) for file in files)
    if config.split != ALL and (named or (path / SAVED_SPLITS).is_file()):
        files = files_of(path, tuple(READERS), config.split)
    readers = {path.suffix.lower() for path in files}
    reader = READERS.get(readers.pop()) if len(readers) == 1 else None
    if reader is None:
        raise DataError(f"'{config.path}' must stand for files of one kind, of {', '.join(READERS)}")
    return {"path": reader, "data_files": {config.split: [str(path) for path in files]}}
