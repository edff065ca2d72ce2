"""`vitrail data check`: what is in data, and what training would make of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.contracts.errors import DataError

if TYPE_CHECKING:
    from vitrail.curation.findings import Findings, Repeats, SourceFindings
    from vitrail.curation.tally import Tally

REASONS, LONGEST = 8, 3
"""How many of them are printed; all are in the page and in the JSON."""


def check(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="A file of rows, a folder, or {kind: ...} as a recipe has it under data.train; default: the data of "
            "--recipe.",
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Changes to the recipe, e.g. data.train=my.jsonl", show_default=False
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Whose model, lengths and held-out rows to check with.", show_default=False),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Held-out rows: no picture of theirs may be in DATA.", show_default=False),
    ] = None,
    rows: Annotated[int, typer.Option(help="Look at this many rows of each source, 0 for all.", min=0)] = 0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as one page.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 when a row is unreadable.")] = False,
) -> None:
    """Look at every row before training.

    Lengths, sizes, what is unreadable, what comes twice, what is learnt.
    """
    changes = list(overrides or ())
    if data is not None and re.match(r"[\w.]+=", data) and not Path(data).exists():
        changes.insert(0, data)
        data = None
    if data is None and recipe is None:
        raise DataError("nothing to check: give DATA (a file or a folder), or --recipe RECIPE")

    from vitrail.cli.progress import Terminal
    from vitrail.run.data_check import Wanted, check_data

    wanted = Wanted(data, held_out, recipe, tuple(changes), rows)
    found = check_data(wanted, None if as_json else Terminal())
    if html is not None:
        from vitrail.report import data_page

        data_page.write(found, html)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _print(found)
        if html is not None:
            typer.echo(f"{html}")
    if strict and found.outcomes["unreadable"]:
        raise typer.Exit(1)


def _print(found: Findings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")

    def line(name: str, text: str) -> None:
        if console.is_terminal:
            lines.add_row(name, Text(text))
        else:  # a line a fact, for whatever reads it
            typer.echo(f"{name:<12} {text}")

    outcomes = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in found.outcomes.most_common())
    line("rows", f"{found.rows:,}: {outcomes}")
    for name, source in found.sources.items():
        if len(found.sources) > 1:
            line("", f"{name}: {source.rows:,} rows, {', '.join(source.dialects) or 'none read'}, {media(source)}")
    if len(found.sources) == 1:
        only = next(iter(found.sources.values()))
        line("written as", ", ".join(f"{name} ({count:,})" for name, count in only.dialects.most_common()) or "nothing")
        line("media", media(only))
    for sort, count in found.reasons.most_common(REASONS):
        line("", f"{count:,} x {found.first_of[sort]}")
    if len(found.reasons) > REASONS:
        line("", f"and {len(found.reasons) - REASONS} more reasons")
    if found.pictures:
        line("pictures", f"{found.pictures:,}, {found.distinct_pictures:,} of them different")
        line("  width", f"{_spread(found.width)} px")
        line("  height", f"{_spread(found.height)} px")
        line("  tokens", _spread(found.picture_tokens))
    if found.sample_tokens.count:
        line("samples", f"{_spread(found.sample_tokens)} tokens")
        line("learnt", f"{found.mask_share:.1%} of the tokens; {_spread(found.learnt)} a sample")
        longest = ", ".join(f"{one.location or one.id} ({one.tokens:,})" for one in found.longest[:LONGEST])
        line("longest", longest)
    total = max(1, sum(found.characters.values()))
    line("characters", ", ".join(f"{name} {count / total:.1%}" for name, count in found.characters.most_common(5)))
    for repeats, what in (
        (found.leaked, "held-out pictures are among the training pictures, or nearly"),
        (found.rows_again, "rows come again"),
        (found.names_again, "pictures are the bytes of another file"),
        (found.similar, "pictures look nearly like an earlier one"),
    ):
        if repeats.count:
            line("twice", f"{repeats.count:,} {what}, the first: {_first(repeats)}")
    line("counted by", found.measured)
    if found.policy:
        line("", found.policy)
    if console.is_terminal:
        console.print(lines)


def media(source: SourceFindings) -> str:
    """How many of a source's rows have any, in words."""
    return f"{source.with_media:,} of {source.dialects.total():,} rows have a picture, a video or a sound"


def _spread(tally: Tally) -> str:
    """Least to most, the median, and the shape of what lies between."""
    from vitrail.report.bars import sparkline

    if tally.least == tally.most:
        return f"{tally.least:,}"
    return f"{tally.least:,} to {tally.most:,}, median {tally.quantile(0.5):,}  {sparkline(tally.bins())}"


def _first(repeats: Repeats) -> str:
    pair = repeats.examples[0]
    return f"{pair.second} is {pair.first}"
