"""Rows that wait for their answer: counted in every dialect, and only those."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vitrail.contracts.errors import DataError
from vitrail.data.config import JsonlConfig
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.data.unanswered import check_answered
from vitrail.synthetic.config import DrawnConfig
from vitrail.synthetic.source import DrawnSource

ASKED = {"role": "user", "content": "<image>\nWhat?"}


def tags(*answers: object) -> dict[str, Any]:
    turns = [turn for answer in answers for turn in (ASKED, {"role": "assistant", "content": answer})]
    return {"images": ["a.png"] * len(answers), "messages": turns}


def openai(content: object) -> dict[str, Any]:
    question = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": content}]}


def sharegpt(answer: str) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": answer}]}


DIALECTS: dict[str, Sequence[dict[str, Any]]] = {
    "tags": [tags("a"), tags(""), tags("a", " \t\n"), tags("a", "b")],
    "openai": [openai("a"), openai(""), openai([]), openai([{"type": "text", "text": "b"}])],
    "sharegpt": [sharegpt("a"), sharegpt(""), sharegpt("\n"), sharegpt("b")],
}


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_empty_answers_are_counted(tmp_path: Path, dialect: Any, as_list: bool) -> None:
    path = tmp_path / "my.jsonl"
    lines = [json.dumps(row) for row in DIALECTS[dialect]]
    path.write_text(json.dumps(DIALECTS[dialect]) if as_list else "\n\n".join(lines))
    source = JsonlSource(JsonlConfig(path))
    first = f"{path}[1]" if as_list else f"{path}:3"
    assert check_answered(source, dialect, 0.5) == f"2 of 4 rows unanswered, the first is {first}: left out"
    with pytest.raises(DataError, match=r"^2 of 4 rows unanswered, .*: write the answers, .*allows 49\.0%\)$"):
        check_answered(source, dialect, 0.49)
    with pytest.raises(DataError, match=r"^2 of 4 rows unanswered, .*: every held-out row needs its answer$"):
        check_answered(source, dialect, None)


def test_only_answers_count(tmp_path: Path, write_rows: Callable[[Path, Sequence[Any]], JsonlSource]) -> None:
    """Other fields may be empty, a question too; rows that cannot be read are somebody else's; so are rows not used."""
    silent = {"images": [], "kind": "", "messages": [{"role": "user", "content": ""}, tags("a")["messages"][1]]}
    rows = [silent, '{"content": ""', {"messages": [{"role": "nobody", "content": ""}]}, tags("a"), tags("")]
    write_rows(tmp_path / "my.jsonl", rows)
    assert check_answered(JsonlSource(JsonlConfig(tmp_path / "my.jsonl", rows=4)), "tags", None) == ""
    assert "1 of 5" in check_answered(JsonlSource(JsonlConfig(tmp_path / "my.jsonl")), "tags", 0.2)


def test_drawn_rows_are_not_drawn_for_it() -> None:
    assert check_answered(DrawnSource(DrawnConfig(rows=10**9)), "tags", None) == ""
