"""From the name a user types to a checked recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.prompts.templates import template
from vitrail.recipe.bundled import find
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import Resolved, read

COMPONENTS = ("encoder", "projector", "fusion", "backbone")


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Resolved[Recipe]:
    """Reads a recipe by path or bundled name and checks what no single field can know. Raises RecipeError."""
    path = Path(name)
    resolved = read(Recipe, path if path.is_file() else find(name, path), overrides, find)
    check(resolved.value)
    return resolved


def check(recipe: Recipe) -> None:
    """Raises RecipeError for parts that do not fit together."""
    template(recipe.prompt.template)
    if not recipe.stages:
        raise RecipeError("stages: a recipe needs at least one stage")
    names = [stage.name for stage in recipe.stages]
    for number, stage in enumerate(recipe.stages):
        if stage.name in names[:number]:
            raise RecipeError(f"stages[{number}].name: '{stage.name}' is taken by an earlier stage")
        for component in stage.train:
            if component not in COMPONENTS:
                raise RecipeError(
                    f"stages.{stage.name}.train: unknown component '{component}'{nearest(component, COMPONENTS)}; "
                    f"known: {', '.join(COMPONENTS)}"
                )
    pack, media = recipe.data.pack, recipe.model.media
    if media.max_tokens >= pack.length:
        raise RecipeError(
            f"model.media.max_tokens ({media.max_tokens}) must be less than data.pack.length ({pack.length}): "
            "a picture of that size would never fit"
        )
    if media.max_tokens * media.merge**2 > pack.patches:
        raise RecipeError(
            f"data.pack.patches ({pack.patches}) holds no picture of model.media.max_tokens "
            f"({media.max_tokens} tokens are {media.max_tokens * media.merge**2} patches)"
        )
