"""The files that a path in a recipe stands for, sorted by name, and which names are pictures.

Of a folder only the split that was asked for (`splits.py`), without hidden files and what `datasets` keeps beside its
own: `cache-*.arrow` are made from the data, and may hold any rows of any split.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError, MissingExtraError
from vitrail.data.sources.splits import ALL, asked, check_one, chosen, split_of_rows

PICTURES = frozenset(
    ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "jp2", "ico", "tga", "avif")
)
"""Endings of pictures, without their dot and in small letters."""

CACHE = re.compile(r"cache-[0-9a-z_]{6,}\.arrow")
"""Files that `datasets` makes while it maps and filters, beside those that it was given."""

SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
"""What `save_to_disk` writes into the folder of a data set, and into that of several splits."""

FACTS = frozenset((SAVED, SAVED_SPLITS, "dataset_info.json", "dataset_infos.json", "config.json"))
"""JSON files that say something of a data set and hold no rows."""


def is_picture(name: str) -> bool:
    """Whether a file's name ends as that of a picture."""
    return name.rpartition(".")[2].lower() in PICTURES


def is_pattern(path: str) -> bool:
    """Whether it may stand for several files; a file of that very name is no pattern."""
    return glob.has_magic(path) and not os.path.exists(path)


def files_of(path: Path, endings: Sequence[str], split: str | None = None) -> list[Path]:
    """A file, the files of a folder (at any depth) with one of the endings, or those that a pattern matches.

    split: that one's alone, as in `splits.chosen`. Raises DataError when there is none, or none that was asked for.
    """
    if path.is_file():
        chosen([path.name], split, str(path), split_of_rows)
        return [path]
    if path.is_dir():
        if (path / SAVED_SPLITS).is_file():
            return _saved_splits(path, endings, split)
        root, found = path, [one for one in path.rglob("*") if one.suffix.lower() in endings and one.is_file()]
        missing = f"'{path}' holds no file ending in {' or '.join(endings)}"
    elif is_pattern(str(path)):
        found = [Path(one) for one in glob.glob(str(path), recursive=True) if os.path.isfile(one)]
        root, missing = _before_pattern(path), f"no file matches '{path}'"
    else:
        root, found = path, []
        missing = f"data file '{path}' {'is not a file' if path.exists() else 'does not exist'}"
    names = {one.relative_to(root).as_posix(): one for one in found}
    kept = sorted(name for name in names if _is_data(name) and _is_saved(names[name]))
    if not kept:
        raise DataError(missing)
    return [names[name] for name in chosen(kept, split, str(path), split_of_rows)]


def _before_pattern(path: Path) -> Path:
    """The folder above the first part of a pattern that may stand for several."""
    fixed = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _is_data(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and not CACHE.fullmatch(parts[-1]) and parts[-1] not in FACTS


def _is_saved(path: Path) -> bool:
    """Whether a file is one of those that a saved data set consists of; true of any file elsewhere."""
    if path.suffix.lower() != ".arrow" or not (path.parent / SAVED).is_file():
        return True
    state = _facts(path.parent / SAVED)
    if state.get("_indices_data_files"):
        raise DataError(
            f"'{path.parent}' was saved with a selection of its rows beside it, by an old version of `datasets`: load "
            "it with that library and save it anew"
        )
    files = state.get("_data_files")
    if not isinstance(files, list) or not all(isinstance(one, dict) for one in files):
        raise DataError(f"'{path.parent / SAVED}' does not say which files the data set consists of")
    return path.name in {one.get("filename") for one in files}


def _saved_splits(path: Path, endings: Sequence[str], split: str | None) -> list[Path]:
    """The files of a saved DatasetDict, whose splits have any names."""
    names = _facts(path / SAVED_SPLITS).get("splits")
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        raise DataError(f"'{path / SAVED_SPLITS}' does not say which splits there are")
    if any(Path(name).name != name for name in names):
        raise DataError(f"'{path / SAVED_SPLITS}' names a split that is no folder beside it")
    if split is None:
        check_one(sorted(names), str(path))
    wanted = names if split in (None, ALL) else [asked(str(split), sorted(names), str(path))]
    return [file for name in wanted for file in files_of(path / name, endings, ALL)]


def _facts(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"'{path}' cannot be read: {one_line(error)}") from error
    return found if isinstance(found, dict) else {}


def one_line(error: BaseException) -> str:
    """What another library's error says, on one line and not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def missing_extra(what: str) -> MissingExtraError:
    """The line for a library that is not installed."""
    return MissingExtraError(f"{what} needs the datasets and pyarrow packages: pip install 'vitrail[data]'")
