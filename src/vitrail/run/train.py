"""A whole run: measure, train stage by stage, measure again, the blind baseline, the report.

Each part leaves its result in the run's folder, so a run that was stopped anywhere goes on with the part it was in.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import Source
from vitrail.data.config import DialectName
from vitrail.data.encode import Encode
from vitrail.data.ledger import Ledger
from vitrail.data.mixture import Opened, open_held_out, sources_of
from vitrail.data.unanswered import check_answered
from vitrail.evaluation import answers as asking
from vitrail.evaluation.losses import held_out_losses
from vitrail.evaluation.plain_text import read_text, text_change, text_loss
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.scoring import METRICS, summarise
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.adapters import switched_off
from vitrail.models.config import CustomConfig
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import Resolved
from vitrail.run import report
from vitrail.run.folder import RunFolder
from vitrail.run.screen import Screen, Silent
from vitrail.training import checkpoint
from vitrail.training.config import StageConfig
from vitrail.training.device import Device, choose
from vitrail.training.loop import Trainer
from vitrail.training.objectives import ObjectiveConfig


@dataclass
class Run:
    """What the parts of a run share. text: plain text to measure the language on; "" for none."""

    recipe: Recipe
    folder: RunFolder
    device: Device
    encode: Encode
    vocabulary: int
    screen: Screen
    sources: Opened
    held_out: tuple[Source, DialectName] | None
    text: str

    def fresh_model(self) -> MultimodalModel:
        """The model before training: the same weights each time it is asked for."""
        dtype = self.device.torch_dtype
        recipe = self.recipe
        objectives = build.objectives_of(recipe.stages).values()
        model = build.starting_model(recipe.model, self.vocabulary, recipe.seed, dtype, objectives)
        return model.to(self.device.name)

    def chat(self, model: MultimodalModel, *, blind: bool = False) -> ChatModel:
        """To ask it questions."""
        encode = dataclasses.replace(self.encode, drop_media=blind)
        return ChatModel(model.eval(), encode, self.device.name)


def train(resolved: Resolved[Recipe], screen: Screen | None = None) -> RunFolder:
    """Runs a recipe to its end, from wherever its folder stands. Raises Stopped when a signal ended it sooner."""
    recipe, folder = resolved.value, RunFolder(resolved.value.run)
    screen = screen or Silent()
    # Everything that a mistake could be in is opened before the folder is taken and before any time is spent.
    wanted = [source for stage in recipe.stages for source in sources_of(stage.data or recipe.data.train)]
    wanted += [recipe.data.held_out] if recipe.data.held_out else []
    sources = {config: build.build_source(config) for config in wanted}
    held_out = open_held_out(recipe.data.held_out, sources) if recipe.data.held_out else None
    check_sources(recipe, sources, screen)
    text = read_text(recipe.evaluate.text)
    device = same_device(choose(recipe.training), folder, screen)
    folder.claim(resolved)
    with folder.locked():
        torch.set_num_threads(device.threads)
        tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
        encode = build.build_encode(recipe.model, recipe.prompt, tokenizer, recipe.data.fetch)
        _go_on(Run(recipe, folder, device, encode, tokenizer.vocabulary, screen, sources, held_out, text))
        report.write(resolved, folder)
    return folder


def check_sources(recipe: Recipe, sources: Opened, screen: Screen) -> None:
    """Says how many rows still wait for their answer. Raises DataError where they are too many."""
    for config, (source, dialect) in sources.items():
        held_out = config == recipe.data.held_out
        said = check_answered(source, dialect, None if held_out else recipe.data.max_lost)
        if said:
            screen.say(said)


def _go_on(run: Run) -> None:
    """Every part of the run that is not done yet."""
    recipe, folder = run.recipe, run.folder
    model = run.fresh_model()
    measures = recipe.evaluate if recipe.data.held_out else None
    if measures and measures.answers and measures.before:
        score(run, run.chat(model), "before")
    if run.text:
        # The language model as it came, also where the recipe begins with an adapter.
        with switched_off(model):
            measure_text(run, run.chat(model), "before")
    seconds = train_stages(run, folder, model, recipe.stages)
    heads = build.with_heads(recipe.stages)
    build.save_weights(model, run.encode, recipe.model, recipe.prompt, folder.weights, heads)
    if recipe.model.backbone.lora:
        build.save_adapter(model, recipe.model, folder.adapter)
    folder.add_result("training_seconds", seconds)
    if measures and measures.answers:
        score(run, run.chat(model), "after")
    if run.text:
        measure_text(run, run.chat(model), "after")
    if measures and measures.losses and "losses" not in folder.results():
        measure_losses(run, run.chat(model))
    if measures and measures.answers and measures.blind:
        blind_baseline(run)


def same_device(device: Device, folder: RunFolder, screen: Screen) -> Device:
    """A run that goes on computes as it began, or it could not agree bit for bit; what differs here is said."""
    found = checkpoint.latest(folder.path / "checkpoints") or checkpoint.latest(folder.blind.path / "checkpoints")
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
    run: Run, folder: RunFolder, model: MultimodalModel, stages: Sequence[StageConfig], *, blind: bool = False
) -> float:
    """Trains, or goes on training, in `folder`; returns the seconds its steps took in all."""
    recipe = dataclasses.replace(run.recipe, stages=tuple(stages))
    encode = dataclasses.replace(run.encode, drop_media=blind)
    label = "blind baseline" if blind else "training"
    with run.screen.training(label) as on_step:
        trainer = Trainer(
            model.train(),
            build.build_stages(recipe, encode, run.device, run.sources),
            folder.path,
            run.device,
            recipe.training.checkpoint_every,
            on_step,
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
    Ledger.from_json(state.ledger).write(folder.path / "ledger.jsonl")
    return state.counters.get("seconds", 0.0)


def score(run: Run, model: ChatModel, which: str) -> None:
    """Asks every held-out question and keeps answers and scores under the name `which`, unless they are there."""
    if which in run.folder.results():
        return
    assert run.held_out, "scores need held-out rows"
    source, dialect = run.held_out
    started = time.perf_counter()
    with run.screen.counting(f"questions, {which}", len(source)) as on_answer:
        given = asking.ask(model, source, dialect, run.recipe.evaluate.max_tokens, on_answer)
    asking.write(given, run.folder.answers(which))
    summary = summarise(given)
    run.folder.add_result(which, {**summary, "seconds": time.perf_counter() - started})
    run.screen.say(f"{which}: {headline(summary)}")


def measure_losses(run: Run, model: ChatModel) -> None:
    """Loss of the held-out answers with the right, a wrong and no picture."""
    assert run.held_out, "losses need held-out rows"
    source, dialect = run.held_out
    started = time.perf_counter()
    with run.screen.counting("held-out losses", len(source)) as on_row:
        losses = held_out_losses(model, source, dialect, on_row)
    run.folder.add_result("losses", losses)
    run.folder.add_result("losses_seconds", time.perf_counter() - started)
    texts = [f"{name} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" for name, value in losses.items()]
    run.screen.say(f"held-out loss by picture: {', '.join(texts)}")


def measure_text(run: Run, model: ChatModel, which: str) -> None:
    """Loss on plain text, under the name `text_<which>`, unless it is there; once both are, by how much it changed."""
    name = f"text_{which}"
    if name in run.folder.results():
        return
    started = time.perf_counter()
    found = text_loss(model, run.text)
    if which == "after":
        run.folder.add_result("text_change", text_change(run.folder.results()["text_before"], found))
    run.folder.add_result(name, {**found, "seconds": time.perf_counter() - started})
    run.screen.say(f"plain text, {which}: {found['value']:.3f} nats a token, {found['bits_per_byte']:.3f} bits a byte")


def blind_baseline(run: Run) -> None:
    """The same recipe with every picture withheld; stages that freeze the backbone have nothing to learn then."""
    if "blind" in run.folder.results():
        return
    stages = [stage for stage in run.recipe.stages if "backbone" in stage.train]
    if not stages:
        run.screen.say("no stage trains the backbone: the blind baseline is the model before training")
    model = run.fresh_model()
    if stages:
        run.folder.blind.path.mkdir(exist_ok=True)
        only = [_blind(stage) for stage in stages]
        seconds = train_stages(run, run.folder.blind, model, only, blind=True)
        run.folder.add_result("blind_training_seconds", seconds)
    score(run, run.chat(model, blind=True), "blind")


def _blind(stage: StageConfig) -> StageConfig:
    """What is left of a stage without media: the backbone, and the blind form of its objective."""
    objective = stage.objective
    if not isinstance(objective, CustomConfig):
        objective = cast(ObjectiveConfig, objective.blind())
    return dataclasses.replace(stage, train={"backbone": stage.train["backbone"]}, objective=objective)


def headline(summary: dict[str, Any]) -> str:
    """The overall scores in one line."""
    parts = []
    for metric in METRICS:
        found = summary[metric]
        if found["n"]:
            name = metric.replace("_", " ")
            parts.append(f"{name} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}], n = {found['n']}")
    return "; ".join(parts)
