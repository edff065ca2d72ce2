"""What a run tells at its beginning and at its end: some held-out questions as each model answered them, and the cost.

A score says how good a model is; that an answer changes with the picture, and is lost with eyes closed, is seen here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

from vitrail.metrics.intervals import Score
from vitrail.report.contents import Example

COUNT = 3
"""Questions that are told."""
WIDEST = 26
"""Cells of a column on a terminal."""
COLUMNS = {
    "before": "before",
    "after": "after",
    "swapped": "another picture",
    "blind": "eyes closed",
    "pasted": "text pasted",
}
"""What a model was asked as, in the order in which it is told, with its heading."""


def questions(examples: Sequence[Example]) -> list[str]:
    """A table in plain text, a line a question; nothing where none was asked."""
    runs = [run for run in COLUMNS if any(run in example.answers for example in examples)]
    if not runs:
        return []
    rows = [["question", "truth", *(COLUMNS[run] for run in runs)]]
    rows += [[one.question, one.truth, *(one.answers.get(run, "") for run in runs)] for one in examples]
    cells = [[" ".join(text.split()) for text in row] for row in rows]
    widths = [min(WIDEST, max(map(cell_len, column))) for column in zip(*cells, strict=True)]
    return ["  ".join(_fitted(text, width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def outcome(results: Mapping[str, Any], counts: Mapping[str, int], threads: int) -> str:
    """One line: how many answers are right, with eyes closed and with another picture; what it cost; what was left out.

    counts: rows by what became of them (`data.ledger`).
    """
    said = []
    for run in ("after", "blind", "swapped", "pasted"):
        found = Score.from_json((results.get(run) or {}).get("exact_match") or {})
        if found.value is not None and found.low is not None and found.high is not None:
            name = "right" if run == "after" else COLUMNS[run]
            said.append(f"{name} {100 * found.value:.1f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]")
    minutes, seconds = divmod(round(results.get("seconds", 0)), 60)
    said.append(f"{minutes} min {seconds} s on {threads} thread{'' if threads == 1 else 's'}")
    left = {outcome: count for outcome, count in counts.items() if outcome not in ("used", "unused")}
    said.append("rows changed or left out: " + (", ".join(f"{n:,} {name}" for name, n in left.items()) or "none"))
    return "; ".join(said)


def _fitted(text: str, width: int) -> str:
    """Cut or filled up to so many cells of a terminal."""
    return set_cell_size(text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "\u2026", width)
