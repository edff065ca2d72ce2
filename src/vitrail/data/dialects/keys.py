"""What a row says, and which of it was read: nothing that a row says is dropped without a word.

A row's fields, its turns and its parts are asked through `Keys`, which note what they are asked for. When a row has
been read, every key that nobody asked for must be empty, a fact about the row, never said to the model (`FACTS`), or
named in the source's `ignore_keys`; else the row is refused by that key. So a key is understood when code reads it,
not because a list has it. A null is as good as no key: tables fill what a row lacks with nulls.

Columns whose values are lists or objects may hold JSON that spells them. Costs some 60 us a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from vitrail.contracts.errors import DataError, nearest
from vitrail.contracts.messages import Row
from vitrail.data.sources.config import Reading

LISTS = frozenset(
    (
        *("messages", "conversations", "texts", "history", "interleaved", "text_list", "image_info", "objects"),
        *("answers", "choices", "options", "images", "image", "videos", "audios"),
    )
)
"""Columns of lists or objects, which text in a table may spell as JSON."""

TURNS = frozenset(("prompt", "completion", "chosen", "rejected"))
"""Columns of turns or of text: JSON is read where it spells turns."""

SPELLED = LISTS | TURNS

FACTS = frozenset(
    (
        # Read where rows are chosen, scored and counted.
        *("id", "kind", "tag", "answers", "target", "synthetic"),
        # Where a row comes from.
        *("uid", "uuid", "guid", "idx", "index", "source", "data_source", "dataset", "dataset_name", "ds_name"),
        *("domain", "file", "url"),
        *("origin_dataset", "origin_split", "split", "data_split", "set_name", "subset", "version"),
        *("license", "license_id", "author", "annotator", "model", "timestamp", "date", "created", "metadata", "meta"),
        *("general_metadata", "__key__", "__url__"),
        # Of what sort it is.
        *("task", "task_type", "type", "category", "subject", "subfield", "topic", "topic_difficulty", "difficulty"),
        *("grade", "skill", "question_type", "question_types", "answer_type", "img_type", "lang", "language"),
        *("human_or_machine",),
        # What was measured of it.
        *("width", "height", "image_width", "image_height", "image_size", "size", "length", "score", "quality"),
        *("relevance_ratings", "relevance_min", "visual_dependency_ratings", "visual_dependency_min"),
        *("image_correspondence_ratings", "image_correspondence_min", "formatting_ratings", "formatting_min"),
        *("similarity_matrix", "could_have_url_duplicate"),
        *("ucsf_document_page_no", "num_turns", "turn"),
    )
)
"""Facts about a row: they go with it and are never said to the model. Names ending in `_id`, `Id` or `_ids` are too."""

TURN_FACTS = frozenset(
    (
        *("id", "source", "timestamp", "date", "model", "lang", "language"),
        *("answer_confidence", "matched_sim", "face_detections"),
    )
)
"""Facts about a turn, and what else stands within a row."""

_NAMES = re.compile(r"(?:^|_)ids?$|[a-z]Ids?$")
_MEDIA = re.compile(r"image|img|picture|photo|video|clip|audio|sound|frame|pixel", re.IGNORECASE)


class Keys(Mapping[str, Any]):
    """A mapping out of a row, which notes what it is asked for. Keys whose value is null are not there."""

    def __init__(self, given: Mapping[str, Any], reading: Reading, what: str = "") -> None:
        """what: it is called in messages; "" for the row itself."""
        self.given, self.reading, self.what = given, reading, what
        self._asked: set[str] = set()
        self._inner: dict[int, Keys] = {}
        self._spelled: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        self._asked.add(name)
        value = self.peek(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or `default` where there is none."""
        self._asked.add(name)
        value = self.peek(name)
        return default if value is None else value

    def __contains__(self, name: object) -> bool:
        return self.given.get(name) is not None  # type: ignore[call-overload]

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in self.given.items() if value is not None)

    def __len__(self) -> int:
        return sum(value is not None for value in self.given.values())

    def peek(self, name: str) -> Any:
        """The value, or None, for those who only want to know what it is."""
        value = self.given.get(name)
        if not isinstance(value, str) or name not in SPELLED or self.what:
            return value
        if name not in self._spelled:
            self._spelled[name] = _spelled(value, turns=name in TURNS)
        return self._spelled[name]

    def inside(self, given: Any, what: str) -> Keys:
        """A mapping that stands within this one; the same for the same mapping."""
        if isinstance(given, Keys):
            return given
        return self._inner.setdefault(id(given), Keys(given, self.reading, what))

    def unread(self) -> Iterator[tuple[Keys, str]]:
        """Every key that says something and that nobody asked for."""
        for name, value in self.given.items():
            if name not in self._asked and says(value):
                yield self, str(name)
        for one in self._inner.values():
            yield from one.unread()


