"""Rows for a folder of pictures, to be filled in: the questions stand there, the answers are empty.

Every new picture is decoded, so that a damaged one is named before anybody writes its answer, and the bytes of all are
hashed, so that none is there twice: tens of milliseconds for a photograph.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import ImagePart
from vitrail.data.config import JsonlConfig, Reading
from vitrail.data.dialects import dialects_of, to_messages
from vitrail.data.dialects.fields import FIELDS
from vitrail.data.dialects.media import TAG
from vitrail.data.sources.folder import files_in
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.media import image
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.native import NativeResolution

QUESTION = "What does the picture show?"
"""Asked when no question is given."""

SUFFIX = ".jsonl"
HELD_OUT_SUFFIX = ".held_out.jsonl"

Counting = Callable[[int], AbstractContextManager[Callable[[], None]]]
"""Progress of so many files; what it gives is called after each."""


@dataclass(frozen=True)
class TemplateConfig:
    """folder: of the pictures, at any depth. out: the file to write. held_out: share of the pictures that go to a
    second file; 0 for none, None for not said. questions: of every picture; () for those of `out`, or else QUESTION.
    fields: what to read off every picture, as JSON; instead of questions. add: to files that may be there already.
    """

    folder: Path
    out: Path
    held_out: float | None = None
    questions: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    add: bool = False

    def __post_init__(self) -> None:
        if self.out.suffix != SUFFIX:
            raise DataError(f"'{self.out}' must end in {SUFFIX}")
        if self.held_out is not None and not 0 <= self.held_out < 1:
            raise DataError(f"--held-out is a share, from 0 to less than 1, got {self.held_out:g}")
        if self.fields and self.questions:
            raise DataError("a picture is asked for fields or questions, not both")
        if len(set(self.fields)) != len(self.fields) or not all(name.strip() for name in self.fields):
            raise DataError(f"fields need names, each its own: got {', '.join(map(repr, self.fields))}")
        for question in self.questions:
            if not question.strip():
                raise DataError("a question is empty")
            if TAG in question:
                raise DataError(f"a question must not hold {TAG}: the picture comes before it by itself")

    @property
    def held_out_file(self) -> Path:
        """`my.held_out.jsonl` beside `my.jsonl`."""
        return self.out.with_suffix(HELD_OUT_SUFFIX)


@dataclass(frozen=True)
class Template:
    """What was written. pictures: how many are new in each file. left_out: a line for each picture that is not there.

    others: files that are no pictures, counted by suffix.
    """

    pictures: Mapping[Path, int]
    left_out: Sequence[str]
    others: Mapping[str, int]


@contextmanager
def _unwatched(files: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def write_template(config: TemplateConfig, counting: Counting = _unwatched) -> Template:
    """Writes a line a picture, and of held-out pictures a line a question: there the last answer alone is scored.

    Which pictures are held out follows from their names in the folder: more pictures or a larger share move none back.
    Raises DataError for files that are there already (unless `add`), a folder without usable pictures, a share that
    leaves one of the files empty, and files that cannot be read: all before anything is written.
    """
    there = _There.read(config)
    files = files_in(config.folder)
    look = _Look(config.folder, there)
    with counting(len(files)) as on_file:
        for name in files:
            look.at(name)
            on_file()
    if not look.found and not there.pictures:
        seen = f"; {len(look.left_out)} cannot be used, the first: {look.left_out[0]}" if look.left_out else ""
        seen += f"; other files: {counted(look.others)}" if look.others else ""
        raise DataError(f"'{config.folder}' holds no picture{seen}")
    share = config.held_out or 0.0
    names: dict[Path, list[str]] = {config.out: [], config.held_out_file: []}
    for name in look.found:
        names[config.held_out_file if is_held_out(name, share) else config.out].append(name)
    if not share:
        del names[config.held_out_file]
    for path, chosen in names.items():
        if not chosen and not path.exists():
            raise DataError(
                f"with --held-out {share:g}, none of {len(look.found)} pictures is for '{path}'; choose another share"
            )
    fields = () if config.questions else config.fields or there.fields
    questions = config.questions or there.questions or (QUESTION,)
    for path, chosen in names.items():
        make = held_out_rows if path == config.held_out_file else train_rows
        rows = []
        for name in chosen:
            picture = _named(config.folder, name, path)
            rows += [field_row(picture, fields)] if fields else make(name, picture, questions)
        _write(path, rows)
    return Template({path: len(chosen) for path, chosen in names.items()}, look.left_out, look.others)


def is_held_out(name: str, share: float) -> bool:
    """Whether a picture of that name, relative to its folder, is one of the share."""
    return _draw(name, "held out") < share


def counted(others: Mapping[str, int]) -> str:
    """`2 .pdf, 1 .txt`."""
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))


def train_rows(name: str, picture: str, questions: Sequence[str]) -> list[dict[str, Any]]:
    """One row with every question. Another question comes first from picture to picture.

    Were it always the same one, a model could tell from the place of an answer what was asked.
    """
    first = int(_draw(name, "first question") * len(questions))
    return [_row(picture, [*questions[first:], *questions[:first]])]


def held_out_rows(name: str, picture: str, questions: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each question, which is its kind as well where there are several."""
    kinds = [{"kind": question} for question in questions] if len(questions) > 1 else [{}]
    return [{**kind, **_row(picture, [question])} for kind, question in zip(kinds, questions, strict=True)]


