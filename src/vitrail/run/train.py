"""A whole run: measure, train stage by stage, measure again, the blind baseline, the report.

Each part leaves its result in the run's folder, so a run that was stopped anywhere goes on with the part it was in.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from vitrail import build
from vitrail.contracts.errors import DataError, RecipeError
from vitrail.contracts.protocols import Source
from vitrail.data.config import Reading
from vitrail.data.encode import Encode, Shown
from vitrail.data.mixture import Opened, open_held_out, sources_of
from vitrail.data.sources.config import FilesConfig
from vitrail.data.unanswered import check_answered
from vitrail.data.with_media import FIRST, with_media
from vitrail.disk import with_room
from vitrail.evaluation import answers as asking
from vitrail.evaluation.losses import held_out_losses
from vitrail.evaluation.pairs import ranked_right
from vitrail.evaluation.plain_text import read_text, text_change, text_loss
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.scoring import METRICS, summarise
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.adapters import switched_off
from vitrail.models.weights import load_model
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
from vitrail.training.parallel.launch import started
from vitrail.training.parallel.single import Parallel

SWAPPED = "swapped"
"""The name of what the trained model answers to another row's media."""


@dataclass(frozen=True)
class Baseline:
    """The same recipe with something else in the place of media. name: of its results. shown: instead of media."""

    name: str
    shown: Shown


BLIND, PASTED = Baseline("blind", "nothing"), Baseline("pasted", "text")


@dataclass
class Run:
    """What the parts of a run share. text: plain text to measure the language on; "" for none. parallel: with whom."""

    recipe: Recipe
    folder: RunFolder
    device: Device
    encode: Encode
    vocabulary: int
    screen: Screen
    sources: Opened
    held_out: tuple[Source, Reading] | None
    text: str
    parallel: Parallel

    def keep(self, write: Callable[[], None]) -> None:
        """Writes something of the run, however long the disk stays full."""
        with_room(write, self.screen.say)

    def add_result(self, name: str, value: Any) -> None:
        """Adds one entry to what was measured."""
        self.keep(lambda: self.folder.add_result(name, value))

    def fresh_model(self) -> MultimodalModel:
        """The model before training: the same weights each time it is asked for."""
        dtype = self.device.torch_dtype
        recipe = self.recipe
        objectives = build.objectives_of(recipe.stages).values()
        model = build.starting_model(recipe.model, self.vocabulary, recipe.seed, dtype, objectives)
        return model.to(self.device.name)

    def trained(self, model: MultimodalModel, folder: RunFolder) -> MultimodalModel:
        """The model that stages have trained in a folder, whole; `model` is what they trained it in."""
        if self.parallel.ranks == 1:
            return model
        end = checkpoint.latest(folder.checkpoints)
        assert end is not None, "the last stage has ended"
        whole = self.fresh_model()
        load_model(whole, end / checkpoint.MODEL)
        return whole

    def chat(self, model: MultimodalModel, baseline: Baseline | None = None) -> ChatModel:
        """To ask it questions."""
        encode = dataclasses.replace(self.encode, shown=baseline.shown if baseline else "media")
        return ChatModel(model.eval(), encode, self.device.name)


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
            parallel.alone(lambda: run.keep(lambda: report.write(resolved, folder)))
    return folder


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


def score(run: Run, model: ChatModel, which: str) -> None:
    """Asks every held-out question and keeps answers and scores under the name `which`, unless they are there.

    Those named SWAPPED are asked with another row's media; kept besides is how many answers are others than `after`.
    """
    if which in run.folder.results():
        return
    assert run.held_out, "scores need held-out rows"
    source, reading = run.held_out
    started = time.perf_counter()
    with run.screen.counting(f"questions, {which}", len(source)) as on_answer:
        limit = run.recipe.evaluate.max_tokens
        given = asking.ask(model, source, reading, limit, on_answer, swapped=which == SWAPPED)
    run.keep(lambda: asking.write(given, run.folder.answers(which)))
    summary = summarise(given)
    if which == SWAPPED:
        summary["changed"] = asking.changed(asking.read(run.folder.answers("after")), given).to_json()
    run.add_result(which, {**summary, "seconds": time.perf_counter() - started})
    said = f"; other answers {summary['changed']['value']:.3f}" if which == SWAPPED else ""
    run.screen.say(f"{which}: {headline(summary)}{said}")


def measure_losses(run: Run, model: ChatModel) -> None:
    """Loss of the held-out answers with the right, a wrong and no picture."""
    assert run.held_out, "losses need held-out rows"
    source, reading = run.held_out
    started = time.perf_counter()
    with run.screen.counting("held-out losses", len(source)) as on_row:
        losses = held_out_losses(model, source, reading, on_row)
    run.add_result("losses", losses)
    run.add_result("losses_seconds", time.perf_counter() - started)
    texts = [f"{name} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" for name, value in losses.items()]
    run.screen.say(f"held-out loss by picture: {', '.join(texts)}")


def measure_pairs(run: Run, model: MultimodalModel) -> None:
    """Share of the held-out pairs ranked right at the end of every stage; the model is left as the last one left it."""
    assert run.held_out, "pairs need held-out rows"
    source, reading = run.held_out
    started = time.perf_counter()
    found = {}
    for stage, end in zip(run.recipe.stages, checkpoint.ends(run.folder.checkpoints), strict=True):
        load_model(model, checkpoint.sound(end) / checkpoint.MODEL)
        with run.screen.counting(f"held-out pairs, {stage.name}", len(source)) as on_row:
            found[stage.name] = ranked_right(run.chat(model), source, reading, on_row)
        texts = [
            f"{name} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
            for name, value in found[stage.name].items()
        ]
        run.screen.say(f"held-out pairs ranked right after {stage.name}: {', '.join(texts)}")
    run.add_result("pairs", found)
    run.add_result("pairs_seconds", time.perf_counter() - started)


def measure_text(run: Run, model: ChatModel, which: str) -> None:
    """Loss on plain text, under the name `text_<which>`, unless it is there; once both are, by how much it changed."""
    name = f"text_{which}"
    if name in run.folder.results():
        return
    started = time.perf_counter()
    found = text_loss(model, run.text)
    if which == "after":
        run.add_result("text_change", text_change(run.folder.results()["text_before"], found))
    run.add_result(name, {**found, "seconds": time.perf_counter() - started})
    run.screen.say(f"plain text, {which}: {found['value']:.3f} nats a token, {found['bits_per_byte']:.3f} bits a byte")


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


def headline(summary: dict[str, Any]) -> str:
    """The overall scores in one line."""
    parts = []
    for metric in METRICS:
        found = summary[metric]
        if found["n"]:
            name = metric.replace("_", " ")
            parts.append(f"{name} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}], n = {found['n']}")
    return "; ".join(parts)
