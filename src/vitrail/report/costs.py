"""The parts of the run report that account for things: tokens, time, and the resolved recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vitrail.report.dots import stacked_bar
from vitrail.report.text import compact, duration, escape

_COLOURS = 7  # c0 ... c6 of the style sheet


def _coloured(amounts: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """(style, name, amount) for the positive amounts, in their order."""
    real = {
        name: float(value)
        for name, value in amounts.items()
        if isinstance(value, (int, float)) and math.isfinite(value) and value > 0
    }
    return [(f"c{index % _COLOURS}", name, value) for index, (name, value) in enumerate(real.items())]


def where_it_went(tokens: Mapping[str, int], time: Mapping[str, float], memory: float | None) -> str:
    """Stacked bars of tokens by sort and of seconds by activity, and the peak memory in GiB if it is known."""
    blocks = []
    split = _split_text(tokens)
    if bar := stacked_bar(_coloured(split), label="Tokens by sort"):
        total = compact(sum(split.values()))
        blocks.append(
            f'<figure><figcaption><h3>Tokens <span class="soft">{total}</span></h3></figcaption>{bar}</figure>'
        )
    if bar := stacked_bar(_coloured(time), label="Time by activity", shown=duration):
        total = duration(sum(amount for _, _, amount in _coloured(time)))
        blocks.append(f'<figure><figcaption><h3>Time <span class="soft">{total}</span></h3></figcaption>{bar}</figure>')
    if memory is not None:
        blocks.append(f'<p class="lead">Peak memory: <b>{memory:.2f}\u00a0GiB</b></p>')
    return "".join(blocks)


def _split_text(tokens: Mapping[str, int]) -> dict[str, int]:
    """Labelled tokens are text: the bar shows the text that is learned from and the rest, so nothing counts twice."""
    rest = dict(tokens)
    labelled = rest.pop("labelled", 0)
    text = rest.pop("text", 0)
    # Runs of before counted pictures alone.
    split = {"media": rest.pop("media", 0) + rest.pop("picture", 0), "text, not learned from": max(text - labelled, 0)}
    return {**split, "text, learned from": labelled, **rest}


def recipe(yaml: str) -> str:
    """The resolved recipe; comments are set in their own column, since they say where each value came from."""
    if not yaml.strip():
        return ""
    pieces = [_cut(line) for line in yaml.rstrip().splitlines()]
    # One very long line must not push every origin out of sight.
    column = min(max((len(code) for code, comment in pieces if code and comment), default=0), 72)
    lines = []
    for code, comment in pieces:
        note = f'<span class="origin">{escape(comment)}</span>' if comment else ""
        gap = " " * max(column - len(code) + 2, 2) if code.strip() and comment else ""
        lines.append(f"{escape(code)}{gap}{note}")
    return f'<pre tabindex="0">{chr(10).join(lines)}</pre>'


def _cut(line: str) -> tuple[str, str]:
    """Divides a YAML line at its comment: a `#` outside quotes, at the start or after a blank."""
    quote = ""
    for index, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and (index == 0 or line[index - 1] in " [{,:"):
            quote = character
        elif character == "#" and (index == 0 or line[index - 1] in " \t"):
            indent = line[:index]
            return (indent.rstrip() if indent.strip() else indent), line[index:]
    return line, ""
