"""Files of rows: every row by its number, and one line that names the file and the line of a bad one."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import DataError
from vitrail.data.config import DataConfig, JsonlConfig, PackConfig
from vitrail.data.sources.config import ParquetConfig, WebDatasetConfig
from vitrail.data.sources.jsonl import JsonlSource

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
    assert [row.location for row in rows] == [f"{path}:{number}" for number in (2, 3, 6, 7)]
    assert [row.id for row in rows] == ["a", "my.jsonl:3", "my.jsonl:6", "0"]


def test_rows_of_a_list_know_their_number(tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    source = opened(path, json.dumps(ROWS))
    rows = [source.row(index) for index in range(4)]
    assert [row.location for row in rows] == [f"{path}[{number}]" for number in range(4)]
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


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(["", "\n", " \r\n\n"]), st.text(max_size=30)), min_size=1, max_size=70),
    most=st.integers(0, 80),
    data=st.data(),
)
def test_every_row_of_any_file_is_found(rows: list[tuple[str, str]], most: int, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        written = "".join(blank + json.dumps({"n": n, "said": said}) + "\n" for n, (blank, said) in enumerate(rows))
        source = pickle.loads(pickle.dumps(opened(Path(folder) / "my.jsonl", written, rows=most)))
        count = min(len(rows), most) if most else len(rows)
        assert len(source) == count
        for index in data.draw(st.permutations(range(count))):
            row = source.row(index)
            assert row.fields == {"n": index, "said": rows[index][1]}
            number = int(row.location.rpartition(":")[2])
            assert json.loads(written.split("\n")[number - 1]) == row.fields
        with pytest.raises(IndexError):
            source.row(count)


def test_neighbours_are_read_together_and_only_the_last_ones_stay(tmp_path: Path) -> None:
    source = opened(tmp_path / "my.jsonl", lines([{"n": n, "pad": "x" * 300_000} for n in range(64)]))
    assert source.block == 16
    assert [source.row(index).fields["n"] for index in range(64)] == list(range(64))
    assert len(pickle.dumps(source)) < 10_000, "what was read does not travel to worker processes"
    (tmp_path / "my.jsonl").unlink()
    assert [source.row(index).fields["n"] for index in (63, 48)] == [63, 48]
    with pytest.raises(DataError, match="row 47: cannot be read"):
        source.row(47)


@pytest.mark.long
def test_a_million_rows_take_the_memory_of_ten_thousand(tmp_path: Path) -> None:
    script = """
import random, sys
from pathlib import Path
from vitrail.data.dialects import to_conversation
from vitrail.data.order import rows_at
from vitrail.data.sources.config import JsonlConfig
from vitrail.data.sources.config import ParquetConfig, WebDatasetConfig
from vitrail.data.sources.jsonl import JsonlSource
source = JsonlSource(JsonlConfig(Path(sys.argv[1])))
for start in range(0, 9728, 512):
    for index in random.Random(start).sample(rows_at(start, 512, len(source), source.block, 0, 0), 512):
        to_conversation(source.row(index), "sharegpt")
lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
print(next(line for line in lines if line.startswith("Anonymous:")).split()[1])
"""
    taken = {}
    for count in (10_000, 1_000_000):
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for n in range(count):
                turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": str(n)}]
                file.write(json.dumps({"image": f"{n:08d}.jpg", "conversations": turns}) + "\n")
        run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        taken[count] = int(run.stdout) / 1024
    # Of a process of 250 MB, which has torch and a tokenizer, a tenth is 25.
    assert taken[1_000_000] - taken[10_000] < 5, taken


# What is refused


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"data file '{tmp_path / 'gone.jsonl'}' does not exist"):
        JsonlSource(JsonlConfig(tmp_path / "gone.jsonl"))
    with pytest.raises(DataError, match=f"'{tmp_path}' holds no file ending in .jsonl or .ndjson or"):
        JsonlSource(JsonlConfig(tmp_path))


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
        (b'{"a": "\xff\xfe"}', "not UTF-8 (byte 0xff); if it is in Latin-1"),
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


@pytest.mark.parametrize("data", ["[1, 2", '[{"a": 1},]', "[" * 100_000, '[{"a": 1}] {"b": 2}'])
def test_a_broken_list_is_named(tmp_path: Path, data: str | bytes) -> None:
    path = tmp_path / "my.json"
    assert refusal(path, data).startswith(f"{path}: not JSON: ")


def test_an_item_of_a_list_that_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    assert refusal(path, '[{"a": 1}, 5]', 1) == f"{path}[1]: a row must be a JSON object, got int"


def test_a_file_that_becomes_shorter_is_an_error_of_the_row(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    source = opened(path, lines(ROWS))
    path.write_text(lines(ROWS[:2]))
    assert source.row(1).fields == ROWS[1]
    with pytest.raises(DataError, match=r"my\.jsonl, row 2: the file has become shorter since it was opened"):
        source.row(2)


def test_a_file_that_goes_away_is_an_error_of_the_row(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    source = opened(path, lines(ROWS))
    path.unlink()
    with pytest.raises(DataError, match=r"my\.jsonl, row 1: cannot be read: No such file"):
        source.row(1)


# What a recipe may say


def test_a_plain_path_is_a_source() -> None:
    assert JsonlConfig.from_scalar("my.jsonl") == JsonlConfig(Path("my.jsonl"))
    assert JsonlConfig.from_scalar("my.parquet") == ParquetConfig(Path("my.parquet"))
    assert JsonlConfig.from_scalar("my.tar") == WebDatasetConfig(Path("my.tar"))


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
