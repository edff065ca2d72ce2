"""`vitrail data`: pictures drawn by the package, written to a folder as a user's own data would lie there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitrail.data.drawn.config import KINDS, DrawnConfig

app = typer.Typer(no_args_is_help=True, help="Draw data, and look at it.")


@app.callback()
def group() -> None:
    """Draw data, and look at it."""


@app.command()
def draw(
    out: Annotated[Path, typer.Argument(help="Folder to write to: SPLIT.jsonl and images/.")],
    rows: Annotated[int, typer.Option(help="Pictures.", min=1)] = 1000,
    split: Annotated[str, typer.Option(help="train or test: they share no value, layout or font.")] = "train",
    seed: Annotated[int, typer.Option(help="Other seeds draw other pictures.")] = 0,
    smallest: Annotated[int, typer.Option(help="Smallest side, px: 64 to 128, a multiple of 16.")] = 64,
    largest: Annotated[int, typer.Option(help="Largest side, px.")] = 64,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Only this kind of question (repeatable): {', '.join(KINDS)}.")
    ] = None,
) -> None:
    """Draw small pictures with captions, questions, answers and boxes."""
    config = DrawnConfig(split=split, rows=rows, seed=seed, size=(smallest, largest), kinds=tuple(kind or ()))

    from vitrail.cli.progress import Terminal
    from vitrail.data.drawn.export import export

    with Terminal().counting("drawing", rows) as on_row:
        path = export(config, out, lambda count: on_row())
    typer.echo(f"{path}")
