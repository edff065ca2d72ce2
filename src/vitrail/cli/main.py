"""`vitrail`: the verbs, and how mistakes are shown. A verb imports torch once its arguments are known to be right."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vitrail.cli import chat, data, env, evaluate, export, plan, recipes, show, train, verify
from vitrail.contracts.errors import ElsewhereError, VitrailError
from vitrail.training import waiting
from vitrail.training.parallel.environment import launched

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: rich would take a fifth of a second to import.
    rich_markup_mode=None,
    help="Assemble, train, measure and talk to multimodal language models.",
)
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.command("chat")(chat.chat)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("show")(show.show)
app.command("verify")(verify.verify)
app.add_typer(recipes.app, name="recipes")
app.add_typer(data.app, name="data")
app.command("env")(env.env)


@app.callback(invoke_without_command=True)
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full trace of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Assemble, train, measure and talk to multimodal language models."""
    # `main` has taken `--debug` already; here it is for the help.
    del debug
    if version:
        from importlib import metadata

        typer.echo(metadata.version("vitrail"))
        raise typer.Exit


def main() -> None:
    """Runs the command line. A user's mistake is one line on stderr and exit status 2; `--debug` shows the trace."""
    # `--debug` is taken wherever it stands: people add it to the end of the line that failed.
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # Read by the OpenMP library once, when a verb loads torch.
    waiting.choose()
    try:
        app(args=arguments, prog_name="vitrail")
    except VitrailError as error:
        if debug:
            raise
        rank, _ = launched()
        if not isinstance(error, ElsewhereError):
            typer.secho(f"{f'rank {rank}: ' * bool(rank)}error: {error}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        sys.exit(130)
