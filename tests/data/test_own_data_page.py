"""The page on one's own data shows rows and a recipe: they are read here as a user would have them read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from vitrail.contracts.messages import Row
from vitrail.data.config import DialectName, JsonlConfig
from vitrail.data.dialects import recognise, to_conversation
from vitrail.data.ledger import Event
from vitrail.data.sources.config import FilesConfig
from vitrail.evaluation.answers import question
from vitrail.recipe.read import read_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


ROWS = [json.loads(block) for block in blocks("json")]


def test_the_three_rows_are_one_conversation() -> None:
    rows = [Row("r", fields, Path("photos")) for fields in ROWS[:3]]
    assert [recognise(row) for row in rows] == ["openai", "sharegpt", "tags"]
    first, second, third = (to_conversation(row).messages for row in rows)
    assert first == second == third


def test_every_other_dialect_has_a_row_that_is_recognised() -> None:
    pieces = re.findall(r"\*\*(\w+)\*\*:(?:(?!\*\*\w+\*\*:).)*?```jsonl\n(.*?)```", PAGE, re.DOTALL)
    names = ["turns", "caption", "vqa", "fields", "alpaca", "completion", "interleaved", "preference"]
    assert [name for name, _ in pieces] == names
    for row in blocks("jsonl"):
        to_conversation(Row("r", json.loads(row), Path("photos")))
    for name, row in pieces:
        assert recognise(Row("r", json.loads(row))) == name
    known = set(get_args(DialectName)) - {"auto"}
    assert {name for name in known if f"**{name}**" in PAGE} == known


TABLE = re.findall(r"^\| (.+?) \| `(\{\".*\})` \| (\w+)", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("said", "dialect"), [pytest.param(row, dialect, id=name) for name, row, dialect in TABLE])
def test_every_row_of_the_table_of_toolkits_is_read(said: str, dialect: str) -> None:
    row = Row("r", json.loads(said), Path("photos"))
    assert recognise(row) == dialect
    conversation = to_conversation(row)
    assert conversation.messages[-1].role == "assistant"
    assert not any("<" in message.text for message in conversation.messages)
    assert bool(conversation.media) == (".png" in said)


def test_the_table_of_toolkits_is_whole() -> None:
    assert len(TABLE) >= 23
    shown = {dialect for _, _, dialect in TABLE}
    assert shown == set(get_args(DialectName)) - {"auto", "short_vqa"}


def test_every_kind_has_an_example_that_is_read(tmp_path: Path) -> None:
    kinds = []
    for example in re.findall(r"`(\{kind: .*?\})` \|", PAGE):
        (tmp_path / "mine.yaml").write_text(f"extends: demo\nrun: runs/mine\ndata:\n  train: {example}\n")
        kinds.append(type(read_recipe(str(tmp_path / "mine.yaml"), ()).value.data.train))
    assert tuple(kinds) == get_args(FilesConfig)


def test_the_ledgers_line_is_one() -> None:
    assert Event(**ROWS[3]).outcome == "unreadable"


def test_the_held_out_row_can_be_asked() -> None:
    asked, truths = question(Row("r", ROWS[4], Path("photos")), "auto")
    assert truths == ("12.50", "12.50 EUR")
    assert asked.kind == "total"
    assert asked.messages[-1].role == "user"


def test_the_recipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    data = read_recipe(str(tmp_path / "mine.yaml"), ()).value.data
    assert data.train == JsonlConfig(Path("receipts.jsonl"), pictures=Path("photos"))
    assert data.held_out == JsonlConfig(Path("receipts-held-out.jsonl"))
    assert (data.pack.length, data.pack.overlong, data.max_lost) == (2048, "truncate_text", 0.02)