def opened(row: Row, reading: Reading) -> Row:
    """The row as readers take it."""
    return row if isinstance(row.fields, Keys) else replace(row, fields=Keys(row.fields, reading))


def inside(given: Mapping[str, Any], row: Row, what: str) -> Keys:
    """A mapping that stands within an opened row. what: it is called in messages."""
    assert isinstance(row.fields, Keys), "a row is opened before it is read"
    return row.fields.inside(given, what)


def reading_of(row: Row) -> Reading:
    """How an opened row is read."""
    assert isinstance(row.fields, Keys), "a row is opened before it is read"
    return row.fields.reading


def says(value: Any) -> bool:
    """Whether a value says anything: not nulls, empty text, empty lists, or tables of these."""
    if value is None or (isinstance(value, str | bytes) and not value):
        return False
    if isinstance(value, Mapping):
        return any(map(says, value.values()))
    if isinstance(value, list | tuple):
        return any(map(says, value))
    return not (isinstance(value, float) and value != value)


def check_read(row: Row, known: Collection[str], *, media: bool) -> None:
    """Raises DataError, which names them, for keys of an opened row that nobody has read and nothing excuses.

    known: names that a misspelled one is compared with. media: whether the row has any: else a key that looks as if it
    named one is no mere fact.
    """
    fields = row.fields
    assert isinstance(fields, Keys), "a row is opened before it is read"
    where = row.location or row.id
    lost: list[tuple[Keys, str]] = []
    for holder, name in fields.unread():
        if ignored(name, fields.reading.ignore_keys) or (name in row.facts and not holder.what):
            continue
        if not media and not holder.what and _MEDIA.search(name):
            raise DataError(
                f"{where}: '{name}' looks as if it named a picture or another medium, and none was read: give it under "
                f"'image', 'images', 'video' or 'audio', or name '{name}' in the source's ignore_keys"
            )
        if not _about(name, inner=bool(holder.what)):
            lost.append((holder, name))
    if lost:
        names = list(dict.fromkeys(name for _, name in lost))
        said = ", ".join(dict.fromkeys(f"'{name}'{f' of {one.what}' if one.what else ''}" for one, name in lost))
        close = nearest(names[0], known) if not lost[0][0].what and names[0] not in known else ""
        verb = "is" if len(names) == 1 else "are"
        raise DataError(
            f"{where}: {_short(said)} {verb} not understood{close} in a row of this kind; what is to be left out must "
            f"be named: ignore_keys: [{_short(', '.join(names))}] of the source"
        )


def ignored(name: str, patterns: Collection[str]) -> bool:
    """Whether one of the patterns names it; `*` stands for any letters."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@lru_cache(maxsize=4096)
def _about(name: str, *, inner: bool) -> bool:
    return name in (TURN_FACTS if inner else FACTS) or _NAMES.search(name) is not None


def _spelled(text: str, *, turns: bool) -> Any:
    """What a text spells as JSON, or the text."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    several = found if isinstance(found, list) else [found]
    spoken = all(isinstance(one, dict) and ("role" in one or "from" in one) for one in several)
    return found if several and (spoken or not turns) else text


def _short(said: str) -> str:
    said = said if said.isprintable() else ascii(said)[1:-1]
    return said if len(said) <= 200 else said[:200] + "..."
