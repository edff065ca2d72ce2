"""Which folders of the root no test reads: reported by name, never passed in silence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

READERS = {
    name
    for path in Path(__file__).parent.glob("test_*.py")
    for line in re.findall(r"^SYSTEMS? = (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    for name in re.findall(r'"(\w+)"', line)
}


def test_the_folder_has_a_reader(any_folder: Path) -> None:
    described = any_folder / "meta.json"
    if not described.is_file():
        pytest.skip(f"NOT COVERED: {any_folder.name} has no meta.json")
    meta = json.loads(described.read_text(encoding="utf-8"))
    if meta.get("system") not in READERS:
        pytest.skip(f"NOT COVERED: {any_folder.name} is of system '{meta.get('system')}', which no test here reads")
    cases = meta.get("cases") or meta.get("files") or list(any_folder.glob("case_*.safetensors"))
    assert cases, "a folder without cases shows nothing"
