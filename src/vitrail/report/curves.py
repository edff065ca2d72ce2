"""The parts of the run report that follow the run step by step: loss by stage, learning rates, throughput."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from vitrail.data.ledger import LOST
from vitrail.report.charts import Band, Line, Point, both_widths, line_chart
from vitrail.report.text import DASH, compact, duration, escape, legend, number, table

Records = Sequence[Mapping[str, Any]]

_MOST_POINTS = 2000  # more than any screen shows; keeps the page small after a long run
UNUSED = (*LOST, "over_share")
"""What becomes of rows that nothing is learnt from."""
_SMALL = (440, 210)
_COLOURS = 7  # c0 ... c6 of the style sheet


def timeline(records: Records) -> list[float]:
    """The x position of every record: its step, counted on where a stage starts its own count again."""
    positions: list[float] = []
    offset = 0.0
    before: Mapping[str, Any] = {}
    for index, record in enumerate(records):
        step = _finite(record.get("step"))
        position = offset + (index if step is None else step)
        fresh = record.get("stage") != before.get("stage")
        if positions and (position < positions[-1] or (fresh and position <= positions[-1])):
            offset = positions[-1] + (1 if not step else 0)
            position = offset + (step or 0)
        positions.append(position)
        before = record
    return positions


def stages(records: Records, positions: Sequence[float]) -> list[Band]:
    """Stretches of records with the same stage name; each begins where the one before ended."""
    bands: list[Band] = []
    for record, position in zip(records, positions, strict=True):
        name = str(record.get("stage") or "")
        if bands and bands[-1].name == name:
            bands[-1] = Band(name, bands[-1].start, position)
        else:
            bands.append(Band(name, bands[-1].end if bands else position, position))
    return bands if any(band.name for band in bands) else []


def beside(records: Records, bands: Sequence[Band]) -> list[float]:
    """The timeline of another run, each stage moved to where the one of its name begins in `bands`, if one does.

    A blind baseline has only the stages that train the language model.
    """
    positions = timeline(records)
    begins = _begins(bands)
    own = _begins(stages(records, positions))
    names = [str(record.get("stage") or "") for record in records]
    return [
        position + begins[name] - own[name] if name in begins else position
        for name, position in zip(names, positions, strict=True)
    ]


def _begins(bands: Sequence[Band]) -> dict[str, float]:
    """The position before the first record of each stage."""
    return {band.name: band.start - (index == 0) for index, band in enumerate(bands)}


def smoothed(points: Sequence[Point], bands: Sequence[Band]) -> list[Point]:
    """A centred moving average over a 25th of the run, in short stages over a quarter of the stage.

    It never averages across a stage boundary. The last value of a stage is the mean of half a window, so it can be
    quoted; the first values use less, because a loss falls fastest there.
    """
    ends = [band.end for band in bands] or [math.inf]
    result: list[Point] = []
    begin = 0
    for last in [*ends[:-1], math.inf]:
        piece = []
        while begin < len(points) and points[begin][0] <= last:
            piece.append(points[begin])
            begin += 1
        reach = min(len(points) // 50, len(piece) // 8)
        sums = [0.0, *accumulate(value for _, value in piece)]
        for i, (position, _) in enumerate(piece):
            low, high = max(0, i - reach), min(len(piece), i + max(min(reach, i), reach // 4) + 1)
            result.append((position, (sums[high] - sums[low]) / (high - low)))
    return result


def _finite(value: Any) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _series(records: Records, positions: Sequence[float], read: Callable[[Mapping[str, Any]], Any]) -> list[Point]:
    """(position, value) where the record has a finite value."""
    found = ((position, _finite(read(record))) for record, position in zip(records, positions, strict=True))
    return [(position, value) for position, value in found if value is not None]


def _sparse(points: Sequence[Point]) -> Sequence[Point]:
    """Every k-th point and the last one: for smoothed curves, which lose nothing by it."""
    every = math.ceil(len(points) / _MOST_POINTS)
    return points if every <= 1 else [*points[:-1:every], points[-1]]


def loss(steps: Records, blind_steps: Records, units: Mapping[str, str] | None = None) -> str:
    """The loss curve of the run over that of the blind baseline, with the stages behind, and a table of stages.

    units: what the loss of each stage is counted in, "" for what has no name.
    """
    lines = []
    bands: list[Band] = []
    for records, name, style in ((steps, "with pictures", "after"), (blind_steps, "blind baseline", "blind")):
        positions = beside(records, bands)
        own = stages(records, positions)
        points = _series(records, positions, lambda record: record.get("loss"))
        if points:
            lines.append(Line(name, style, _sparse(smoothed(points, own)), points))
            bands = bands or own
    if not lines:
        return ""
    log = _spans_decades(lines)
    # The trained model is drawn last, on top.
    drawn = lines[::-1]
    chart = both_widths(
        lambda width: line_chart(
            drawn,
            size=(width, 380 if width > 600 else 300),
            label="Training loss by step",
            log=log,
            bands=bands,
            ends=True,
        )
    )
    keys = legend((f"stroke {line.style}", line.name) for line in lines)
    said = [*_said(units or {}), *(["log scale"] if log else []), "bold: moving average, faint: every step"]
    note = f'<h3>Training loss <span class="soft">{escape("; ".join(said))}</span></h3>'
    return f"<figure><figcaption>{note}{keys}</figcaption>{chart}</figure>{_stage_table(steps, blind_steps, lines)}"


def _said(units: Mapping[str, str]) -> list[str]:
    """What losses are counted in, and in which stages, where they differ."""
    stages_of: dict[str, list[str]] = {}
    for stage, unit in units.items():
        stages_of.setdefault(unit or "the objective's own sum", []).append(stage)
    if len(stages_of) == 1:
        return list(stages_of)
    return [f"{', '.join(names)}: {unit}" for unit, names in stages_of.items()]


def _stage_table(records: Records, blind: Records, lines: Sequence[Line]) -> str:
    """Stage by stage: steps, rows, tokens, time, and the smoothed loss at both ends; steps and rows of both runs."""
    positions = timeline(records)
    bands = stages(records, positions)
    if not bands:
        return ""
    rows = []
    budgets = _budgets(blind)
    for index, band in enumerate(bands):
        last = index == len(bands) - 1
        inside = [
            i
            for i, position in enumerate(positions)
            if (band.start < position or index == 0) and (position <= band.end or last)
        ]
        # Counted from 0, the first stage has one step more than its last number says.
        count = band.end - (band.start if index else min(band.start, 1) - 1)
        cells = [escape(band.name), f"{count:,.0f}", _or_dash(_rows_used(records, inside), _whole)]
        cells.append(_or_dash(_spent(records, inside, "tokens"), compact))
        cells.append(_or_dash(_spent(records, inside, "seconds"), duration))
        for style in ("after", "blind"):
            line = next((line for line in lines if line.style == style), None)
            curve = [] if line is None else [p[1] for p in line.points if _within(p[0], band, first=index == 0)]
            cells.append(f"{number(curve[0])}\u00a0\u2192\u00a0{number(curve[-1])}" if curve else DASH)
        if budgets:
            cells += [_or_dash(value, _whole) for value in budgets.get(band.name, (0.0, 0.0))]
        rows.append(cells)
    head = ["Stage", "Steps", "Rows", "Tokens", "Time", "Loss", "Blind loss"]
    return table([*head, *(["Blind steps", "Blind rows"] if budgets else [])], rows)


def _budgets(records: Records) -> dict[str, tuple[float, float]]:
    """Steps and rows of each stage of a run, by its name."""
    found: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        found.setdefault(str(record.get("stage") or ""), []).append(index)
    return {
        name: (max(_finite(records[i].get("step")) or 0.0 for i in inside), _rows_used(records, inside))
        for name, inside in found.items()
    }


def _rows_used(records: Records, inside: Sequence[int]) -> float:
    """Rows that were learnt from within these records, which count them from the run's start."""

    def so_far(index: int) -> int:
        outcomes = records[index].get("rows") if index >= 0 else None
        return sum(count for name, count in (outcomes or {}).items() if name not in UNUSED)

    return float(so_far(inside[-1]) - so_far(inside[0] - 1)) if inside else 0.0


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _spans_decades(lines: Sequence[Line]) -> bool:
    """Whether a log scale shows these curves better: all above 0, the highest more than 12 times the lowest."""
    values = [value for line in lines for _, value in line.points]
    return min(values) > 0 and max(values) > 12 * min(values)


