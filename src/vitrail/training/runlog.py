"""The run log: one JSON object a step, in `<run>/log.jsonl`. A resumed run drops what its checkpoint does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vitrail.disk import Lines


class RunLog:
    """Appends records; every record has `stage_number` and `step`."""

    def __init__(self, path: Path, stage: int, step: int) -> None:
        """Keeps the records up to step `step` of stage `stage`, steps counting from 1, and goes on after them."""
        self._lines = Lines(path, _known(path, stage, step))

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record, at once and whole. Raises OSError where it does not fit."""
        self._lines.write(json.dumps(record) + "\n")

    def sync(self) -> None:
        """Brings the records to the disk: a checkpoint must not know of steps that a power cut takes from the log."""
        self._lines.sync()

    def close(self) -> None:
        """Ends the log."""
        self._lines.close()


def _known(path: Path, stage: int, step: int) -> int:
    """Bytes of the records up to a step. Records stand in their order; a torn one has none behind it to keep."""
    size = 0
    if not path.is_file():
        return size
    with path.open("rb") as file:
        for line in file:
            record = _record(line)
            if record is None or (record["stage_number"], record["step"]) > (stage, step):
                break
            size += len(line)
    return size


def _record(line: bytes) -> dict[str, Any] | None:
    """None of a line torn by a kill."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if line.endswith(b"\n") and isinstance(record, dict) else None


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line torn by a kill is left out."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [record for line in file if (record := _record(line)) is not None]
