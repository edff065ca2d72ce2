"""`vitrail eval`: scores of a trained model on its recipe's held-out rows, or on a file of one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.cli.arguments import RunName, TrustCode
from vitrail.contracts.devices import DeviceName
from vitrail.contracts.errors import RecipeError

if TYPE_CHECKING:
    from vitrail.data.config import SourceConfig

HELD_OUT = "data.held_out"


def evaluate(
    run: RunName,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Changes to data.held_out of the run's recipe, e.g. data.held_out=my.jsonl",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A file of held-out rows; default: the recipe's data.held_out.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Only this many rows from the start; 0 for all.", min=0)] = 0,
    losses: Annotated[
        bool, typer.Option("--losses", help="Also the loss with the right, a wrong and no picture.")
    ] = False,
    drop_media: Annotated[bool, typer.Option("--drop-media", "--withhold", help="Ask without the pictures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    max_tokens: Annotated[int, typer.Option(help="Longest answer, tokens.", min=1)] = 64,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    trust_code: TrustCode = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Rows of --data may name pictures outside its folder.")
    ] = False,
) -> None:
    """Ask every held-out question and score the answers."""
    source_config = held_out(Path(run), overrides or (), data, rows, allow_outside=allow_outside)

    from vitrail import build
    from vitrail.cli.progress import Terminal
    from vitrail.data.mixture import open_held_out
    from vitrail.data.unanswered import check_answered
    from vitrail.evaluation.answers import ask
    from vitrail.evaluation.losses import held_out_losses
    from vitrail.metrics.scoring import summarise
    from vitrail.run.screen import Silent

    screen = Silent() if as_json else Terminal()
    source, reading = open_held_out(source_config, {source_config: build.build_source(source_config)})
    check_answered(source, reading, allowed=None)
    model = build.load(run, device, trust_code=trust_code)
    for note in model.notes:
        typer.echo(note, err=True)
    with screen.counting("questions", len(source)) as on_answer:
        answers = ask(model.without_media() if drop_media else model, source, reading, max_tokens, on_answer)
    summary = summarise(answers)
    if losses:
        with screen.counting("losses", len(source)) as on_row:
            summary["losses"] = held_out_losses(model, source, reading, on_row)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        table(summary)


def held_out(
    run: Path, overrides: Sequence[str], data: Path | None, rows: int, *, allow_outside: bool = False
) -> SourceConfig:
    """The rows to measure on. Raises RecipeError when neither the call nor the recipe names any.

    overrides: of data.held_out alone: all else of a trained model is as it was trained. A run without a recipe, such as
    an official folder, has none but those. allow_outside: of `data`; of the recipe's own rows the recipe says it.
    """
    from vitrail.data.sources.config import kind_of
    from vitrail.recipe.schema import Recipe
    from vitrail.recipe.strict import read

    other = next((text for text in overrides if not re.match(rf"{HELD_OUT}[.=]", text)), None)
    if other is not None:
        raise RecipeError(f"'{other}' changes what the model is, or nothing that eval reads; allowed: {HELD_OUT}=...")
    if overrides and data is not None:
        raise RecipeError(f"--data {data} and '{overrides[0]}' both name held-out rows: give one of them")

    if allow_outside and data is None:
        raise RecipeError("--allow-outside goes with --data; of the recipe's own rows, data.held_out says it")
    if data is not None:
        return kind_of(data)(path=data, rows=rows, allow_outside=allow_outside)
    recipe = run / "recipe.yaml"
    if not recipe.is_file() and not overrides:
        raise RecipeError(
            f"'{run}' has no recipe.yaml that names held-out rows; name some with --data FILE or {HELD_OUT}=FILE"
        )
    config = read(Recipe, recipe, overrides).value.data.held_out if recipe.is_file() else _alone(overrides)
    if config is None:
        raise RecipeError(f"'{recipe}' names no {HELD_OUT}; name rows with --data FILE or {HELD_OUT}=FILE")
    return replace(config, rows=rows) if rows else config


def _alone(overrides: Sequence[str]) -> SourceConfig:
    """Held-out rows where there is no recipe to change: those of any other, changed."""
    from vitrail.recipe.read import read_recipe

    if not overrides[0].startswith(f"{HELD_OUT}="):
        raise RecipeError(f"'{overrides[0]}' changes held-out rows, and none are named: give {HELD_OUT}=FILE first")
    config = read_recipe("demo", overrides).value.data.held_out
    assert config is not None, "the overrides name it"
    return config


def table(summary: dict[str, Any]) -> None:
    """Scores as a table: overall, then by kind."""
    from rich.console import Console
    from rich.table import Table

    from vitrail.metrics.scoring import METRICS

    shown = Table("kind", *(metric.replace("_", " ") for metric in METRICS), "n")
    groups = {"all": summary, **summary["by_kind"]}
    for kind, scores in groups.items():
        found = {name: scores[name] for name in METRICS if scores.get(name, {}).get("n")}
        cells = [
            f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" if (one := found.get(name)) else ""
            for name in METRICS
        ]
        shown.add_row(kind or "-", *cells, str(max((int(one["n"]) for one in found.values()), default=0)))
    Console(highlight=False).print(shown)
    for name, loss in summary.get("losses", {}).items():
        typer.echo(f"loss, {name} picture: {loss['value']:.3f} [{loss['low']:.3f}, {loss['high']:.3f}]")
