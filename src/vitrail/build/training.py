"""Stages made live: their streams and their objectives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vitrail.build.model import custom
from vitrail.contracts.errors import RecipeError
from vitrail.data.encode import Encode
from vitrail.data.loader import Stream
from vitrail.data.mixture import Opened, Replay, open_mixture, sources_of
from vitrail.data.sources.opening import open_source
from vitrail.models.config import CustomConfig
from vitrail.recipe.schema import Recipe
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.loop import Stage
from vitrail.training.objectives import Objective, ObjectiveConfig


def build_objective(stage: StageConfig) -> Objective:
    """What the stage minimises. Raises RecipeError for a class of the user's own that is no Objective."""
    return objective_of(stage.objective, f"stages.{stage.name}.objective").live()


def objective_of(settings: ObjectiveConfig | CustomConfig, where: str) -> Objective:
    """An objective by its settings, which it is itself unless it is the user's own."""
    if not isinstance(settings, CustomConfig):
        return settings
    objective = custom(settings.kind, where, **settings.options)
    if not isinstance(objective, Objective):
        raise RecipeError(f"{where}: '{settings.kind}' must be a subclass of vitrail.training.objectives.Objective")
    return objective


def objectives_of(stages: Iterable[StageConfig]) -> dict[str, Objective]:
    """The objective of each stage, by the stage's name."""
    return {stage.name: objective_of(stage.objective, f"stages.{stage.name}.objective") for stage in stages}


def with_heads(stages: Sequence[StageConfig]) -> tuple[ObjectiveConfig | CustomConfig, ...]:
    """Settings of the objectives whose modules are part of the model."""
    made = objectives_of(stages)
    found: list[ObjectiveConfig | CustomConfig] = []
    for stage in stages:
        if made[stage.name].head_names and stage.objective not in found:
            found.append(stage.objective)
    return tuple(found)


def build_stages(
    recipe: Recipe,
    encode: Encode,
    device: Device,
    opened: Opened | None = None,
    stages: Sequence[StageConfig] | None = None,
) -> list[Stage]:
    """The stages with their streams; each draws its order from a seed of its own.

    opened: sources that need not be opened again. stages: some of the recipe's, changed in what they train, which draw
    the same rows in the same order; None for all of them. Raises RecipeError for epochs of data that has no end.
    """
    stages = recipe.stages if stages is None else stages
    data = {stage.name: stage.data or recipe.data.train for stage in recipe.stages}
    if opened is None:
        read = {name for stage in stages for name in (stage.name, *stage.replay)}
        opened = {source: open_source(source) for name in read for source in sources_of(data[name])}
    numbers = {stage.name: number for number, stage in enumerate(recipe.stages)}
    made = []
    for config in stages:
        replays = tuple(Replay(earlier, data[earlier], share) for earlier, share in config.replay.items())
        mixture = open_mixture(data[config.name], opened, recipe.seed * 1000 + numbers[config.name], replays)
        if config.epochs is not None and mixture.rows is None:
            raise RecipeError(f"stages.{config.name}.epochs: streamed data has no epochs; give steps or tokens")
        pack = recipe.data.pack
        objective = build_objective(config)
        if isinstance(config.objective, CustomConfig):
            # Those of the package are checked where the recipe is read, which makes no objects.
            objective.check(config, recipe.stages, recipe.model)
        if objective.needs.variants is not None and encode.start is not None:
            raise RecipeError(
                f"stages.{config.name}.objective: '{config.objective.kind}' compares ways in which a row may go on, "
                "which takes a backbone of kind decoder"
            )
        stream = Stream(
            mixture,
            replace(encode, needs=objective.needs),
            pack,
            max_lost=recipe.data.max_lost,
            resolution=config.resolution,
            lasts=config.lasts,
            pad_to=pack.length if device.compiled else 0,
            workers=recipe.data.workers,
        )
        made.append(Stage(config, stream, objective))
    return made