def _within(position: float, band: Band, *, first: bool) -> bool:
    return position <= band.end and (position > band.start or (first and position >= band.start))


def _or_dash(value: float, shown: Callable[[float], str]) -> str:
    return shown(value) if value > 0 else DASH


def _spent(records: Records, inside: Sequence[int], key: str) -> float:
    """What a running total grew by over these records; a total that falls has been started again."""
    grown = 0.0
    for index in inside:
        now = _finite(records[index].get(key))
        before = _finite(records[index - 1].get(key)) if index else 0.0
        if now is not None:
            grown += now - before if before is not None and now >= before else now
    return grown


def small_charts(steps: Records) -> str:
    """Learning rates, throughput, gradient norm, loss by source and what objectives report beside their loss, side by
    side; each only if it was logged."""
    positions = timeline(steps)
    bands = stages(steps, positions)
    charts = [_learning_rates(steps, positions), _by_name(steps, positions, bands, "source")]
    charts.append(_by_name(steps, positions, bands, "tag"))
    for name, points in _grouped(steps, positions, "figures").items():
        line = Line(name, "c0", _sparse(smoothed(points, bands)), points)
        charts.append(_small(name.replace("_", " ").capitalize(), [line], bands, keys=False))
    for key, title in (("tokens_per_second", "Throughput, tokens a second"), ("gradient_norm", "Gradient norm")):
        points = _series(steps, positions, lambda record, key=key: record.get(key))  # type: ignore[misc]
        if len(points) > 1:
            line = Line(title, "c0", _sparse(smoothed(points, bands)), points)
            charts.append(_small(title, [line], bands, from_zero=key == "tokens_per_second", keys=False))
    found = [chart for chart in charts if chart]
    return f'<div class="pair">{"".join(found)}</div>' if found else ""


