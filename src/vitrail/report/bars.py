"""Histograms: how many of what size, as bars over one axis, and as a line of blocks for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.report.charts import Axis, fitted
from vitrail.report.text import compact, escape, tick

BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"

Bin = tuple[int, int, int]
"""From, up to and not including, and how many."""


def histogram(bins: Sequence[Bin], *, width: int, label: str, x_name: str, limit: int | None = None) -> str:
    """Bars as one `<svg>`; "" without any. A last bin wider than the first holds all that is larger, and says so.

    width: in CSS pixels. limit: a value to mark, such as the most that is allowed; left out where it is off the axis.
    """
    if not bins:
        return ""
    step = bins[0][1] - bins[0][0]
    beyond = len(bins) > 1 and bins[-1][1] - bins[-1][0] > step
    height, left, right = 190, 46, width - 14
    top, bottom = 22, height - 34
    end = bins[0][0] + step * len(bins)
    x = Axis(bins[0][0], end, left, right)
    y = fitted([0, max(count for *_, count in bins)], bottom, top, from_zero=True)
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">']
    for value in y.ticks(4):
        at = y.at(value)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{right}"/>')
        parts.append(f'<text class="tick end" x="{left - 8}" y="{at + 4:.1f}">{tick(value)}</text>')
    for number, (start, stop, count) in enumerate(bins):
        begin, until = x.at(bins[0][0] + number * step), x.at(bins[0][0] + (number + 1) * step)
        last = beyond and number == len(bins) - 1
        said = f"{start:,} and more" if last else f"{start:,}" if step == 1 else f"{start:,} to {stop - 1:,}"
        # Air between neighbours, and at least a line for what is there at all.
        tall = max(bottom - y.at(count), 1.0) if count else 0.0
        parts.append(
            f'<rect class="bar c0{" beyond" if last else ""}" x="{begin + 1:.1f}" y="{bottom - tall:.1f}" '
            f'width="{max(until - begin - 2, 1):.1f}" height="{tall:.1f}">'
            f"<title>{escape(f'{said}: {count:,}')}</title></rect>"
        )
    parts += _axis(x, bottom, x_name, step, last_bin=bins[-1][0] if beyond else None)
    if limit is not None and bins[0][0] < limit < (bins[-1][0] if beyond else end):
        at = x.at(limit)
        parts.append(f'<path class="boundary" d="M{at:.1f} {top - 16}V{bottom}"/>')
        parts.append(f'<text class="tick end" x="{at - 5:.1f}" y="{top - 7}">allowed: {tick(limit)}</text>')
    return "".join(parts) + "</svg>"


def _axis(x: Axis, bottom: float, x_name: str, step: int, last_bin: int | None) -> list[str]:
    """Values under the bars they begin; a single value's stands under its middle."""
    parts = [f'<path class="axis" d="M{x.start:.0f} {bottom:.1f}H{x.end:.0f}"/>']
    shift = (x.at(x.low + step) - x.start) / 2 if step == 1 else 0.0
    most = x.high - step if step == 1 else x.high
    for value in x.ticks(max(3, round(x.end - x.start) // 90)):
        if value > most or value != round(value) or (last_bin is not None and value > last_bin):
            continue
        at = x.at(value) + shift
        parts.append(f'<path class="axis" d="M{at:.1f} {bottom:.1f}v4"/>')
        parts.append(f'<text class="tick middle" x="{at:.1f}" y="{bottom + 17:.1f}">{tick(value)}</text>')
    name = x_name if last_bin is None else f"{x_name} (the last bar: {compact(last_bin)} and more)"
    parts.append(f'<text class="tick end" x="{x.end:.0f}" y="{bottom + 31:.1f}">{escape(name)}</text>')
    return parts


def sparkline(bins: Sequence[Bin]) -> str:
    """The same bars as one line of text."""
    most = max((count for *_, count in bins), default=0)
    return "".join(BLOCKS[-(-(len(BLOCKS) - 1) * count // most)] for *_, count in bins) if most else ""
