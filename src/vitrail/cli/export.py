"""`vitrail export`: a finished model in a layout that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vitrail.cli.arguments import RunName, TrustCode
from vitrail.contracts.errors import WeightsError


def export(
    run: RunName,
    out: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    to: Annotated[
        Literal["official", "hf", "components"],
        typer.Option(
            help="official, or hf: the published layout that the model's structure fits. components: encoder, "
            "projector and adapter alone, for model.weights of other recipes."
        ),
    ] = "official",
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL_TYPE",
            help="Which published layout, where several fit: internvl is transformers' own, internvl_chat OpenGVLab's.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Number format of the weights.")] = "float32",
    trust_code: TrustCode = False,
) -> None:
    """Write a trained model for others to open.

    As a folder that transformers opens by itself, or its parts for other recipes.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WeightsError(f"'{out}' exists already and is not empty; choose another")

    from vitrail import build
    from vitrail.export import components, official

    if to == "components":
        import torch

        adapter = build.adapter_folder(run)
        names, size = components.export(build.weights_folder(run), adapter, out, getattr(torch, dtype))
        typer.echo(f"{out}: {', '.join(names)} and what adapter there is, {size / 1e6:.1f} MB")
        return

    model, config = build.load_described(run, "cpu", trust_code=trust_code)
    for note in model.notes:
        typer.echo(note, err=True)
    written = official.export(model.model, model.encode, config, out, dtype, layout)
    typer.echo(f"{out}: {written}, {official.read_back(out, model.model)}")
