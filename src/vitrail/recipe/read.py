"""From the name a user types to a checked recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import TypeIs

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.media.config import TilesConfig
from vitrail.prompts.templates import known
from vitrail.recipe.bundled import find
from vitrail.recipe.model_from import over_model
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import Resolved, read
from vitrail.training.config import ContrastiveCaptionConfig, ListeningConfig, ReadingConfig

COMPONENTS = ("encoder", "projector", "fusion", "backbone", "contrast", "spotter")


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Resolved[Recipe]:
    """Reads a recipe by path or bundled name and checks what no single field can know. Raises RecipeError."""
    path = Path(name)
    resolved = read(Recipe, path if path.is_file() else find(name, path), overrides, find, over_model)
    check(resolved.value)
    return resolved


def check(recipe: Recipe) -> None:
    """Raises RecipeError for parts that do not fit together."""
    known(recipe.prompt.template)
    if not recipe.stages:
        raise RecipeError("stages: a recipe needs at least one stage")
    for component in recipe.model.weights:
        _known(component, "model.weights")
    names = [stage.name for stage in recipe.stages]
    for number, stage in enumerate(recipe.stages):
        if stage.name in names[:number]:
            raise RecipeError(f"stages[{number}].name: '{stage.name}' is taken by an earlier stage")
        for component in stage.train:
            _known(component, f"stages.{stage.name}.train")
        for earlier in stage.replay:
            if earlier not in names[:number]:
                raise RecipeError(
                    f"stages.{stage.name}.replay: '{earlier}' is no earlier stage{nearest(earlier, names[:number])}; "
                    f"earlier: {', '.join(names[:number]) or 'none'}"
                )
        if isinstance(stage.objective, ContrastiveCaptionConfig):
            if stage.objective.contrastive and not recipe.model.contrast:
                raise RecipeError(f"stages.{stage.name}.objective: a contrastive term needs model.contrast")
            if stage.objective.spotting and not recipe.model.spotter:
                raise RecipeError(f"stages.{stage.name}.objective: a spotting term needs model.spotter: true")
        if _uses_marks(stage.objective) and _cuts(recipe.model.media):
            raise RecipeError(
                f"stages.{stage.name}.objective: where characters stand is known of whole pictures, and model.media "
                "cuts them; allowed: kind native, or one squashed tile"
            )
    mixed = {stage.name: (made.tokens, made.fade) for stage in recipe.stages if _mixes(made := stage.objective)}
    if len(set(mixed.values())) > 1:
        shown = ", ".join(f"{name} {tokens} and {fade}" for name, (tokens, fade) in mixed.items())
        raise RecipeError(f"stages: reading and listening must have the same tokens and fade (got {shown})")
    if recipe.model.positions.kind == "mrope" and recipe.prompt.picture.row_break:
        raise RecipeError(
            f"prompt.picture.row_break is '{recipe.prompt.picture.row_break}', with model.positions.kind mrope there "
            "is none: rows are told apart by their positions"
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


def _mixes(objective: object) -> TypeIs[ReadingConfig | ListeningConfig]:
    return isinstance(objective, ReadingConfig | ListeningConfig)


def _uses_marks(objective: object) -> bool:
    return _mixes(objective) or (isinstance(objective, ContrastiveCaptionConfig) and objective.spotting > 0)


def _cuts(media: object) -> bool:
    return isinstance(media, TilesConfig) and (media.max_tiles > 1 or media.fit == "crop")


def _known(component: str, where: str) -> None:
    if component not in COMPONENTS:
        raise RecipeError(
            f"{where}: unknown component '{component}'{nearest(component, COMPONENTS)}; known: {', '.join(COMPONENTS)}"
        )