def _small(
    title: str,
    lines: Sequence[Line],
    bands: Sequence[Band],
    *,
    log: bool = False,
    from_zero: bool = False,
    keys: bool = True,
) -> str:
    chart = line_chart(lines, size=_SMALL, label=title, log=log, from_zero=from_zero, bands=bands)
    key = legend((f"stroke {line.style}", line.name) for line in lines) if keys else ""
    return f"<figure><figcaption><h3>{escape(title)}</h3></figcaption>{chart}{key}</figure>"


def _grouped(records: Records, positions: Sequence[float], field: str) -> dict[str, list[Point]]:
    """One series for every name in a mapping field, in order of appearance."""
    names = list(dict.fromkeys(name for record in records for name in (record.get(field) or {})))
    series = {name: _series(records, positions, lambda r, name=name: (r.get(field) or {}).get(name)) for name in names}  # type: ignore[misc]
    return {name: points for name, points in series.items() if len(points) > 1}


def _learning_rates(records: Records, positions: Sequence[float]) -> str:
    """One curve a parameter group; groups that share every rate share a curve."""
    merged: dict[tuple[Point, ...], list[str]] = {}
    for name, points in _grouped(records, positions, "lr").items():
        merged.setdefault(tuple(points), []).append(name)
    peaks = [max(value for _, value in points) for points in merged]
    if not peaks or max(peaks) <= 0:
        return ""
    log = max(peaks) > 12 * min(peak for peak in peaks if peak > 0)
    # A warm-up from 0 cannot stand on a log scale; two decades below the smallest peak are as good as 0.
    floor = min(peak for peak in peaks if peak > 0) / 100 if log else 0.0
    lines: list[Line] = []
    for rates, names in merged.items():
        kept = [(position, max(value, floor)) for position, value in rates]
        # Rates often coincide for a stage: later lines are dashed, so that earlier ones show through the gaps.
        style = f"c{len(lines) % _COLOURS} over{min(len(lines), 3)}"
        lines.append(Line(", ".join(names), style, _sparse(kept)))
    title = "Learning rate, log scale" if log else "Learning rate"
    return _small(title, lines, stages(records, positions), log=log, from_zero=not log)


def _by_name(records: Records, positions: Sequence[float], bands: Sequence[Band], names: str) -> str:
    """The smoothed loss of each source, or of each tag; left out when there is only one."""
    series = _grouped(records, positions, f"loss_by_{names}")
    if len(series) < 2:
        return ""
    lines = [
        Line(name, f"c{i % _COLOURS}", _sparse(smoothed(points, bands)))
        for i, (name, points) in enumerate(series.items())
    ]
    log = _spans_decades(lines)
    return _small(f"Loss by {names}, log scale" if log else f"Loss by {names}", lines, bands, log=log)


def peak_memory(steps: Records) -> float | None:
    """The largest `memory_gib` of the log, in GiB; None when it was not logged."""
    found = [value for record in steps if (value := _finite(record.get("memory_gib"))) is not None]
    return max(found) if found else None
