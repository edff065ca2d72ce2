"""`vitrail train`: runs a recipe to its end, or goes on with it."""

from __future__ import annotations

import typer

from vitrail.cli.arguments import Overrides, RecipeName


def train(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Train a recipe, measure it, and write its report.

    Its stages, then its scores before, after and blind.
    A run that was stopped goes on where it stopped: give the same command again.
    Several processes train together: torchrun --nproc-per-node 2 -m vitrail train RECIPE.
    """
    from vitrail.recipe.read import read_recipe

    resolved = read_recipe(recipe, overrides or ())

    from vitrail.cli.progress import Terminal
    from vitrail.run.train import train as run
    from vitrail.training import waiting
    from vitrail.training.parallel.environment import launched
    from vitrail.training.stopping import Stopped

    if (how := waiting.said()) and launched()[0] == 0:
        typer.echo(f"threads that wait for each other: {how}", err=True)
    try:
        folder = run(resolved, Terminal())
    except Stopped as stopped:
        if launched()[0] == 0:
            typer.echo(f"stopped: {stopped}. Give the same command again to go on.", err=True)
        raise typer.Exit(128 + stopped.number) from None
    if launched()[0]:
        return
    typer.echo(f"results: {folder.path / 'results.json'}")
    typer.echo(f"weights: {folder.weights} (sha256 {folder.results()['weights_sha256'][:16]})")
    typer.echo(f"report:  {folder.report}")
    typer.echo(f'chat:    vitrail chat {folder.path} PICTURE "QUESTION"')
