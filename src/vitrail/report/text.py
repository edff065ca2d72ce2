"""Words and numbers of the run report: escaping, compact numbers, percentages, durations, legends and tables."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

from vitrail.metrics.intervals import Score

DASH = "\u2013"
_SHOWN = 240  # characters of an answer; a model that repeats itself for ever must not bury the page


def escape(text: object) -> str:
    """`text` as HTML that shows it literally, in content and in attributes."""
    return html.escape(str(text), quote=True)


def clipped(text: str) -> str:
    """Escaped text of at most 240 characters; what is left out is counted."""
    if len(text) <= _SHOWN:
        return escape(text)
    return f'{escape(text[:_SHOWN])}\u2026 <span class="soft">({len(text):,} characters)</span>'


def number(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent where that is short: 0.0421, 5.13, 48.2, 12,300, else 1.2e-05."""
    if not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.{max(digits - 1 - size, 0)}f}"


def compact(value: float) -> str:
    """Counts with a scale letter: 940, 12.3 k, 5.1 M, 2.0 G."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):,.1f}\u00a0{letter}"
    return f"{value:,.0f}"


def tick(value: float) -> str:
    """An axis number: exact for the round values that ticks have."""
    if abs(value) >= 1e4:
        limit, letter = next(pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if abs(value) >= pair[0])
        return f"{value / limit:g}{letter}"
    if 0 < abs(value) < 0.01:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:g}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0 to 1 as `87.3 %`; a dash for None."""
    return DASH if share is None else f"{100 * share:.{digits}f}\u00a0%"


def duration(seconds: float) -> str:
    """Seconds as `840 ms`, `12.4 s`, `6 min 12 s` or `3 h 05 min`."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f}\u00a0ms"
    if seconds < 59.95:
        return f"{seconds:.1f}\u00a0s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}\u00a0min {whole % 60:02d}\u00a0s"
    return f"{whole // 3600}\u00a0h {whole % 3600 // 60:02d}\u00a0min"


def interval(score: Score) -> str:
    """The 95 % interval of a share as `84.9 - 89.4 %` (with a dash); empty when there is none."""
    if score.low is None or score.high is None:
        return ""
    return f"{100 * score.low:.1f}\u00a0{DASH}\u00a0{100 * score.high:.1f}\u00a0%"


def name_of_kind(kind: str) -> str:
    """A question kind as shown; data that states none gets a name."""
    return kind or "(kind not stated)"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric_from: int = 1, tall: bool = False) -> str:
    """A table of cells that are HTML already. Columns from `numeric_from` on are set to the right.

    tall: the table scrolls in its own box on screen instead of making the page long; print shows all of it.
    """

    def cell(tag: str, column: int, content: str) -> str:
        side = ' class="number"' if column >= numeric_from else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{side}{scope}>{content}</{tag}>"

    header = "".join(cell("th", column, escape(name)) for column, name in enumerate(head))
    body = "".join("<tr>" + "".join(cell("td", c, text) for c, text in enumerate(row)) + "</tr>" for row in rows)
    box = "table tall" if tall else "table"
    # Focusable, so that a reader without a mouse can scroll it.
    return f'<div class="{box}" tabindex="0"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Colour keys: pairs of (style, name). The style is the CSS class that carries the colour."""
    keys = "".join(f'<li><i class="key {style}"></i>{escape(name)}</li>' for style, name in entries)
    return f'<ul class="legend">{keys}</ul>'
