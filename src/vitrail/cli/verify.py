"""`vitrail verify`: the proof that, in this model and with this data, no sample of a pack sees another."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.cli.arguments import Overrides, RecipeName

if TYPE_CHECKING:
    from vitrail.run.verify import PackDifference


def verify(
    recipe: RecipeName,
    overrides: Overrides = None,
    stage: Annotated[int, typer.Option(help="Which stage's data, counted from 0.", min=0)] = 0,
    packs: Annotated[int, typer.Option(help="How many packs of the first window.", min=1)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
) -> None:
    """Prove that no sample of a pack sees another.

    Packs of this data, in this model, against their samples one by one: outputs, losses and gradients. In float32, and
    then in the run's own number format and kernels, within what rounding is measured to come to there.
    Exit status 1, and one line that names the component and the sample, when any of them sees its neighbours.
    """
    from vitrail.recipe.read import read_recipe

    resolved = read_recipe(recipe, overrides or ()).value

    from vitrail.run.verify import LOSS_TOLERANCE, TOLERANCE
    from vitrail.run.verify import verify as compared

    found = compared(resolved, stage, packs)
    if as_json:
        allowed = {"loss": LOSS_TOLERANCE, "gradient": TOLERANCE, "output": TOLERANCE}
        worst = max(pack.loss for pack in found.packs if pack.format == "float32")
        facts = {**asdict(found), "loss": worst, "allowed": allowed, "finding": found.finding}
        typer.echo(json.dumps(_finite({**facts, "passed": not found.finding}), indent=2))
    else:
        typer.echo(f"stage        {found.stage}, on {found.device}")
        for note in found.notes:
            typer.echo(f"note         {note}")
        for pack in found.packs:
            _print(pack)
    if found.finding:
        typer.secho(f"leak: {found.finding}", fg="red", err=True)
        raise typer.Exit(1)
    if not as_json:
        typer.echo("packed equals one by one: no sample sees another")


def _print(pack: PackDifference) -> None:
    typer.echo(
        f"pack         {pack.samples} samples, {pack.pictured} of them with pictures; {pack.tokens:,} tokens, "
        f"{pack.patches:,} picture patches; in {pack.format}"
    )
    typer.echo(
        f"loss         largest difference {pack.loss:.1e} (allowed {pack.loss_allowed:.0e}), sample {pack.sample}"
    )
    for name, one in pack.components.items():
        measured = (
            ("output", one.output, one.output_allowed),
            ("gradient", one.gradient, one.gradient_allowed),
        )
        said = [f"{what} {value:.1e} (allowed {limit:.0e})" for what, value, limit in measured if value is not None]
        typer.echo(f"{name:<12} {', '.join(said)}")


def _finite(value: object) -> object:
    """JSON has no word for what is infinitely far away."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if value == float("inf") else value
