"""Rows from a folder of pictures: captions beside them, folders as classes, or a metadata file.

Opening lists the folder, about 10 us a file, and keeps its names as bytes. Pictures are not opened here.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.confined import check_inside
from vitrail.data.sources.config import FolderConfig, JsonlConfig
from vitrail.data.sources.files import is_picture
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.data.sources.splits import chosen, split_of_picture, without_split

METADATA = ("metadata.jsonl", "metadata.csv")
BLOCK = 16
"""Names that lie beside each other, whose files may do so too."""


class FolderSource:
    """One row a picture, sorted by name; with metadata files, one row a line of them."""

    block = BLOCK

    def __init__(self, config: FolderConfig) -> None:
        """Lists the folder. Raises DataError for one that is not there, holds no picture, does not say what they show,
        or holds several splits of which none was named."""
        self.config, self.folder = config, config.path
        self._confined = not config.allow_outside
        self.name = config.path.resolve().name
        self._metadata: JsonlSource | None = None
        self._names = Names(())
        self.layout: str = config.layout
        files = chosen(_listed(files_in(self.folder)), config.split, str(self.folder), split_of_picture)
        metadata = [name for name in files if _is_metadata(name)]
        if self.layout == "metadata" or (self.layout == "auto" and metadata):
            if not metadata:
                raise DataError(f"'{self.folder}' has neither {' nor '.join(METADATA)}")
            self.layout = "metadata"
            self._metadata = self._described_by(metadata)
            return
        pictures = [name for name in files if is_picture(name)]
        if not pictures:
            raise DataError(f"'{self.folder}' holds no picture")
        # Where some folders alone are called so, `valid` and `invalid` are classes.
        self._in_splits = all(map(split_of_picture, pictures))
        if self.layout == "auto":
            self.layout = self._guess(pictures, {name for name in files if name.lower().endswith(".txt")})
        self._names = Names(pictures[: config.rows or None])

    def __len__(self) -> int:
        return len(self._names) if self._metadata is None else len(self._metadata)

    def row(self, index: int) -> Row:
        """The row at `index`. Raises DataError when what its picture shows is not said, or cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        if self._metadata is not None:
            return self._described(self._metadata.row(index))
        name = self._names[index]
        path = self.folder / name
        fields: dict[str, Any] = {"image": name}
        if self.layout == "classes":
            fields |= {"question": self.config.question, "answer": self._class(name) or path.parent.name}
        else:
            if self._confined:
                check_inside(path.with_suffix(".txt"), self.folder, str(path))
            fields["text"] = _caption(path)
        return Row(name, fields, self.folder, str(path), self._confined)

    def _class(self, name: str) -> str:
        """The folder that a picture is named after, leaving out one that is a split's; "" for none."""
        folder = name.rpartition("/")[0]
        return (without_split(folder) if self._in_splits else folder).rpartition("/")[2]

    def _guess(self, pictures: Sequence[str], texts: set[str]) -> str:
        if any(_text_of(name) in texts for name in pictures):
            return "captions"
        if all(map(self._class, pictures)):
            return "classes"
        raise DataError(
            f"'{self.folder}' does not say what its pictures show: put a .txt beside each, or each into a folder named "
            f"after its class, or write a {METADATA[0]}; pictures to be asked about: vitrail data template"
        )

    def _described_by(self, metadata: Sequence[str]) -> JsonlSource:
        """The rows of the metadata files, one in each folder at most."""
        beside: dict[str, str] = {}
        for name in sorted(metadata, key=lambda name: METADATA.index(name.rpartition("/")[2])):
            beside.setdefault(name.rpartition("/")[0], name)
        files = [self.folder / name for name in sorted(beside.values())]
        return JsonlSource(JsonlConfig(self.folder, rows=self.config.rows), files)

    def _described(self, row: Row) -> Row:
        """A row of metadata, with its file name as the picture: as `datasets` reads such folders."""
        fields = dict(row.fields)
        if "file_names" in fields:
            fields["images"] = fields.pop("file_names")
        elif "file_name" in fields:
            fields["image"] = fields.pop("file_name")
        else:
            raise DataError(f"{row.location}: a row needs 'file_name' or 'file_names'; it has: {', '.join(fields)}")
        # Its names begin where it lies; the folder of the source is where they must stay.
        at = row.folder or self.folder
        return Row(row.id, fields, at, row.location, self._confined)


def _listed(names: Sequence[str]) -> list[str]:
    """Those that say something: pictures, captions, metadata."""
    return [name for name in names if is_picture(name) or name.lower().endswith(".txt") or _is_metadata(name)]


def _is_metadata(name: str) -> bool:
    return name.rpartition("/")[2] in METADATA


class Names(Sequence[str]):
    """Names as one piece of bytes: a tenth of what a list of as many strings takes."""

    def __init__(self, names: Sequence[str]) -> None:
        coded = [os.fsencode(name) for name in names]
        self._ends = array("q", accumulate(map(len, coded)))
        self._bytes = b"".join(coded)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        return os.fsdecode(self._bytes[self._ends[index - 1] if index else 0 : self._ends[index]])


def files_in(folder: Path) -> list[str]:
    """Names of the files of a folder and the folders in it, relative to it, with `/`, sorted; hidden ones left out.

    Raises DataError when it is no folder, or one in it cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"'{folder}' {'is not a folder' if folder.exists() else 'does not exist'}")
    try:
        return sorted(_walk(folder))
    except OSError as error:
        raise DataError(f"'{error.filename}' cannot be read: {error.strerror}") from error


def _walk(folder: Path) -> Iterator[str]:
    seen: set[str] = set()
    for at, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        # A link may lead back to where the walk came from.
        real = os.path.realpath(at)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            start = Path(at).relative_to(folder).as_posix()
            yield from (name if start == "." else f"{start}/{name}" for name in files if name[0] != ".")
        seen.add(real)


def _raise(error: OSError) -> None:
    raise error


def _text_of(name: str) -> str:
    return name.rpartition(".")[0] + ".txt"


def _caption(path: Path) -> str:
    beside = path.with_suffix(".txt")
    try:
        return beside.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError as error:
        raise DataError(f"{path}: has no caption: '{beside.name}' does not exist") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{beside}: is not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise DataError(f"{beside}: cannot be read: {error.strerror}") from error
