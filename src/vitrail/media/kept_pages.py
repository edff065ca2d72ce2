"""What a reader found on pages, kept: in memory the last few, on disk all, one file a page.

Reading a page takes a second, taking it from disk a millisecond and some 80 kB. A file is named by the picture's bytes
in the folder of the reader's signature, and is there whole or not at all: a run that is stopped while it reads loses
the page it was at. Processes that share the folder may read a page twice and write the same file.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.contracts.errors import DataError
from vitrail.contracts.pages import Line, Page
from vitrail.contracts.protocols import PageReader
from vitrail.disk import is_full, write_whole
from vitrail.media import image

IN_MEMORY = 64
"""Pages; a row's page is asked for twice, for its tokens and for what was seen."""


@dataclass(frozen=True)
class KeptPages:
    """Pages by their pictures. folder: where they are kept; None for memory alone."""

    reader: PageReader
    folder: Path | None = None
    _recent: OrderedDict[str, Page] = field(default_factory=OrderedDict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # What is in memory does not travel to workers.
        return {"reader": self.reader, "folder": self.folder, "_recent": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def page(self, picture: Any) -> Page:
        """Of a picture as `ImagePart` has it. Raises MediaError for one that cannot be decoded, DataError
        for a folder that cannot be written to; on a full disk the page is used and not kept.
        """
        name = digest(picture)
        found = self._recent.pop(name, None) or self._from_disk(name)
        if found is None:
            found = self.reader(image.load(picture))
            self._to_disk(name, found)
        self._recent[name] = found
        while len(self._recent) > IN_MEMORY:
            self._recent.popitem(last=False)
        return found

    def _path(self, name: str) -> Path:
        assert self.folder is not None, "kept on disk"
        return self.folder / self.reader.signature / name[:2] / f"{name}.npz"

    def _from_disk(self, name: str) -> Page | None:
        if self.folder is None:
            return None
        try:
            with self._path(name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return unpacked(dict(arrays))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            # Not there, or damaged on its disk: it is read again, and written anew.
            return None

    def _to_disk(self, name: str, page: Page) -> None:
        if self.folder is None:
            return
        made = io.BytesIO()
        np.savez(made, allow_pickle=False, **packed(page))
        try:
            write_whole(self._path(name), made.getvalue())
        except OSError as error:
            if not is_full(error):
                raise DataError(f"cannot keep what pages say in '{self.folder}': {error.strerror or error}") from error


def digest(picture: Any) -> str:
    """Names a picture by its file's bytes, or by its pixels where it is no file. Raises MediaError."""
    if isinstance(picture, str | Path):
        image.size(picture)  # says what is wrong with a file that is none
        picture = Path(picture).read_bytes()
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    pixels = image.load(picture) if isinstance(picture, Image.Image) else np.ascontiguousarray(picture)
    return hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes()).hexdigest()


def packed(page: Page) -> dict[str, NDArray[Any]]:
    """A page as arrays; those of its lines one after the other."""
    lines = page.lines
    return {
        "text": np.frombuffer("".join(line.text for line in lines).encode(), np.uint8),
        "lengths": np.array([len(line.text) for line in lines], np.int32),
        "rows": np.array([line.row for line in lines], np.int32),
        "corners": np.array([line.corners for line in lines], np.float32).reshape(-1, 4, 2),
        "confidence": np.concatenate([np.zeros(0, np.float32), *(line.confidence for line in lines)]),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(line.boxes for line in lines)]),
        **({"features": np.concatenate([line.features for line in lines])} if lines else {}),
    }


def unpacked(arrays: dict[str, NDArray[Any]]) -> Page:
    """The page again. Raises ValueError, KeyError where arrays do not fit together."""
    text = arrays["text"].tobytes().decode()
    ends = np.cumsum(arrays["lengths"])
    if len(text) != (int(ends[-1]) if len(ends) else 0):
        raise ValueError("a page's text is not as long as its lines")
    if not len(ends):
        return Page(())
    by_line = [np.split(arrays[name], ends[:-1]) for name in ("confidence", "boxes", "features")]
    starts = np.append(0, ends[:-1])
    pieces = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    found = zip(pieces, arrays["rows"].tolist(), arrays["corners"], *by_line, strict=True)
    return Page(tuple(Line(*one) for one in found))
