"""The files that a path in a recipe stands for, sorted by name, and which names are pictures."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from vitrail.contracts.errors import DataError, MissingExtraError

PICTURES = frozenset(
    ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "jp2", "ico", "tga", "avif")
)
"""Endings of pictures, without their dot and in small letters."""


def is_picture(name: str) -> bool:
    """Whether a file's name ends as that of a picture."""
    return name.rpartition(".")[2].lower() in PICTURES


def is_pattern(path: str) -> bool:
    """Whether it may stand for several files; a file of that very name is no pattern."""
    return glob.has_magic(path) and not os.path.exists(path)


def files_of(path: Path, endings: Sequence[str]) -> list[Path]:
    """A file, the files of a folder (at any depth) with one of the endings, or those that a pattern matches.

    Raises DataError when there is none.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [one for one in path.rglob("*") if one.suffix.lower() in endings and one.is_file()]
        missing = f"'{path}' holds no file ending in {' or '.join(endings)}"
    elif is_pattern(str(path)):
        found = [Path(one) for one in glob.glob(str(path), recursive=True) if os.path.isfile(one)]
        missing = f"no file matches '{path}'"
    else:
        found, missing = [], f"data file '{path}' {'is not a file' if path.exists() else 'does not exist'}"
    if not found:
        raise DataError(missing)
    return sorted(found)


def one_line(error: BaseException) -> str:
    """What another library's error says, on one line and not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def missing_extra(what: str) -> MissingExtraError:
    """The line for a library that is not installed."""
    return MissingExtraError(f"{what} needs the datasets and pyarrow packages: pip install 'vitrail[data]'")
