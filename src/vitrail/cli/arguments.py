"""Arguments that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a bundled one (`vitrail recipes list`).")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Changes to the recipe, e.g. stages.0.steps=50 data.train=my.jsonl",
        show_default=False,
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Run the classes of its author's own that the model's description names."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its weights folder.")]
