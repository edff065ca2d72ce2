"""What became of every row: a bar of fates, a table by source, the first reasons of each fate, and the rows by name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from vitrail.contracts.samples import Fate
from vitrail.evaluation.report_dots import stacked_bar
from vitrail.evaluation.report_text import escape, percent, table

FATES: tuple[str, ...] = get_args(Fate)
"""In the order in which they are shown; the colour of each is that of its place."""

KEPT = ("used", "text_cut", "picture_shrunk", "picture_dropped")
"""Fates of rows that are learnt from: as they are, or changed to fit."""

MOST_ROWS = 200
_FIRST = 3  # reasons that are shown of each fate and source, above the list of rows


def ledger(record: Mapping[str, Any]) -> str:
    """The section of the run report. record: `counts`, `by_source` and `rows`, as `Report.ledger` has them."""
    counts = record.get("counts") or {}
    sources = record.get("by_source") or {}
    rows = record.get("rows") or []
    return "".join((summary(counts), fates_bar(counts), by_source(sources), first_reasons(rows), told(rows, counts)))


def named(fate: str) -> str:
    """A fate as words."""
    return fate.replace("_", " ")


def summary(counts: Mapping[str, Any]) -> str:
    """One sentence: used, changed, left out."""
    known = _amounts(counts)
    total = sum(known.values())
    if not total:
        return ""
    used = known.get("used", 0.0)
    changed = sum(known.get(fate, 0.0) for fate in KEPT) - used
    parts = [f"{percent(used / total)} of {total:,.0f} rows used as they are"]
    if changed:
        parts.append(f"{percent(changed / total)} changed to fit")
    left = total - used - changed
    parts.append(f"{percent(left / total)} left out" if left else "none left out")
    return f'<p class="lead">{", ".join(parts)}.</p>'


def fates_bar(counts: Mapping[str, Any]) -> str:
    """Shares of all rows by fate; "" without any."""
    amounts = _amounts(counts)
    parts = [(_colour(fate, place), named(fate), amounts[fate]) for place, fate in enumerate(_ordered(amounts))]
    bar = stacked_bar(parts, label="Rows by fate", shown=lambda value: f"{value:,.0f}")
    return f"<figure>{bar}</figure>" if bar else ""


def by_source(sources: Mapping[str, Mapping[str, Any]]) -> str:
    """A table: one line a source, one column a fate that any of them has."""
    if not sources:
        return ""
    fates = _ordered({fate: 1.0 for counted in sources.values() for fate in counted})
    rows = [[escape(name), *(f"{counted.get(fate, 0):,}" for fate in fates)] for name, counted in sources.items()]
    return table(["Source", *(named(fate).capitalize() for fate in fates)], rows)


def first_reasons(rows: Sequence[Mapping[str, Any]]) -> str:
    """The first reasons of each fate, source by source; "" where no row has any."""
    firsts: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reasons = firsts.setdefault((str(row.get("fate") or ""), str(row.get("source") or "")), [])
        if row.get("reason") and len(reasons) < _FIRST:
            reasons.append(escape(row["reason"]))
    order = {fate: place for place, fate in enumerate(_ordered({fate: 1.0 for fate, _ in firsts}))}
    lines = [
        [escape(named(fate)), escape(source), "<br>".join(reasons)]
        for (fate, source), reasons in sorted(firsts.items(), key=lambda item: order[item[0][0]])
        if reasons
    ]
    if not lines:
        return ""
    return (
        '<h3>First reasons</h3><div class="reasons">'
        + table(["Fate", "Source", "Why"], lines, numeric_from=3)
        + "</div>"
    )


def told(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, Any]) -> str:
    """The rows by name. counts: of all fates, which say how many more there are."""
    if not rows:
        return ""
    fields = ("id", "source", "fate", "reason")
    cells = [
        [escape(named(str(row.get(field) or "")) if field == "fate" else row.get(field) or "") for field in fields]
        for row in rows[:MOST_ROWS]
    ]
    whole = max(len(rows), round(sum(amount for fate, amount in _amounts(counts).items() if fate != "used")))
    said = f"The first {len(cells):,} of {whole:,} rows" if whole > len(cells) else f"{whole:,} rows, one by one"
    return f"<h3>{said}</h3>" + table([f.capitalize() for f in fields], cells, numeric_from=4, tall=True)


def chosen(rows: Sequence[Mapping[str, Any]], most: int = MOST_ROWS) -> list[Mapping[str, Any]]:
    """At most `most` rows in their order: the first of each source and fate, so that a frequent one hides no other."""
    seen: Counter[tuple[Any, Any]] = Counter()
    ranked = []
    for place, row in enumerate(rows):
        key = row.get("source"), row.get("fate")
        seen[key] += 1
        if seen[key] <= most:
            ranked.append((seen[key], place))
    return [rows[place] for place in sorted(place for _, place in sorted(ranked)[:most])]


def _amounts(counts: Mapping[str, Any]) -> dict[str, float]:
    """What of the counts can be added up."""
    return {
        fate: float(amount)
        for fate, amount in counts.items()
        if isinstance(amount, int | float) and math.isfinite(amount) and amount > 0
    }


def _ordered(fates: Mapping[str, Any]) -> list[str]:
    """Known fates in their order, then any others."""
    return [*(fate for fate in FATES if fate in fates), *(fate for fate in fates if fate not in FATES)]


_COLOURS = {"used": 0, "text_cut": 4, "picture_shrunk": 2, "picture_dropped": 1, "over_share": 6, "too_long": 3}


def _colour(fate: str, place: int) -> str:
    return f"c{_COLOURS.get(fate, 5 if fate in FATES else place % 7)}"