def field_row(picture: str, fields: Sequence[str]) -> dict[str, Any]:
    """A row that asks for fields, all of them at once; they are scored each by itself."""
    return {"images": [picture], FIELDS: dict.fromkeys(fields, "")}


def _row(picture: str, questions: Sequence[str]) -> dict[str, Any]:
    messages = []
    for number, question in enumerate(questions):
        messages.append({"role": "user", "content": question if number else f"{TAG}\n{question}"})
        messages.append({"role": "assistant", "content": ""})
    return {"images": [picture], "messages": messages}


@dataclass
class _There:
    """What the files hold already: pictures as real paths, the digests of their bytes, and what is asked."""

    pictures: set[str] = field(default_factory=set)
    digests: dict[bytes, str] = field(default_factory=dict)
    questions: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @classmethod
    def read(cls, config: TemplateConfig) -> _There:
        """Raises DataError for files that are in the way, or to which nothing can be added."""
        there = cls()
        for path in (config.out, config.held_out_file):
            if not path.exists():
                continue
            if not config.add:
                raise DataError(f"'{path}' exists already; --add appends the pictures that are not in it yet")
            if path == config.held_out_file and config.held_out is None:
                raise DataError(f"'{path}' exists: say --held-out SHARE again (0 keeps all new pictures out of it)")
            there._take(path)
        return there

    def _take(self, path: Path) -> None:
        # Whose rows these are has said which folder of pictures to look through.
        source = JsonlSource(JsonlConfig(path, allow_outside=True))
        dialects = dialects_of(source)
        if not source.appendable or set(dialects) not in ({"tags"}, {FIELDS}):
            found = f"the dialect {', '.join(dialects)}" if source.appendable else "a JSON list, a table or the like"
            raise DataError(f"'{path}' is {found}; lines of the dialects tags and fields can be added to, nothing else")
        for index in range(len(source)):
            # A line that cannot be read may hold any picture, so its error is not caught.
            row = source.row(index)
            messages = to_messages(row, Reading("auto", ignore_keys=("*",)))
            if FIELDS in dialects:
                self.fields = self.fields or tuple(row.fields[FIELDS])
            else:
                self.questions = self.questions or tuple(one.text.strip() for one in messages if one.role == "user")
            for part in (part for message in messages for part in message.parts):
                if isinstance(part, ImagePart):
                    self._know(part)

    def _know(self, part: ImagePart) -> None:
        if isinstance(part.image, bytes):
            self.digests.setdefault(hashlib.sha256(part.image).digest(), "a picture inside a row")
        elif isinstance(part.image, Path):
            self.pictures.add(os.path.realpath(part.image))
            if part.image.is_file():  # else it is missing, which training will say
                self.digests.setdefault(_digest(part.image), image.describe(part.image))


@dataclass
class _Look:
    """Sorts the files of a folder. found: names of new pictures."""

    folder: Path
    there: _There
    found: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)

    def at(self, name: str) -> None:
        path = self.folder / name
        if os.path.realpath(path) in self.there.pictures:
            return
        try:
            height, width, _ = image.load(path).shape
            NativeResolution(NativeResolutionConfig()).views(width, height)
            digest = _digest(path)
        except MediaError as error:
            said, told = str(error), image.describe(path)
            if path.suffix.lower() in _picture_suffixes():
                self.left_out.append(said if told in said else f"{told}: {said}")
            else:
                suffix = path.suffix.lower() or "without suffix"
                self.others[suffix] = self.others.get(suffix, 0) + 1
            return
        if digest in self.there.digests:
            self.left_out.append(f"{image.describe(path)} is the same file as {self.there.digests[digest]}")
        else:
            self.there.digests[digest] = image.describe(path)
            self.found.append(name)


def _picture_suffixes() -> set[str]:
    """Of every format that Pillow opens."""
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _digest(path: Path) -> bytes:
    """Raises MediaError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise MediaError(f"{image.describe(path)} cannot be read: {error.strerror}") from error


def _draw(name: str, what: str) -> float:
    """From 0 to 1, by a hash of the name: the same on every machine, however its file system spells accents."""
    text = f"{what} {unicodedata.normalize('NFC', name)}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    # Six bytes: any float below 1 stays below it.
    return int.from_bytes(digest[:6], "big") / 2**48


def _named(folder: Path, name: str, file: Path) -> str:
    """A picture as seen from the file's folder. Links are resolved first: `..` leads up from where they lead to."""
    path = folder.resolve() / name
    try:
        named = Path(os.path.relpath(path, file.parent.resolve())).as_posix()
    except ValueError:  # on another drive
        return path.as_posix()
    # What begins so would be read as a picture inside the row.
    return f"./{named}" if named.startswith("data:") else named


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends, or makes the file. Lines that are there are not touched."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # A file name that is no UTF-8 holds half a surrogate pair; it is written as JSON writes it.
    data = text.encode("utf-8", "backslashreplace")
    if not data:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                data = data if file.read(1) == b"\n" else b"\n" + data
            file.write(data)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error.strerror or error}") from error
