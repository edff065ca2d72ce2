"""Files of rows: every row by its number, and one line that names the file and the line of a bad one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vitrail.contracts.errors import DataError
from vitrail.data.config import DataConfig, JsonlConfig, PackConfig
from vitrail.data.sources import JsonlSource

ROWS: list[dict[str, Any]] = [{"id": "a", "n": 1}, {"n": 2, "text": "é\u2028x"}, {"id": None}, {"id": 0}]


def opened(path: Path, data: str | bytes, **settings: Any) -> JsonlSource:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return JsonlSource(JsonlConfig(path, **settings))


def refusal(path: Path, data: str | bytes, index: int | None = None) -> str:
    """What is said when the file is opened, or when one of its rows is read."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    if index is None:
        with pytest.raises(DataError) as caught:
            JsonlSource(JsonlConfig(path))
    else:
        source = JsonlSource(JsonlConfig(path))
        with pytest.raises(DataError) as caught:
            source.row(index)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


def lines(rows: list[dict[str, Any]], end: str = "\n") -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


def fields(source: JsonlSource) -> list[Any]:
    return [source.row(index).fields for index in range(len(source))]


# What is read


@pytest.mark.parametrize(
    "data",
    [
        lines(ROWS),
        lines(ROWS).rstrip("\n"),
        lines(ROWS, "\r\n"),
        lines(ROWS, "\n\n  \n"),
        "\n\n" + lines(ROWS),
        "\ufeff" + lines(ROWS),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\ufeff \n" + json.dumps(ROWS, ensure_ascii=False),
    ],
    ids=["plain", "no last newline", "crlf", "blank lines", "blank start", "bom", "list", "pretty list", "bom list"],
)
def test_lines_and_lists_are_the_same_rows(tmp_path: Path, data: str) -> None:
    source = opened(tmp_path / "my.jsonl", data)
    assert len(source) == len(ROWS)
    assert fields(source) == ROWS
    assert source.name == "my"


def test_rows_know_their_line(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    source = opened(path, "\n" + lines(ROWS[:2]) + "\n \n" + lines(ROWS[2:]))
    rows = [source.row(index) for index in range(4)]
    assert [row.place for row in rows] == [f"{path}:{number}" for number in (2, 3, 6, 7)]
    assert [row.id for row in rows] == ["a", "my.jsonl:3", "my.jsonl:6", "0"]


def test_rows_of_a_list_know_their_number(tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    source = opened(path, json.dumps(ROWS))
    rows = [source.row(index) for index in range(4)]
    assert [row.place for row in rows] == [f"{path}[{number}]" for number in range(4)]
    assert [row.id for row in rows] == ["a", "my.json[1]", "my.json[2]", "0"]


@pytest.mark.parametrize("as_list", [False, True])
def test_rows_come_by_number_in_any_order(tmp_path: Path, as_list: bool) -> None:
    many = [{"n": number, "pad": "x" * (number % 7)} for number in range(50)]
    source = opened(tmp_path / "my.jsonl", json.dumps(many) if as_list else lines(many))
    for index in (49, 0, 17, 17, 3, 48):
        assert source.row(index).fields == many[index]


def test_only_the_first_rows_when_asked(tmp_path: Path) -> None:
    for data in (lines(ROWS), json.dumps(ROWS)):
        assert fields(opened(tmp_path / "my.jsonl", data, rows=2)) == ROWS[:2]
        assert fields(opened(tmp_path / "my.jsonl", data, rows=99)) == ROWS


def test_pictures_lie_beside_the_file_or_where_the_recipe_says(tmp_path: Path) -> None:
    assert opened(tmp_path / "my.jsonl", lines(ROWS)).row(0).folder == tmp_path
    elsewhere = tmp_path / "pictures"
    assert opened(tmp_path / "my.jsonl", lines(ROWS), pictures=elsewhere).row(0).folder == elsewhere


# What is refused


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "gone.jsonl", "does not exist"), (tmp_path, "is not a file")):
        with pytest.raises(DataError) as caught:
            JsonlSource(JsonlConfig(path))
        assert str(caught.value) == f"data file '{path}' {said}"


@pytest.mark.parametrize("data", ["", "\n\n", " \r\n\t", "[]"])
def test_a_file_without_rows(tmp_path: Path, data: str) -> None:
    path = tmp_path / "my.jsonl"
    assert refusal(path, data) == f"data file '{path}' has no rows"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"a": 1,}', "not JSON: "),
        ('{"a": "x', "not JSON: Unterminated string starting at (column 7)"),
        ("hello", "not JSON: Expecting value (column 1)"),
        (b'{"a": "\xff\xfe"}', "not JSON: "),
        (b"\x00\x01\x02", "not JSON: "),
        ('{"a": ' + "[" * 100_000, "not JSON: "),
        ("5", "a row must be a JSON object, got int"),
        ("null", "a row must be a JSON object, got NoneType"),
        ("[1, 2]", "a row must be a JSON object, got list"),
    ],
    ids=["comma", "breaks off", "text", "latin", "binary", "deep", "number", "null", "list"],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path: Path, line: str | bytes, said: str) -> None:
    path = tmp_path / "my.jsonl"
    bad = line.encode() if isinstance(line, str) else line
    data = b'{"n": 1}\n\n' + bad + b'\n{"n": 4}\n'
    assert refusal(path, data, 1).startswith(f"{path}:3: {said}")
    source = JsonlSource(JsonlConfig(path))
    assert [source.row(0).fields, source.row(2).fields] == [{"n": 1}, {"n": 4}]


@pytest.mark.parametrize("data", ["[1, 2", '[{"a": 1},]', "[" * 100_000, b'[{"a": "\xff"}]', '[{"a": 1}] {"b": 2}'])
def test_a_broken_list_is_named(tmp_path: Path, data: str | bytes) -> None:
    path = tmp_path / "my.json"
    assert refusal(path, data).startswith(f"{path}: not JSON: ")


def test_an_item_of_a_list_that_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    assert refusal(path, '[{"a": 1}, 5]', 1) == f"{path}[1]: a row must be a JSON object, got int"


def test_a_file_that_goes_away_is_an_error_of_the_row(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    source = opened(path, lines(ROWS))
    path.unlink()
    with pytest.raises(DataError, match=r"my\.jsonl:2: cannot be read: No such file"):
        source.row(1)


# What a recipe may say


def test_a_plain_path_is_a_source() -> None:
    assert JsonlConfig.from_scalar("my.jsonl") == JsonlConfig(Path("my.jsonl"))


def test_settings_that_make_no_sense_are_refused() -> None:
    source = JsonlConfig(Path("my.jsonl"))
    with pytest.raises(ValueError, match="rows must be"):
        JsonlConfig(Path("my.jsonl"), rows=-1)
    for name in ("length", "patches", "window"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            PackConfig(**{name: 0})
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="max_lost is a share"):
            DataConfig(source, max_lost=share)
    assert DataConfig(source, max_lost=0).max_lost == 0
    assert DataConfig(source, max_lost=1).max_lost == 1
