"""Files of rows that are read as a whole: a JSON list, JSON objects over several lines, .csv and .tsv, UTF-16.

They are in memory while the source is open: about five times what they take on the disk, found in a second for 10 MB.
What no such file is, and no .jsonl either, is named here: another encoding, a compressed file, a table.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.data.sources.annotations import annotations_in

SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}
"""Of tables: what may stand between the cells; that of which the first line has most does."""

LARGEST_CELL = 1 << 30
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""How a file begins that says its encoding."""

OTHERS = {
    b"PAR1": "a parquet file: {kind: parquet, path: ...}",
    b"ARROW1": "an Arrow file: {kind: parquet, path: ...}",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstandard: unpack it first",
    b"PK\x03\x04": "a zip archive (or an .xlsx): unpack it, or save the table as .csv",
    codecs.BOM_UTF32_LE: "in UTF-32: iconv -f UTF-32 -t UTF-8 {path} > NEW",
    codecs.BOM_UTF32_BE: "in UTF-32: iconv -f UTF-32 -t UTF-8 {path} > NEW",
}
HEAD = 4096

Entry = tuple[str, Any]
"""Where a row stands, as ":LINE" or "[NUMBER]", and the row."""


def read_whole(path: Path, most: int) -> list[Entry] | None:
    """The rows, or None where the file has a row a line and need not be held. most: of a table, 0 for all.

    Raises DataError for a file that is neither.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    for start, said in OTHERS.items():
        if head.startswith(start):
            raise DataError(f"'{path}' is {said.replace('{path}', str(path))}")
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
    if encoding != "utf-16" and re.match(rb"(?:[ -~\t\r\n]\0|\0[ -~\t\r\n]){4}", head):
        byte_order = "LE" if head[1:2] == b"\0" else "BE"
        raise DataError(
            f"'{path}' is in UTF-16 without the mark that says so: iconv -f UTF-16{byte_order} -t UTF-8 {path} > NEW"
        )
    if path.suffix.lower() in SEPARATORS:
        return list(_table(_text(path, encoding), path, most))
    if is_list(path):
        return [(f"[{number}]", row) for number, row in enumerate(_list(_text(path, encoding), path))]
    annotations = annotations_in(path)
    if annotations is not None:
        return [(f"[{number}]", row) for number, row in enumerate(annotations)]
    if encoding != "utf-16" and not _begins_over_lines(head):
        return None
    text = _text(path, encoding)
    objects = _objects(text, path)
    if objects is not None:
        return objects
    return list(_lines(text, path)) if encoding == "utf-16" else None


def is_list(path: Path) -> bool:
    """Whether a file is one JSON list, and not a row a line."""
    with path.open("rb") as file:
        head = file.read(64)
    head = head.decode("utf-16", "ignore").encode() if head[:2] in MARKS else head
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    """What is said of bytes in another encoding: where, which it may be, and what to do."""
    return DataError(
        f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); if it is in Latin-1 or Windows-1252: "
        f"iconv -f WINDOWS-1252 -t UTF-8 {path} > NEW"
    )


def _text(path: Path, encoding: str) -> str:
    """The whole file."""
    try:
        return path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        if encoding.startswith("utf-8"):
            raise not_utf8(path, error.object.count(b"\n", 0, error.start) + 1, error) from error
        raise DataError(f"'{path}' begins as UTF-16 and goes on as something else: {error.reason}") from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error


def _list(text: str, path: Path) -> list[Any]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    assert isinstance(rows, list), "it begins as a list"
    return rows


def _begins_over_lines(head: bytes) -> bool:
    """Whether the first line that is not blank is the beginning of an object, and not one."""
    first = head.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")
    line = first[0].rstrip()
    if not line.startswith(b"{") or not first[1]:
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError) as error:
        # It breaks off where the line does, outside of any text.
        return isinstance(error, json.JSONDecodeError) and line[-1:] in b"{[,:" and error.pos >= len(error.doc) - 1
    return False


def _objects(text: str, path: Path) -> list[Entry] | None:
    """JSON values one after the other, however they are laid out; None where the first one is none."""
    decoder, found, at, line, counted = json.JSONDecoder(), list[Entry](), 0, 1, 0
    while (begin := _after_blanks(text, at)) < len(text):
        line, counted = line + text.count("\n", counted, begin), begin
        try:
            value, at = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            if not found:
                return None
            said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(f"{path}:{line}: not JSON: {said}, in the object that begins in this line") from error
        found.append((f":{line}", value))
    return found


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n\ufeff":
        at += 1
    return at


def _lines(text: str, path: Path) -> Iterator[Entry]:
    """A row a line, of a file that cannot be sought in."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f":{number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from error


def _table(text: str, path: Path, most: int) -> Iterator[Entry]:
    """Rows of cells under the names of the first line; an empty cell is nothing."""
    first = text.lstrip("\r\n").partition("\n")[0]
    separator = max(SEPARATORS[path.suffix.lower()], key=first.count)
    least = csv.field_size_limit(LARGEST_CELL)  # a cell may hold a picture, as text
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", delimiter=separator)
        names = reader.fieldnames or []
        if len(set(names)) < len(names):
            raise DataError(f"'{path}' has two columns of one name: {', '.join(names)}")
        for count, row in enumerate(reader):
            if 0 < most <= count:
                return
            yield f":{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"'{path}' cannot be read as a table: {error}") from error
    finally:
        csv.field_size_limit(least)
