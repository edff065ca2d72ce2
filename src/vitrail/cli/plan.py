"""`vitrail plan`: what a recipe will cost, before anything is spent."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.cli.arguments import Overrides, RecipeName
from vitrail.contracts.errors import MediaError

if TYPE_CHECKING:
    from vitrail.recipe.schema import Recipe
    from vitrail.run.plan import Plan
    from vitrail.training.device import Device

SECONDS = (1, 10, 60)
SIZES = ((64, 64), (224, 224), (448, 448), (1024, 768), (1654, 2339))


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    size: Annotated[
        list[str] | None, typer.Option(metavar="WxH", help="A picture size whose tokens to print (repeatable).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    origins: Annotated[
        bool, typer.Option("--origins", help="Print the resolved recipe and where each value is from.")
    ] = False,
) -> None:
    """What a recipe will cost, before anything is spent.

    Parameters, tokens of a picture, memory and time: counted and measured in a few seconds; nothing is trained.
    """
    from vitrail.recipe.annotated import annotated
    from vitrail.recipe.read import read_recipe

    resolved = read_recipe(recipe, overrides or ())
    if origins:
        typer.echo(annotated(resolved), nl=False)
        return
    sizes = [parse(text) for text in size] if size else SIZES
    model = resolved.value.model
    # What a page becomes is known when it is read.
    sees = model.encoder is not None and model.media.kind != "text_lines"
    tokens = {f"{width}x{height}": tokens_of(resolved.value, width, height) for width, height in sizes if sees}

    from vitrail.run.plan import make_plan
    from vitrail.training.device import choose

    device = choose(resolved.value.training)
    made = make_plan(resolved.value, device)
    if as_json:
        typer.echo(json.dumps({**asdict(made), "tokens_of_picture": tokens, "device": asdict(device)}, indent=2))
        return
    _print(made, tokens, tokens_of_sounds(resolved.value), device, resolved.value.data.pack.length)


def _print(made: Plan, tokens: dict[str, int], heard: list[str], device: Device, length: int) -> None:
    total = sum(made.parameters.values())
    typer.echo(
        f"parameters   {count(total)}: " + ", ".join(f"{name} {count(n)}" for name, n in made.parameters.items())
    )
    shown = ", ".join(f"{name} -> {n if n else 'refused'}" for name, n in tokens.items())
    if shown:
        typer.echo(f"tokens       of a picture: {shown}")
    for line in heard:
        typer.echo(f"tokens       {line}")
    for missing in dict.fromkeys(stage.missing for stage in made.stages if stage.missing):
        typer.echo(f"             ({missing}: packs of made-up media stand in)")
    typer.echo(f"device       {device.name}, {device.dtype}, {device.threads} threads")
    for stage in made.stages:
        steps = "as many steps as its data makes" if stage.steps is None else _steps(stage.steps, stage.known)
        estimates = [clock(stage.seconds)] if stage.seconds is not None else []
        estimates += [f"{stage.memory_gib:.1f} GiB"] if stage.memory_gib is not None else []
        cost = f", about {' and '.join(estimates)}" if estimates else ""
        if stage.flop is not None:
            cost += f", {stage.flop / 1e12:,.0f} TFLOP a step"
        typer.echo(
            f"stage        {stage.name}: trains {count(stage.trainable)} of {count(total)}, {steps}"
            f"{cost}; packs of {length} tokens, {stage.packing:.1%} of them real"
        )
    seconds = [stage.seconds for stage in made.stages if stage.seconds is not None]
    if len(seconds) == len(made.stages):
        typer.echo(f"training     about {clock(sum(seconds))} in all, without measuring")
    elif any(stage.flop is not None for stage in made.stages):
        typer.echo("training     time is not measured on a device this slow; memory and work are those in bfloat16")
    elif all(stage.memory_gib is not None for stage in made.stages):
        typer.echo("training     how long is not known without the data")
    else:
        typer.echo("training     time and memory are not measured on a device this slow: plan on the one to train on")


def _steps(steps: float, known: bool) -> str:
    return f"{steps:,.0f} steps" if known else f"about {max(1, round(steps)):,} steps"


def parse(text: str) -> tuple[int, int]:
    """`640x480` to numbers. Raises MediaError."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise MediaError(f"--size '{text}': expected WIDTHxHEIGHT in px, for example 640x480")
    return int(width), int(height)


def tokens_of(recipe: Recipe, width: int, height: int) -> int:
    """Tokens of a picture of that size, px; 0 when the media rule refuses it."""
    from vitrail.media.rule import picture_rule
    from vitrail.models.config import token_grid

    grid = token_grid(recipe.model.projector)
    try:
        views = picture_rule(recipe.model.pictures).views(width, height)
    except MediaError:
        return 0
    return sum(view.tokens if grid is None else grid[0] * grid[1] for view in views)


def tokens_of_sounds(recipe: Recipe) -> list[str]:
    """What each stream of sound makes of some lengths, a line each."""
    from vitrail.media.config import LogMelConfig
    from vitrail.media.rule import sound_tokens
    from vitrail.models.config import token_grid

    return [
        f"of a sound ({name}): "
        + ", ".join(f"{s:g} s -> {sound_tokens(one.media, s, token_grid(one.projector))}" for s in SECONDS)
        for name, one in recipe.model.streams.items()
        if isinstance(one.media, LogMelConfig)
    ]


def count(number: int) -> str:
    """1,234,567 as 1.23 M."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)


def clock(seconds: float) -> str:
    """3,700 s as 1 h 1 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
