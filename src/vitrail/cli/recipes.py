"""`vitrail recipes`: the recipes that come with the package, and a copy of one to make one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitrail.contracts.errors import RecipeError
from vitrail.recipe import bundled

app = typer.Typer(no_args_is_help=True, help="List the bundled recipes, or copy one.")


@app.command("list")
def list_() -> None:
    """Names of the bundled recipes, and what each is for."""
    found = bundled.names()
    width = max(map(len, found))
    for name, path in found.items():
        typer.echo(f"{name:<{width}}  {bundled.about(path)}")


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A bundled recipe.")],
    to: Annotated[Path | None, typer.Argument(help="Where to; default: its own name, here.")] = None,
) -> None:
    """Copy a bundled recipe, to change it."""
    source = bundled.find(name, Path(name))
    target = to or Path(source.name)
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise RecipeError(f"'{target}' exists already; name another file to copy to")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    typer.echo(f"{target}")
