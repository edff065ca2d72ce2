"""The part of the run report that says what training did to the language model's own language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.metrics.intervals import Score
from vitrail.report.text import DASH, number, table

_MEANING = (
    "Loss on a plain text that no stage learnt from, without pictures; lower is better. What a model loses here, it "
    "has paid for with its language. Before is the language model as it came, without an adapter."
)


def language(text: Mapping[str, Any] | None) -> str:
    """Loss on plain text before and after training, and whether it changed; empty when it was not measured.

    text: `text_loss` of "before" and "after", `text_change` as "change"; any may be missing.
    """
    found = {name: (text or {}).get(name) or {} for name in ("before", "after", "change")}
    rows = []
    for name, said in (("after", "After training"), ("before", "Before training")):
        score = Score.from_json(found[name])
        if score.value is not None:
            bits = found[name].get("bits_per_byte")
            rows.append([said, f"{score.n:,}", _cell(score), DASH if bits is None else number(bits)])
    if not rows:
        return ""
    shown = table(["", "Windows", "Nats a token", "Bits a byte"], rows)
    return f'<p class="lead">{_MEANING}</p>{_verdict(Score.from_json(found["change"]))}{shown}'


def _cell(score: Score) -> str:
    assert score.value is not None, "only measured scores are shown"
    if score.low is None or score.high is None:
        return number(score.value)
    return f'{number(score.value)} <span class="soft">{number(score.low)}\u00a0{DASH}\u00a0{number(score.high)}</span>'


def _verdict(change: Score) -> str:
    """One line: the change window by window, whose interval is far narrower than that of either loss."""
    if change.value is None or change.low is None or change.high is None:
        return ""
    spread = f"95\u00a0% interval {number(change.low)} to {number(change.high)}"
    way = "rose" if change.value > 0 else "fell"
    by = f"The loss {way} by {number(abs(change.value))} nats a token (change of the same windows, {spread})"
    if change.low <= 0 <= change.high:
        said, mark, style = f"{by}: no clear change.", "\u2248", "unclear"
    elif change.value > 0:
        said, mark, style = f"{by}: the language suffered.", "\u25bc", "worse"
    else:
        said, mark, style = f"{by}: the language did not suffer.", "\u25b2", "clear"
    return f'<p class="verdict {style}"><b aria-hidden="true">{mark}</b> {said}</p>'
