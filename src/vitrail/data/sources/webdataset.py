"""Rows by number from the .tar files of a WebDataset.

Opening scans the headers of all members once, about 10 us each, and keeps 8 bytes a row: where its first member
stands; of a row whose members are no neighbours also where the others stand. A row is then read by seeking there, in
about 50 us and the time of reading its bytes.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.dialects.columns import CAPTIONS
from vitrail.data.dialects.values import shown
from vitrail.data.sources.config import PACKED, WebDatasetConfig
from vitrail.data.sources.files import files_of, is_picture, one_line
from vitrail.data.sources.splits import ALL, asked, check_one, split_of_folder
from vitrail.data.sources.tar import Member, TarError, members
from vitrail.media.config import SOUND_SUFFIXES, VIDEO_SUFFIXES

BLOCK = 16
"""Rows that are read after each other, for the disk's sake."""

TEXTS = ("txt", "text", "caption")
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstandard"}


class WebDatasetSource:
    """Rows of one or several .tar files, in the order of their first members."""

    block = BLOCK

    def __init__(self, config: WebDatasetConfig) -> None:
        """Scans the files. Raises DataError for one that is no uncompressed tar, or breaks off, and for several splits
        of which none was named."""
        self.config = config
        self.name = config.path.stem.strip("*-_ ") or config.path.parent.name
        self._confined = not config.allow_outside
        files, inside = _files(config)
        self.files: list[Path] = []
        self._rows: list[_Rows] = []
        left = config.rows
        for path in files:
            self.files.append(path)
            self._rows.append(_scan(path, left, inside))
            left -= len(self._rows[-1].offsets)
            if config.rows and not left:
                break
        if inside is None and config.split is None:
            check_one(sorted(set[str]().union(*(rows.splits for rows in self._rows))), str(config.path))
        self._starts = [0, *accumulate(len(rows.offsets) for rows in self._rows)]
        if not len(self):
            raise DataError(f"'{config.path}' has no rows{f' of the split {inside}' if inside else ''}")

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, index: int) -> Row:
        """The row at `index`, pictures as bytes. Raises DataError, naming file and stem, when it cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        file = bisect_right(self._starts, index) - 1
        path, rows, number = self.files[file], self._rows[file], index - self._starts[file]
        stem, parts = "", dict[str, bytes]()
        try:
            with path.open("rb") as opened:
                for offset in (rows.offsets[number], *rows.more.get(number, ())):
                    for member, its_stem, ending in _members(opened, offset):
                        if (stem and its_stem != stem) or ending in parts:
                            break
                        stem = its_stem
                        opened.seek(member.start)
                        parts[ending] = opened.read(member.size)
        except (OSError, TarError) as error:
            raise DataError(f"{path}, row {number}: cannot be read: {one_line(error)}") from error
        location = f"{path}: {stem}"
        fields = fields_of(parts, location, self.config.caption)
        name = fields.get("id")
        row_id = f"{path.stem}/{stem}" if name is None else str(name)
        return Row(row_id, fields, path.parent, location, self._confined)


@dataclass
class _Rows:
    """Where the rows of a file stand. offsets: of the first member of each. more: of a row's further members, where
    others lie between. splits: those that its folders name."""

    offsets: array[int] = field(default_factory=lambda: array("q"))
    more: dict[int, list[int]] = field(default_factory=dict)
    splits: set[str] = field(default_factory=set)


def _files(config: WebDatasetConfig) -> tuple[list[Path], str | None]:
    """The files, and the split to take of the folders within them, where no file's own name says one."""
    if config.split is None or config.split == ALL:
        return files_of(config.path, PACKED, config.split), None
    try:
        return files_of(config.path, PACKED, config.split), None
    except DataError:
        every = files_of(config.path, PACKED, ALL)
        inside = {split for path in every for split in _scan(path, 0, None).splits}
        if not inside:
            raise
        return every, asked(config.split, sorted(inside), str(config.path))


