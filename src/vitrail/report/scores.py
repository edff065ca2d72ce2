"""The parts of the run report that are about scores: headline and verdict, scores by kind, the caption test."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from vitrail.metrics.intervals import NOTHING, Score
from vitrail.metrics.scoring import METRICS
from vitrail.report.charts import both_widths
from vitrail.report.dots import DotRow, dot_chart
from vitrail.report.text import DASH, escape, interval, legend, name_of_kind, number, percent, table

RUNS = {
    "before": "before training",
    "blind": "blind baseline",
    "swapped": "pictures swapped",
    "pasted": "text pasted in",
    "after": "after training",
}
"""What `results` has scores of, in the order of the charts, with the names on the page."""

_BEST_FIRST = ("after", "pasted", "blind", "swapped", "before")
"""The order of cards and table columns: a narrow screen shows the trained model without scrolling."""

_METRIC_NAMES = dict(
    zip(METRICS, ("Exact match", "Fields right", "ANLS", "Box IoU", "Boxes found", "Clicks that hit"), strict=True)
)
_ABOUT = {
    "before": "the same model before this run",
    "blind": "the same recipe, trained without pictures",
    "swapped": "the model that this run made, shown another row's pictures",
    "pasted": "the same recipe, trained with the pages' text pasted in their place",
    "after": "the model that this run made",
}


def score_of(results: Mapping[str, Any], run: str, metric: str, kind: str | None = None) -> Score:
    """The score of one run, overall or for one kind; the empty score when it was not measured."""
    found = results.get(run) or {}
    if kind is not None:
        found = (found.get("by_kind") or {}).get(kind) or {}
    record = found.get(metric)
    return Score.from_json(record) if record else NOTHING


def headline(results: Mapping[str, Any]) -> str:
    """The main metric of every run in large figures, the verdict under it, and all metrics in a small table.

    The main metric is exact match, or the first one that was measured when there are no text answers.
    """
    main = next((m for m in METRICS if any(score_of(results, run, m).value is not None for run in RUNS)), None)
    if main is None:
        return ""
    shown = _measured(results)
    scores = {run: score_of(results, run, main) for run in _BEST_FIRST}
    cards = "".join(_card(run, score) for run, score in scores.items() if score.value is not None)
    rows = []
    for metric in METRICS:
        measured = {run: score_of(results, run, metric) for run in shown}
        if any(score.value is not None for score in measured.values()):
            most = max(score.n for score in measured.values())
            rows.append([_METRIC_NAMES[metric], f"{most:,}", *(_cell(score) for score in measured.values())])
    more = table(["Metric", "n", *(RUNS[run].capitalize() for run in shown)], rows) if len(rows) > 1 else ""
    return (
        f'<p class="lead">{_METRIC_NAMES[main]} on held-out questions</p><div class="cards">{cards}</div>'
        f"{_verdicts(scores)}{_swapped(results)}{more}"
    )


def _measured(results: Mapping[str, Any]) -> list[str]:
    """The runs that have any score, in the order of cards and columns."""
    return [run for run in _BEST_FIRST if any(score_of(results, run, m).value is not None for m in METRICS)]


def _card(run: str, score: Score) -> str:
    spread = interval(score)
    said = f"95\u00a0% interval {spread}, " if spread else ""
    return (
        f'<div class="card big {run}"><h3>{RUNS[run].capitalize()}</h3>'
        f'<p class="figure">{percent(score.value)}</p>'
        f'<p class="soft">{said}n = {score.n:,}</p><p class="soft">{_ABOUT[run]}</p></div>'
    )


def _verdicts(scores: Mapping[str, Score]) -> str:
    """A line against each baseline, and one against the model before training."""
    others = {
        "blind": "the blind baseline",
        "pasted": "the baseline with text pasted in",
        "before": "the model before training",
    }
    lines = [_verdict(scores["after"], scores[run], name) for run, name in others.items()]
    return "".join(line for line in lines if line)


def _swapped(results: Mapping[str, Any]) -> str:
    """How many answers another row's pictures change."""
    found = Score.from_json((results.get("swapped") or {}).get("changed") or {})
    if found.value is None:
        return ""
    return f'<p class="soft">Another row\'s pictures change {percent(found.value)} of the answers, n = {found.n:,}</p>'


def _verdict(after: Score, other: Score, name: str) -> str:
    if after.value is None or other.value is None:
        return ""
    points = 100 * (after.value - other.value)
    gap = f"{abs(points):.1f} points {'above' if points > 0 else 'below'} {name}"
    gap = f"Level with {name}" if abs(points) < 0.05 else gap
    if not after.apart_from(other):
        said = f"{gap}; the 95\u00a0% intervals overlap: more questions are needed to tell the two apart."
        return f'<p class="verdict unclear"><b aria-hidden="true">\u2248</b> {said}</p>'
    said = f"{gap}; the 95\u00a0% intervals do not overlap."
    mark, style = ("\u25b2", "clear") if points > 0 else ("\u25bc", "worse")
    return f'<p class="verdict {style}"><b aria-hidden="true">{mark}</b> {said}</p>'


