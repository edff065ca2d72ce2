"""Rows by number from the .tar files of a WebDataset.

Opening scans the headers of all members once, about 10 us each, and keeps 8 bytes a row: where its first member
stands. A row is then read by seeking there, in about 50 us and the time of reading its bytes.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.sources.config import WebDatasetConfig
from vitrail.data.sources.files import files_of, is_picture, one_line
from vitrail.data.sources.tar import Member, TarError, members

BLOCK = 16
"""Rows that are read after each other, for the disk's sake."""

TEXTS = ("txt", "text", "caption")
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstandard"}


class WebDatasetSource:
    """Rows of one or several .tar files, in the order of their members."""

    block = BLOCK

    def __init__(self, config: WebDatasetConfig) -> None:
        """Scans the files. Raises DataError for one that is no uncompressed tar, or breaks off."""
        self.name = config.path.stem.strip("*-_ ") or config.path.parent.name
        self._confined = not config.allow_outside
        self.files: list[Path] = []
        self._offsets: list[array[int]] = []
        left = config.rows
        for path in files_of(config.path, (".tar",)):
            self.files.append(path)
            self._offsets.append(_scan(path, left))
            left -= len(self._offsets[-1])
            if config.rows and not left:
                break
        self._starts = [0, *accumulate(map(len, self._offsets))]
        if not len(self):
            raise DataError(f"'{config.path}' has no rows")

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, index: int) -> Row:
        """The row at `index`, pictures as bytes. Raises DataError, naming file and stem, when it cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        file = bisect_right(self._starts, index) - 1
        path, offset = self.files[file], self._offsets[file][index - self._starts[file]]
        stem, parts = "", {}
        try:
            with path.open("rb") as opened:
                for member, its_stem, ending in _members(opened, offset):
                    if stem and its_stem != stem:
                        break
                    stem = its_stem
                    opened.seek(member.start)
                    parts[ending] = opened.read(member.size)
        except (OSError, TarError) as error:
            raise DataError(f"{path}, row {index - self._starts[file]}: cannot be read: {one_line(error)}") from error
        location = f"{path}: {stem}"
        fields = fields_of(parts, location)
        name = fields.get("id")
        row_id = f"{path.stem}/{stem}" if name is None else str(name)
        return Row(row_id, fields, path.parent, location, self._confined)


def fields_of(parts: Mapping[str, Any], location: str) -> dict[str, Any]:
    """The members of a row as one record. parts: what stands under each ending, as bytes or already read.

    The object of a .json is the record; pictures become its `image`, or `images` where there are several (in the order
    of their endings: `0.jpg`, `1.jpg`), a .txt its `text`, anything else stays under its ending.
    """
    fields: dict[str, Any] = {}
    pictures: list[tuple[int, str]] = []
    for ending, value in parts.items():
        kind = ending.rpartition(".")[2].lower()
        if kind == "json":
            fields = _record(value, location) | fields
        elif kind in TEXTS:
            fields["text"] = _text(value, location).strip()
        elif is_picture(kind):
            pictures.append((len(ending), ending))
        else:
            fields[ending] = value
    if pictures:
        # What the record says of its pictures is where they once came from.
        fields.pop("images", None)
        fields.pop("image", None)
        found = [parts[ending] for _, ending in sorted(pictures)]
        fields |= {"images": found} if len(found) > 1 else {"image": found[0]}
    return fields


def _record(value: Any, location: str) -> dict[str, Any]:
    if isinstance(value, bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{location}: its .json is not JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise DataError(f"{location}: its .json must be a JSON object, got {type(value).__name__}")
    return value


def _text(value: Any, location: str) -> str:
    try:
        return value.decode("utf-8-sig") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise DataError(f"{location}: its text is not UTF-8: {error.reason} at byte {error.start}") from error


def _scan(path: Path, most: int) -> array[int]:
    """Where each row starts. most: stop there; 0 or less for all."""
    offsets, last = array("q"), ""
    try:
        with path.open("rb") as file:
            packed = COMPRESSED.get(file.read(2))
            if packed:
                raise DataError(f"'{path}' is compressed with {packed}: rows are found by seeking, so unpack it first")
            for member, stem, _ in _members(file, 0):
                if stem != last:
                    if len(offsets) == most > 0:
                        break
                    offsets.append(member.header)
                    last = stem
    except (OSError, TarError) as error:
        after = f" after {len(offsets)} rows" if offsets else ""
        raise DataError(f"'{path}' cannot be read as a tar file{after}: {one_line(error)}") from error
    return offsets


def _members(file: BinaryIO, start: int) -> Iterator[tuple[Member, str, str]]:
    """Files with their stem and ending, which the first dot of the name divides; hidden ones left out."""
    for member in members(file, start):
        folder, _, name = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = name.partition(".")
        if stem and ending:
            yield member, f"{folder}/{stem}" if folder else stem, ending