def fields_of(parts: Mapping[str, Any], location: str, caption: str | None = None) -> dict[str, Any]:
    """The members of a row as one record. parts: what stands under each ending, as bytes or already read.

    The object of a .json is the record; pictures become its `image`, or `images` where there are several (in the order
    of their endings: `0.jpg`, `1.jpg`), so do videos and sounds, a .txt its `text`; anything else stays under its
    ending. caption: which counts where text and record differ, `txt` or `json`; None refuses such a row.
    """
    fields: dict[str, Any] = {}
    media: dict[str, list[tuple[int, str]]] = {}
    said: dict[str, str] = {}
    for ending, value in parts.items():
        kind = ending.rpartition(".")[2].lower()
        if kind == "json":
            fields = _record(value, location) | fields
        elif kind in TEXTS:
            said[ending] = _text(value, location).strip()
        elif medium := _medium(kind):
            media.setdefault(medium, []).append((len(ending), ending))
        else:
            fields[ending] = value
    if said:
        fields = _with_text(fields, said, location, caption)
    for medium, endings in media.items():
        # What the record says of its media is where they once came from.
        fields.pop(f"{medium}s", None)
        fields.pop(medium, None)
        found = [parts[ending] for _, ending in sorted(endings)]
        fields |= {f"{medium}s": found} if len(found) > 1 else {medium: found[0]}
    return fields


def _medium(ending: str) -> str:
    """What a member is by its ending; "" for no medium."""
    if is_picture(ending):
        return "image"
    if f".{ending}" in VIDEO_SUFFIXES:
        return "video"
    return "audio" if f".{ending}" in SOUND_SUFFIXES else ""


def _with_text(fields: dict[str, Any], said: Mapping[str, str], location: str, caption: str | None) -> dict[str, Any]:
    """The record with the text beside it, which may be the caption that it has itself."""
    first, *others = said
    differing = next((other for other in others if said[other] != said[first]), None)
    if differing is not None:
        raise DataError(f"{location}: its .{first} and its .{differing} differ, and a row has one text")
    own = {name: fields[name] for name in CAPTIONS if isinstance(fields.get(name), str)}
    other = next((name for name, text in own.items() if text.strip() != said[first]), None)
    if other is not None and caption is None:
        raise DataError(
            f"{location}: its .{first} says {shown(said[first], 40)!r} and the '{other}' of its .json "
            f"{shown(own[other], 40)!r}; say with `caption: txt` or `caption: json` of the source which counts"
        )
    if other is not None and caption == "json":
        return fields
    return {name: value for name, value in fields.items() if name not in own} | {"text": said[first]}


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


def _scan(path: Path, most: int, split: str | None) -> _Rows:
    """Where each row starts. most: so many alone; 0 or less for all. split: that of the folders inside alone.

    Members of one stem are one row wherever they stand; where an ending comes again, it is another row of that name.
    """
    rows = _Rows()
    # Of every stem: the number of its last row, and the endings that it has.
    known: dict[str, tuple[int, frozenset[str]]] = {}
    kinds: dict[frozenset[str], frozenset[str]] = {}
    last = ""
    try:
        with path.open("rb") as file:
            packed = COMPRESSED.get(file.read(2))
            if packed:
                raise DataError(f"'{path}' is compressed with {packed}: rows are found by seeking, so unpack it first")
            for member, stem, ending in _members(file, 0):
                of = split_of_folder(stem.rpartition("/")[0]) if "/" in stem else None
                if of is not None:
                    rows.splits.add(of)
                if split is not None and of != split:
                    last = ""
                    continue
                number, there = known.get(stem, (-1, frozenset()))
                if number < 0 or ending in there:
                    if len(rows.offsets) == most > 0:
                        last = ""
                        continue
                    rows.offsets.append(member.header)
                    number, there = len(rows.offsets) - 1, frozenset()
                elif stem != last:
                    rows.more.setdefault(number, []).append(member.header)
                there = there | {ending}
                known[stem] = number, kinds.setdefault(there, there)
                last = stem
    except (OSError, TarError) as error:
        after = f" after {len(rows.offsets)} rows" if rows.offsets else ""
        raise DataError(f"'{path}' cannot be read as a tar file{after}: {one_line(error)}") from error
    return rows


def _members(file: BinaryIO, start: int) -> Iterator[tuple[Member, str, str]]:
    """Files with their stem and ending, which the first dot of the name divides; hidden ones left out."""
    for member in members(file, start):
        folder, _, name = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = name.partition(".")
        if stem and ending:
            yield member, f"{folder}/{stem}" if folder else stem, ending