def _cell(score: Score) -> str:
    """A share with its interval in small print; a dash when it was not measured."""
    if score.value is None:
        return DASH
    return f'{percent(score.value)} <span class="soft">{interval(score).removesuffix(chr(160) + "%")}</span>'


def by_kind(results: Mapping[str, Any]) -> str:
    """Charts of exact match, boxes found and clicks by kind, with intervals, then the table of every metric."""
    kinds: list[str] = []
    for run in RUNS:
        kinds += [kind for kind in ((results.get(run) or {}).get("by_kind") or {}) if kind not in kinds]
    if not kinds:
        return ""
    shown = _measured(results)
    charts = "".join(_kind_chart(results, kinds, metric) for metric in ("exact_match", "box_half", "click"))
    rows = []
    for kind in kinds:
        name = escape(name_of_kind(kind))
        for metric in METRICS:
            scores = [score_of(results, run, metric, kind) for run in shown]
            if any(score.value is not None for score in scores):
                count = f"{max(score.n for score in scores):,}"
                rows.append([name, _METRIC_NAMES[metric], count, *map(_cell, scores)])
                name = f'<span class="again">{escape(name_of_kind(kind))}</span>'
    head = ["Kind", "Metric", "n", *(RUNS[run].capitalize() for run in shown)]
    return charts + table(head, rows, numeric_from=2)


def _kind_chart(results: Mapping[str, Any], kinds: list[str], metric: str) -> str:
    rows = [DotRow(name_of_kind(k), [(run, score_of(results, run, metric, k)) for run in RUNS]) for k in kinds]
    label = f"{_METRIC_NAMES[metric]} by kind of question, with 95 % intervals"
    if not dot_chart(rows, width=960, label=label):
        return ""
    runs = [run for run in RUNS if any(score.value is not None for row in rows for r, score in row.marks if r == run)]
    keys = legend((f"mark {run}", RUNS[run]) for run in runs)
    chart = both_widths(lambda width: dot_chart(rows, width=width, label=label))
    return f"<figure><figcaption><h3>{_METRIC_NAMES[metric]}</h3>{keys}</figcaption>{chart}</figure>"


def pairs(found: Mapping[str, Mapping[str, Any]] | None) -> str:
    """Share of held-out preference pairs ranked right after every stage, with the media and without."""
    if not found:
        return ""
    rows = [
        [escape(stage), *(_cell(Score.from_json(shares.get(name) or {})) for name in ("right", "withheld"))]
        for stage, shares in found.items()
    ]
    count = max(Score.from_json(share).n for shares in found.values() for share in shares.values())
    lead = f'<p class="lead">The chosen answer is likelier than the rejected one; half is chance; n = {count:,}</p>'
    return lead + table(["After stage", "With media", "Without"], rows)


def captions(losses: Mapping[str, Any] | None) -> str:
    """Held-out loss with the right, a shuffled and a withheld picture: whether the model reads its pictures at all."""
    names = {"right": "right picture", "shuffled": "another picture", "withheld": "no picture"}
    styles = {"right": "after", "shuffled": "before", "withheld": "blind"}
    found = {key: Score.from_json((losses or {}).get(key) or {}) for key in names}
    rows = [DotRow(names[key], [(styles[key], score)]) for key, score in found.items()]
    label = "Held-out loss with the right, another and no picture"
    draw = partial(dot_chart, rows, label=label, domain=None, shown=number)
    if not draw(width=960):
        return ""
    best = found["right"]
    others = [(names[key], found[key]) for key in ("shuffled", "withheld") if found[key].value is not None]
    told = [name for name, score in others if best.apart_from(score) and (best.value or 0) < (score.value or 0)]
    verdict = ""
    if best.value is not None and others:
        if len(told) == len(others):
            verdict = "The right picture lowers the loss, and the intervals do not overlap."
        else:
            unclear = " and ".join(name for name, _ in others if name not in told)
            verdict = f"The right picture does not clearly lower the loss against {unclear}."
    chart = both_widths(lambda width: draw(width=width))
    style = "clear" if others and len(told) == len(others) else "unclear"
    line = f'<p class="verdict {style}">{verdict}</p>' if verdict else ""
    return f'<p class="lead">Nats a token, lower is better</p>{line}<figure>{chart}</figure>'
