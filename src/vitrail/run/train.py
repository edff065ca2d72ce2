"""A whole run: measure, train stage by stage, measure again, the blind baseline, the report.

Each part leaves its result in the run's folder, so a run that was stopped anywhere goes on with the part it was in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch

from vitrail import build
from vitrail.build.starting import WEIGHTS
from vitrail.contracts.errors import DataError, RecipeError
from vitrail.data.mixture import Opened, open_held_out, sources_of
from vitrail.data.sources.config import FilesConfig
from vitrail.data.unanswered import check_answered
from vitrail.data.with_media import FIRST, with_media
from vitrail.disk import digest
from vitrail.evaluation.plain_text import read_text
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.adapters import switched_off
from vitrail.models.backbones.weights_source import cache_folder
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import Resolved
from vitrail.run import report, story
from vitrail.run.folder import RunFolder
from vitrail.run.measure import SWAPPED, measure_losses, measure_pairs, measure_text, score
from vitrail.run.opened import BLIND, PASTED, Baseline, Run
from vitrail.run.screen import Screen, Silent
from vitrail.training import checkpoint
from vitrail.training.config import StageConfig
from vitrail.training.device import Device, choose
from vitrail.training.kept_features import KeptFeatures
from vitrail.training.loop import Trainer
from vitrail.training.objectives import ObjectiveConfig
from vitrail.training.parallel.launch import started
from vitrail.training.parallel.single import Parallel


def train(resolved: Resolved[Recipe], screen: Screen | None = None) -> RunFolder:
    """Runs a recipe to its end, from wherever its folder stands. Raises Stopped when a signal ended it sooner."""
    recipe, folder = resolved.value, RunFolder(resolved.value.run)
    device = choose(recipe.training)
    with started(device.name) as parallel:
        parallel.check(recipe.stages, build.objectives_of(recipe.stages))
        told = screen if screen and parallel.first else Silent()
        # Everything that a mistake could be in is opened before the folder is taken and before any time is spent.
        run = parallel.agreed(lambda: _opened(recipe, folder, device, told, parallel))
        with parallel.held(lambda: folder.claimed(resolved)):
            torch.set_num_threads(run.device.threads)
            _go_on(run)
            parallel.alone(lambda: _ended(run, resolved))
    return folder


def _ended(run: Run, resolved: Resolved[Recipe]) -> None:
    """The report, and what the run came to, on the screen."""
    run.add_result("seconds", report.seconds(run.folder))
    run.add_result("weights_sha256", digest(run.folder.weights / WEIGHTS))
    run.keep(lambda: report.write(resolved, run.folder))
    for line in story.questions(report.examples(run.recipe, run.folder, story.COUNT)):
        run.screen.say(line)
    run.screen.say(story.outcome(run.folder.results(), report.counts(run.folder), run.device.threads))


def _opened(recipe: Recipe, folder: RunFolder, device: Device, screen: Screen, parallel: Parallel) -> Run:
    """What every part needs."""
    wanted = [source for stage in recipe.stages for source in sources_of(stage.data or recipe.data.train)]
    wanted += [recipe.data.held_out] if recipe.data.held_out else []
    sources = {config: build.build_source(config) for config in wanted}
    held_out = open_held_out(recipe.data.held_out, sources) if recipe.data.held_out else None
    check_sources(recipe, sources, screen)
    check_media(recipe, sources, screen)
    text = read_text(recipe.evaluate.text)
    device = same_device(device, folder, screen)
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer, recipe.data.fetch)
    return Run(recipe, folder, device, encode, tokenizer.vocabulary, screen, sources, held_out, text, parallel)


def check_sources(recipe: Recipe, sources: Opened, screen: Screen) -> None:
    """Says how many rows still wait for their answer. Raises DataError where they are too many."""
    for config, (source, reading) in sources.items():
        held_out = config == recipe.data.held_out
        said = check_answered(source, reading, None if held_out else recipe.data.max_lost)
        if said:
            screen.say(said)


def check_media(recipe: Recipe, sources: Opened, screen: Screen) -> None:
    """Says how many rows have media. Raises DataError where none has any, and the model an encoder for them."""
    training = [source for stage in recipe.stages for source in sources_of(stage.data or recipe.data.train)]
    found = []
    for config in dict.fromkeys(training):
        source, reading = sources[config]
        # What we draw ourselves is all of one kind.
        looked = with_media(source, reading, FIRST if isinstance(config, FilesConfig) else 1)
        found.append(looked)
        if isinstance(config, FilesConfig):
            screen.say(str(looked))
    blind = sum(one.looked_at for one in found) and not any(one.found for one in found)
    if blind and recipe.model.towers and not recipe.data.allow_text_only:
        raise DataError(
            f"no row has a picture, a video or a sound ({'; '.join(map(str, found))}), and the model has an encoder "
            f"({', '.join(recipe.model.towers)}): data.allow_text_only: true trains it on text alone"
        )


def _go_on(run: Run) -> None:
    """Every part of the run that is not done yet."""
    _sighted(run)
    measures = run.recipe.evaluate
    if run.recipe.data.held_out and measures.answers:
        # The model that has been trained is let go of: two of them would take twice the memory.
        for wanted, baseline in ((measures.blind, BLIND), (measures.pasted, PASTED)):
            if wanted:
                measure_baseline(run, baseline)


def _sighted(run: Run) -> None:
    """The model with its media: before, training, after."""
    model = run.fresh_model()
    run.parallel.alone(lambda: _before(run, model))
    seconds = train_stages(run, run.folder, model, run.recipe.stages)
    run.parallel.alone(lambda: _after(run, run.trained(model, run.folder), seconds))


def _before(run: Run, model: MultimodalModel) -> None:
    """What is measured of the model before its training."""
    measures = run.recipe.evaluate if run.recipe.data.held_out else None
    if measures and measures.answers and measures.before:
        score(run, run.chat(model), "before")
        for line in story.questions(report.examples(run.recipe, run.folder, story.COUNT)):
            run.screen.say(line)
    if run.text:
        # The language model as it came, also where the recipe begins with an adapter.
        with switched_off(model):
            measure_text(run, run.chat(model), "before")


def _after(run: Run, model: MultimodalModel, seconds: float) -> None:
    """Keeps the finished model, and measures it."""
    recipe, folder = run.recipe, run.folder
    measures = recipe.evaluate if recipe.data.held_out else None
    heads = build.with_heads(recipe.stages)
    run.keep(lambda: build.save_weights(model, run.encode, recipe.model, recipe.prompt, folder.weights, heads))
    if recipe.model.backbone.lora:
        run.keep(lambda: build.save_adapter(model, recipe.model, folder.adapter))
    checkpoint.prune(folder.checkpoints, keep=0)
    run.add_result("training_seconds", seconds)
    if measures and measures.answers:
        score(run, run.chat(model), "after")
    if measures and measures.swapped:
        score(run, run.chat(model), SWAPPED)
    if run.text:
        measure_text(run, run.chat(model), "after")
    if measures and measures.losses and "losses" not in folder.results():
        measure_losses(run, run.chat(model))
    if measures and measures.pairs and "pairs" not in folder.results():
        measure_pairs(run, model)


def same_device(device: Device, folder: RunFolder, screen: Screen) -> Device:
    """A run that goes on computes as it began, or it could not agree bit for bit; what differs here is said."""
    baselines = (folder.baseline(one.name) for one in (BLIND, PASTED))
    found = next(filter(None, (checkpoint.latest(one.checkpoints) for one in (folder, *baselines))), None)
    if found is None:
        return device
    began = Device(**checkpoint.load_state(found).device)
    if began != device:
        changed = [
            f"{name} {value} (here: {getattr(device, name)})"
            for name, value in dataclasses.asdict(began).items()
            if value != getattr(device, name)
        ]
        screen.say(f"going on as the run began: {', '.join(changed)}")
    if began.name != device.name:
        raise RecipeError(f"training.device: the run began on {began.name}, this is {device.name}")
    return began


def train_stages(
    run: Run, folder: RunFolder, model: MultimodalModel, stages: Sequence[StageConfig], baseline: Baseline | None = None
) -> float:
    """Trains, or goes on training, in `folder`; returns the seconds its steps took in all."""
    recipe = run.recipe
    encode, label = run.encode, "training"
    if baseline:
        encode, label = dataclasses.replace(encode, withhold=baseline.shown), f"{baseline.name} baseline"
    with run.screen.training(label) as on_step:
        trainer = Trainer(
            model.train(),
            build.build_stages(recipe, encode, run.device, run.sources, stages),
            folder.path,
            run.device,
            recipe.training.checkpoint_every,
            on_step,
            run.parallel,
            recipe.training.skip_nonfinite,
            recipe.seed,
            run.screen.say,
            kept_features(run),
        )
        if trainer.resume():
            state = trainer.state
            if state.stage == len(stages):
                run.screen.say(f"{label}: already done, {state.total_steps} steps")
            else:
                name = stages[state.stage].name
                run.screen.say(
                    f"{label}: going on in stage {name} after step {state.step} ({state.total_steps} in all)"
                )
        state = trainer.run()
    run.parallel.alone(lambda: run.keep(lambda: folder.write_ledger(state.ledger)))
    return state.counters.get("seconds", 0.0)


def kept_features(run: Run) -> KeptFeatures | None:
    """Where features of frozen encoders are kept, if they are to be."""
    keep = run.recipe.training.keep_features
    if keep == "off" or run.parallel.ranks > 1 or (keep == "auto" and run.device.name != "cpu"):
        return None
    encoders = {name: repr(stream.encoder) for name, stream in run.recipe.model.towers.items()}
    return KeptFeatures(cache_folder() / "features", encoders, keep == "on", run.screen.say)


def measure_baseline(run: Run, baseline: Baseline) -> None:
    """The same recipe with every medium withheld, the same rows in every step.

    Stages that freeze the backbone, or learn from media alone, have nothing to learn then.
    """
    name, folder = baseline.name, run.folder.baseline(baseline.name)
    if run.parallel.alone(lambda: name in run.folder.results()):
        return
    stages = text_stages(run.recipe.stages)
    if not stages:
        run.screen.say(f"no stage trains the backbone on text: the {name} baseline is the model before training")
    model = run.fresh_model()
    if stages:
        run.parallel.alone(lambda: folder.path.mkdir(exist_ok=True))
        seconds = train_stages(run, folder, model, stages, baseline)
        run.parallel.alone(lambda: run.add_result(f"{name}_training_seconds", seconds))

    def scored() -> None:
        asked = run.trained(model, folder) if stages else model
        score(run, run.chat(asked, baseline), name)
        checkpoint.prune(folder.checkpoints, keep=0)

    run.parallel.alone(scored)


def text_stages(stages: Sequence[StageConfig]) -> list[StageConfig]:
    """What is left of stages without media: the backbone, and the blind form of their objectives."""
    found = []
    for stage in stages:
        objective = build.objectives_of([stage])[stage.name].blind()
        if "backbone" in stage.train and objective is not None:
            train = {"backbone": stage.train["backbone"]}
            found.append(dataclasses.replace(stage, train=train, objective=cast(ObjectiveConfig, objective)))
    return found
