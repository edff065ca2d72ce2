"""Files of rows that are no .jsonl: tables, objects over lines, other encodings; read, or named with a way out."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pytest

from vitrail.contracts.errors import DataError
from vitrail.data.sources.config import JsonlConfig
from vitrail.data.sources.jsonl import JsonlSource

ROWS = [
    {"image": "0.png", "question": "Quelle couleur ?", "answer": "doré"},
    {"image": "1.png", "question": "a,b\nc;d", "answer": "é"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def opened(path: Path, data: str | bytes) -> JsonlSource:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return JsonlSource(JsonlConfig(path))


def rows(source: JsonlSource) -> list[dict[str, object]]:
    return [dict(source.row(index).fields) for index in range(len(source))]


def refusal(path: Path, data: str | bytes) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, data)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables(tmp_path: Path, ending: str, mark: str, separator: str) -> None:
    if ending == "tsv" and separator != "\t":
        pytest.skip("a .tsv has tabs")
    cells = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
    quoted = (separator.join(f'"{cell}"' for cell in line) for line in cells)
    source = opened(tmp_path / f"my.{ending}", mark + "\r\n".join(quoted))
    assert rows(source) == ROWS
    assert source.row(0).location == f"{tmp_path}/my.{ending}:2"


def test_a_cell_that_holds_nothing_is_no_cell(tmp_path: Path) -> None:
    assert rows(opened(tmp_path / "my.csv", "image,system,text\n0.png,,x\n")) == [{"image": "0.png", "text": "x"}]
    long = "x" * 300_000
    assert rows(opened(tmp_path / "my.csv", f"image\n{long}\n")) == [{"image": long}], "a picture as text"
    with pytest.raises(DataError, match=r"my\.csv:2: has another number of cells than the first line"):
        opened(tmp_path / "my.csv", "image,text\n0.png\n").row(0)
    assert refusal(tmp_path / "my.csv", "text,text\nx,y\n").endswith("has two columns of one name: text, text")


@pytest.mark.parametrize("name", ["my.json", "my.jsonl"])
@pytest.mark.parametrize("between", ["\n", "\n\n  ", "\r\n"])
def test_objects_over_several_lines(tmp_path: Path, name: str, between: str) -> None:
    source = opened(tmp_path / name, between.join(json.dumps(row, indent=2, ensure_ascii=False) for row in ROWS))
    assert rows(source) == ROWS
    assert source.row(1).location == f"{tmp_path}/{name}:{6 if between.count(chr(10)) == 1 else 7}"
    assert len(JsonlSource(JsonlConfig(tmp_path / name, rows=1))) == 1


def test_objects_that_break_off_are_named_by_their_line(tmp_path: Path) -> None:
    text = json.dumps(ROWS[0], indent=2) + "\n" + json.dumps(ROWS[1], indent=2)[:-10]
    assert refusal(tmp_path / "my.json", text).startswith(f"{tmp_path}/my.json:6: not JSON: ")
    # A first line that breaks off is a bad row, not the beginning of a file of another kind.
    source = opened(tmp_path / "my.jsonl", '{"a": {\n{"a": 1}\n{"a": 2}\n')
    assert (len(source), source.row(2).fields) == (3, {"a": 2})


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
@pytest.mark.parametrize("text", [LINES, json.dumps(ROWS), json.dumps(ROWS[0], indent=1) + json.dumps(ROWS[1])])
def test_utf_16_that_says_so(tmp_path: Path, text: str, mark: bytes) -> None:
    coding = "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"
    assert rows(opened(tmp_path / "my.jsonl", mark + text.encode(coding))) == ROWS


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("name", ["my.jsonl", "my.json", "my.csv"])
def test_another_encoding_is_named_with_what_to_do(tmp_path: Path, encoding: str, name: str) -> None:
    text = {"my.jsonl": LINES, "my.json": json.dumps(ROWS, ensure_ascii=False, indent=1), "my.csv": "text\né\né\n"}[
        name
    ]
    said = refusal(tmp_path / name, text.encode(encoding))
    assert "not UTF-8 (byte 0xe9); if it is in Latin-1 or Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 " in said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (LINES.encode("utf-16-le"), "is in UTF-16 without the mark that says so: iconv -f UTF-16LE -t UTF-8 "),
        (codecs.BOM_UTF32_LE + LINES.encode("utf-32-le"), "is in UTF-32: iconv -f UTF-32 "),
        (gzip.compress(LINES.encode()), "is compressed with gzip: unpack it first"),
        (b"PAR1" + bytes(100), "is a parquet file: {kind: parquet, path: ...}"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive (or an .xlsx)"),
    ],
)
def test_what_is_no_file_of_rows_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    assert refusal(tmp_path / "my.jsonl", data).startswith(f"'{tmp_path}/my.jsonl' {said}")


def test_several_files_are_one_source(tmp_path: Path) -> None:
    parts = [range(20), range(20, 23), range(23, 60)]
    for number, part in enumerate(parts):
        (tmp_path / f"{number}").mkdir()
        path = tmp_path / f"{number}" / "rows.jsonl"
        path.write_text("".join(json.dumps({"n": n}) + "\n" for n in part))
    source = JsonlSource(JsonlConfig(tmp_path))
    assert [source.row(index).fields["n"] for index in range(60)] == list(range(60))
    assert (source.row(21).folder, source.row(21).location) == (tmp_path / "1", f"{tmp_path}/1/rows.jsonl:2")
    assert len(JsonlSource(JsonlConfig(tmp_path, rows=21))) == 21
