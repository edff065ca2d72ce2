"""Which split a file of a folder belongs to, by its name and the folders it lies in, and the choice among several.

Words are those of `datasets`: train, training; validation, valid, val, dev; test, testing, eval, evaluation; and
held_out, holdout. They count as a folder's name (`train/cat`, `val2017`), or as a word of the name of a file of rows
(`cc3m-train-0003.tar`); of a picture only where numbers alone follow (`test_0001.png`). The outermost one decides. The
splits of a shard `NAME-00000-of-00004` whose name holds such a word are its whole name (`test_sft`).
Source of the words: datasets 4, `data_files.py`, `SPLIT_KEYWORDS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import PurePosixPath

from vitrail.contracts.errors import DataError, nearest

ALL = "all"
"""What a source says to have every split."""

WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("heldout", "holdout"), "held_out"),
}
SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
NUMBERED = re.compile(r"([A-Za-z]+(?:_out)?)[\W_]*\d+")

Named = Callable[[str], str | None]
"""A name relative to the source's folder, with `/`, to the split that it says, None for none."""


def split_of_rows(name: str) -> str | None:
    """Of a file of rows: by its folders, then by its own name."""
    path = PurePosixPath(name)
    return split_of_folder(str(path.parent)) or _of_file(path.name)


def split_of_picture(name: str) -> str | None:
    """Of a picture: by its folders, then by a name that is a split's word and numbers."""
    folder, _, file = name.rpartition("/")
    numbered = NUMBERED.fullmatch(file.rpartition(".")[0])
    return split_of_folder(folder) or (word(numbered[1]) if numbered else None)


@lru_cache(maxsize=4096)
def split_of_folder(folder: str) -> str | None:
    """Of a folder, which is known by one word, perhaps with a year or a number: `train`, `val2017`, `test-1`."""
    return next(filter(None, (word(re.sub(r"[\W_]*\d+$", "", name)) for name in folder.split("/"))), None)


def without_split(folder: str) -> str:
    """A folder's name without the part that says its split: what is left says something else, such as a class."""
    parts = folder.split("/") if folder else []
    told = next((part for part in parts if split_of_folder(part)), None)
    if told is not None:
        parts.remove(told)
    return "/".join(parts)


def word(said: str) -> str | None:
    """The split that a word means, as `datasets` calls it."""
    return WORDS.get(re.sub(r"[\W_]+", "", said).lower())


def _of_file(name: str) -> str | None:
    stem = name.rpartition(".")[0] or name
    words = re.findall(r"[a-z]+", re.sub(r"(?i)held[\W_]?out", "heldout", stem).lower())
    found = next(filter(None, map(word, words)), None)
    shard = SHARD.fullmatch(stem)
    if not found or not shard:
        return found
    # cc3m-train-00000-of-00004 is of `train`, test_sft-00000-of-00004 of `test_sft`.
    own = shard[1].rpartition("-")[2]
    return word(own) or (own if any(map(word, re.findall(r"[a-z]+", own.lower()))) else found)


def chosen(names: Sequence[str], split: str | None, where: str, named: Named) -> list[str]:
    """The names of the split that was asked for, in their order; without one, all, where they are of one split.

    split: `all` for whatever is there. where: the source, for messages. Raises DataError for several splits of which
    none was named, and for one that is not there.
    """
    if split == ALL:
        return list(names)
    of = [named(name) for name in names]
    there = sorted({one for one in of if one is not None})
    if split is None:
        check_one(there, where)
        return list(names)
    if not there and split_of_folder(PurePosixPath(where).name) == (word(split) or split):
        return list(names)  # the path leads into the split
    wanted = asked(split, there, where)
    return [name for name, one in zip(names, of, strict=True) if one == wanted]


def check_one(there: Iterable[str], where: str) -> None:
    """Raises DataError where there are several splits, none of which was named."""
    there = list(there)
    if len(there) > 1:
        raise DataError(
            f"'{where}' holds several splits: {', '.join(there)}; say which with `split:`, or `split: {ALL}` to have "
            "all of them"
        )


def asked(split: str, there: Iterable[str], where: str) -> str:
    """The split as it is called there. Raises DataError for one that is not there."""
    there = list(there)
    found = split if split in there else word(split)
    if found in there:
        assert found is not None, "it is in the list"
        return found
    if not there:
        raise DataError(f"'{where}' has no file or folder whose name says a split, and `split: {split}` is asked for")
    raise DataError(f"'{where}' has no split '{split}'{nearest(split, there)}; it holds: {', '.join(there)}")
