"""What became of every row: a bar of outcomes, a table by source, first reasons of each outcome, rows by name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from vitrail.contracts.samples import Outcome
from vitrail.report.dots import stacked_bar
from vitrail.report.text import escape, percent, table

OUTCOMES: tuple[str, ...] = get_args(Outcome)
"""In the order in which they are shown; the colour of each is that of its position."""

KEPT = ("used", "text_cut", "media_shrunk", "media_dropped")
"""Outcomes of rows that are learnt from: as they are, or changed to fit."""

MOST_ROWS = 200
_FIRST = 3  # reasons that are shown of each outcome and source, above the list of rows


def ledger(record: Mapping[str, Any]) -> str:
    """The section of the run report. record: `counts`, `by_source` and `rows`, as `Report.ledger` has them."""
    counts = record.get("counts") or {}
    sources = record.get("by_source") or {}
    rows = record.get("rows") or []
    return "".join((summary(counts), outcomes_bar(counts), by_source(sources), first_reasons(rows), told(rows, counts)))


def named(outcome: str) -> str:
    """A outcome as words."""
    return outcome.replace("_", " ")


def summary(counts: Mapping[str, Any]) -> str:
    """One sentence: used, changed, left out."""
    known = _amounts(counts)
    total = sum(known.values())
    if not total:
        return ""
    used = known.get("used", 0.0)
    changed = sum(known.get(outcome, 0.0) for outcome in KEPT) - used
    parts = [f"{percent(used / total)} of {total:,.0f} rows used as they are"]
    if changed:
        parts.append(f"{percent(changed / total)} changed to fit")
    left = total - used - changed
    parts.append(f"{percent(left / total)} left out" if left else "none left out")
    return f'<p class="lead">{", ".join(parts)}.</p>'


def outcomes_bar(counts: Mapping[str, Any]) -> str:
    """Shares of all rows by outcome; "" without any."""
    amounts = _amounts(counts)
    parts = [
        (_colour(outcome, index), named(outcome), amounts[outcome]) for index, outcome in enumerate(_ordered(amounts))
    ]
    bar = stacked_bar(parts, label="Rows by outcome", shown=lambda value: f"{value:,.0f}")
    return f"<figure>{bar}</figure>" if bar else ""


def by_source(sources: Mapping[str, Mapping[str, Any]]) -> str:
    """A table: one line a source, one column a outcome that any of them has."""
    if not sources:
        return ""
    outcomes = _ordered({outcome: 1.0 for counted in sources.values() for outcome in counted})
    rows = [
        [escape(name), *(f"{counted.get(outcome, 0):,}" for outcome in outcomes)] for name, counted in sources.items()
    ]
    return table(["Source", *(named(outcome).capitalize() for outcome in outcomes)], rows)


def first_reasons(rows: Sequence[Mapping[str, Any]]) -> str:
    """The first reasons of each outcome, source by source; "" where no row has any."""
    firsts: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reasons = firsts.setdefault((str(row.get("outcome") or ""), str(row.get("source") or "")), [])
        if row.get("reason") and len(reasons) < _FIRST:
            reasons.append(escape(row["reason"]))
    order = {outcome: index for index, outcome in enumerate(_ordered({outcome: 1.0 for outcome, _ in firsts}))}
    lines = [
        [escape(named(outcome)), escape(source), "<br>".join(reasons)]
        for (outcome, source), reasons in sorted(firsts.items(), key=lambda item: order[item[0][0]])
        if reasons
    ]
    if not lines:
        return ""
    return (
        '<h3>First reasons</h3><div class="reasons">'
        + table(["Outcome", "Source", "Why"], lines, numeric_from=3)
        + "</div>"
    )


def told(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, Any]) -> str:
    """The rows by name. counts: of all outcomes, which say how many more there are."""
    if not rows:
        return ""
    fields = ("id", "source", "outcome", "reason")
    cells = [
        [escape(named(str(row.get(field) or "")) if field == "outcome" else row.get(field) or "") for field in fields]
        for row in rows[:MOST_ROWS]
    ]
    whole = max(len(rows), round(sum(amount for outcome, amount in _amounts(counts).items() if outcome != "used")))
    said = f"The first {len(cells):,} of {whole:,} rows" if whole > len(cells) else f"{whole:,} rows, one by one"
    return f"<h3>{said}</h3>" + table([f.capitalize() for f in fields], cells, numeric_from=4, tall=True)


def chosen(rows: Iterable[Mapping[str, Any]], most: int = MOST_ROWS) -> list[Mapping[str, Any]]:
    """At most `most` rows in their order: first of each source and outcome: a frequent one hides no other."""
    seen: Counter[tuple[Any, Any]] = Counter()
    ranked: list[tuple[int, int, Mapping[str, Any]]] = []
    for index, row in enumerate(rows):
        key = row.get("source"), row.get("outcome")
        seen[key] += 1
        if seen[key] <= most:
            ranked.append((seen[key], index, row))
    first = sorted(ranked, key=lambda one: one[:2])[:most]
    return [row for _, _, row in sorted(first, key=lambda one: one[1])]


def _amounts(counts: Mapping[str, Any]) -> dict[str, float]:
    """What of the counts can be added up."""
    return {
        outcome: float(amount)
        for outcome, amount in counts.items()
        if isinstance(amount, int | float) and math.isfinite(amount) and amount > 0
    }


def _ordered(outcomes: Mapping[str, Any]) -> list[str]:
    """Known outcomes in their order, then any others."""
    return [
        *(outcome for outcome in OUTCOMES if outcome in outcomes),
        *(outcome for outcome in outcomes if outcome not in OUTCOMES),
    ]


_COLOURS = {"used": 0, "text_cut": 4, "media_shrunk": 2, "media_dropped": 1, "over_share": 6, "too_long": 3}


def _colour(outcome: str, index: int) -> str:
    return f"c{_COLOURS.get(outcome, 5 if outcome in OUTCOMES else index % 7)}"
