"""The run log: one JSON object a step, in `<run>/log.jsonl`. A resumed run drops what its checkpoint does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class RunLog:
    """Appends records; every record has `stage_number` and `step`."""

    def __init__(self, path: Path, stage: int, step: int) -> None:
        """Keeps the records up to step `step` of stage `stage`, steps counting from 1, and goes on after them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read(path) if (record["stage_number"], record["step"]) <= (stage, step)]
        # Written beside and renamed: a kill must not cost the records that are there.
        making = path.with_suffix(".part")
        making.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        making.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record, at once."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Ends the log."""
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line torn by a kill is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
