"""From the name a user types to a checked recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.data.config import MixtureConfig, PackConfig
from vitrail.media.config import LogMelConfig, TextLinesConfig
from vitrail.models.config import CrossAttentionConfig, ModelConfig, spliced, token_grid
from vitrail.prompts.templates import known
from vitrail.recipe.bundled import find
from vitrail.recipe.model_from import over_model
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import Resolved, read
from vitrail.training.objectives import NextToken, Objective


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
        _known(component, "model.weights", recipe.model.components)
    components = [*recipe.model.components]
    for stage in recipe.stages:
        # The heads of a user's own objective are known once it is made; `training.optimizer` looks again.
        components += stage.objective.head_names if isinstance(stage.objective, Objective) else stage.train
    names = [stage.name for stage in recipe.stages]
    for number, stage in enumerate(recipe.stages):
        if stage.name in names[:number]:
            raise RecipeError(f"stages[{number}].name: '{stage.name}' is taken by an earlier stage")
        for component in stage.train:
            _known(component, f"stages.{stage.name}.train", components)
        for earlier in stage.replay:
            if earlier not in names[:number]:
                raise RecipeError(
                    f"stages.{stage.name}.replay: '{earlier}' is no earlier stage{nearest(earlier, names[:number])}; "
                    f"earlier: {', '.join(names[:number]) or 'none'}"
                )
        if isinstance(stage.objective, Objective):
            stage.objective.check(stage, recipe.stages, recipe.model)
    if recipe.model.positions.kind == "mrope" and recipe.prompt.picture.row_break:
        raise RecipeError(
            f"prompt.picture.row_break is '{recipe.prompt.picture.row_break}', with model.positions.kind mrope there "
            "is none: rows are told apart by their positions"
        )
    if recipe.evaluate.text and recipe.model.backbone.kind == "encoder_decoder":
        raise RecipeError("evaluate.text: plain text asks nothing, and an encoder-decoder answers; it takes a decoder")
    if recipe.evaluate.pasted and not isinstance(recipe.model.media, TextLinesConfig):
        raise RecipeError("evaluate.pasted: what stands on pages is known to model.media.kind: text_lines alone")
    _gates_open(recipe)
    if recipe.model.encoder is not None and not isinstance(recipe.model.media, TextLinesConfig):
        _room_for_pictures(recipe.model, recipe.data.pack)
    if recipe.model.encoder is not None and isinstance(recipe.model.media, TextLinesConfig):
        _no_augmentation(recipe)
    for name, stream in recipe.model.streams.items():
        if isinstance(stream.media, LogMelConfig):
            _room_for_sound(name, stream.media, recipe.data.pack)


def _no_augmentation(recipe: Recipe) -> None:
    """Raises RecipeError for pictures that are to be seen differently each time, of pages that are read once."""
    for data in (recipe.data.train, *(stage.data for stage in recipe.stages)):
        for part in data.parts if isinstance(data, MixtureConfig) else ():
            if part.augment is not None:
                raise RecipeError(
                    f"data: part '{part.name}' has augment, which changes no page that is read "
                    "(model.media.kind: text_lines): leave it out"
                )


def _gates_open(recipe: Recipe) -> None:
    """Raises RecipeError where a stage would train what stands behind gates that are closed, by what comes through."""
    fusion = recipe.model.fusion
    if not isinstance(fusion, CrossAttentionConfig) or fusion.spliced != "none" or "fusion" in recipe.model.weights:
        return
    for stage in recipe.stages:
        if "fusion" in stage.train:
            return
        behind = [name for name in stage.train if name in recipe.model.components and name != "backbone"]
        if behind and isinstance(stage.objective, NextToken):
            raise RecipeError(
                f"stages.{stage.name}.train: {' and '.join(behind)} learns nothing while the gates of model.fusion are "
                "closed, as they are at first: add fusion"
            )


def _room_for_pictures(model: ModelConfig, pack: PackConfig) -> None:
    """Raises RecipeError where the largest picture fits no pack."""
    media, grid = model.pictures, token_grid(model.projector)
    views = {"all": media.max_views, "whole": 1, "none": 0}[spliced(model.fusion)]
    tokens = views * (media.max_tokens // media.max_views if grid is None else grid[0] * grid[1])
    if tokens >= pack.length:
        if grid is not None:
            raise RecipeError(
                f"data.pack.length ({pack.length}) holds no picture: model.projector makes {grid[0]} x {grid[1]} "
                f"tokens of a view of any size, {tokens} of a picture of {views} views"
            )
        raise RecipeError(
            f"model.media.max_tokens ({tokens}) must be less than data.pack.length ({pack.length}): "
            "a picture of that size would never fit"
        )
    beside = [one.media for one in model.streams.values() if not isinstance(one.media, LogMelConfig | TextLinesConfig)]
    patches = sum(one.max_tokens * one.merge**2 for one in (media, *beside))
    if beside and patches > pack.patches:
        raise RecipeError(
            f"data.pack.patches ({pack.patches}) holds no picture in all the streams that see it: {patches} patches"
        )
    if patches > pack.patches:
        raise RecipeError(
            f"data.pack.patches ({pack.patches}) holds no picture of model.media.max_tokens "
            f"({media.max_tokens} tokens are {patches} patches)"
        )


def _room_for_sound(name: str, media: LogMelConfig, pack: PackConfig) -> None:
    """Raises RecipeError where a whole view fits no pack."""
    if media.view_frames > pack.patches:
        raise RecipeError(
            f"data.pack.patches ({pack.patches}) holds no view of model.streams.{name}.media.seconds "
            f"({media.seconds:g} s are {media.view_frames} frames)"
        )


def _known(component: str, where: str, components: Sequence[str]) -> None:
    if component not in components:
        raise RecipeError(
            f"{where}: unknown component '{component}'{nearest(component, components)}; known: {', '.join(components)}"
        )
