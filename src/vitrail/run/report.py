"""The run report, put together from the files a run left in its folder."""

from __future__ import annotations

import io
import platform
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from PIL import Image

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import AudioPart, Conversation, ImagePart
from vitrail.data.ledger import rows_of
from vitrail.data.mixture import open_held_out
from vitrail.evaluation import answers as asking
from vitrail.media import audio, image
from vitrail.metrics.scoring import Answer, measure
from vitrail.recipe.annotated import annotated
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import Resolved
from vitrail.report import page
from vitrail.report.ledger import chosen
from vitrail.report.page import Example, Report
from vitrail.report.scores import RUNS
from vitrail.run.folder import RunFolder
from vitrail.training import checkpoint, runlog
from vitrail.training.checkpoint import State
from vitrail.training.loop import LEFT_OUT, REPLACED

LOOKED_AT = 16
"""Rows that are opened for an example of another picture."""
LARGEST_SIDE = 512
"""Example pictures are scaled down to this many px: the page must stay small enough to send."""


def write(resolved: Resolved[Recipe], folder: RunFolder) -> None:
    """Writes report.html; what the run has not measured yet is left out."""
    state, results = _state(folder), folder.results()
    report = Report(
        title=folder.path.name,
        summary=_summary(resolved.value, folder, state),
        steps=runlog.read(folder.path / "log.jsonl"),
        blind_steps=runlog.read(folder.blind.path / "log.jsonl"),
        results={name: results[name] for name in RUNS if name in results},
        examples=examples(resolved.value, folder, resolved.value.evaluate.examples),
        recipe_yaml=annotated(resolved),
        ledger=_ledger(state, folder),
        time=_time(state, results),
        tokens={
            key.removeprefix("tokens: "): int(value)
            for key, value in state.counters.items()
            if key.startswith("tokens: ")
        },
        captions=results.get("losses"),
        pairs=results.get("pairs"),
        units={name: objective.unit for name, objective in build.objectives_of(resolved.value.stages).items()},
        text={name: results[f"text_{name}"] for name in ("before", "after", "change") if f"text_{name}" in results},
    )
    page.write(report, folder.report)


def seconds(folder: RunFolder) -> float:
    """What all parts of a run took together."""
    return sum(_time(_state(folder), folder.results()).values())


def counts(folder: RunFolder) -> dict[str, int]:
    """Rows by what became of them, over all sources."""
    found: dict[str, int] = _ledger(_state(folder), folder)["counts"]
    return found


def _state(folder: RunFolder) -> State:
    """At the end of the last stage, or as far as it is."""
    found = checkpoint.latest(folder.checkpoints)
    return checkpoint.load_state(found) if found else State()


def _summary(recipe: Recipe, folder: RunFolder, state: State) -> Mapping[str, str]:
    device = state.device
    tokens = sum(
        value for key, value in state.counters.items() if key in ("tokens: text", "tokens: media", "tokens: picture")
    )
    left_out, replaced = state.counters.get(LEFT_OUT, 0), state.counters.get(REPLACED, 0)
    minutes, seconds = divmod(round(state.counters.get("seconds", 0)), 60)
    return {
        "Stages": ", ".join(stage.name for stage in recipe.stages),
        "Steps": f"{state.total_steps:,}",
        "Tokens": f"{int(tokens):,}",
        "Training": f"{minutes} min {seconds} s",
        **({"Steps left out": f"{int(left_out):,}, loss or gradient not finite"} if left_out else {}),
        **({"Worker processes lost": f"{int(replaced):,}, and replaced"} if replaced else {}),
        "Device": f"{device.get('name', '')}, {device.get('dtype', '')}, {device.get('threads', '')} threads"
        + (", compiled" if device.get("compiled") else ""),
        "Machine": f"{platform.system()} {platform.machine()}",
        "Versions": ", ".join(f"{name} {version(name)}" for name in ("vitrail", "torch", "transformers")),
        "Model": str(folder.weights),
    }


def _time(state: State, results: Mapping[str, Any]) -> dict[str, float]:
    spent = {
        key.removeprefix("seconds: "): value for key, value in state.counters.items() if key.startswith("seconds: ")
    }
    spent["evaluation"] = sum(
        results[name].get("seconds", 0.0) for name in (*RUNS, "text_before", "text_after") if name in results
    )
    spent["evaluation"] += results.get("losses_seconds", 0.0) + results.get("pairs_seconds", 0.0)
    for name in ("blind", "pasted"):
        if f"{name}_training_seconds" in results:
            spent[f"{name} baseline"] = results[f"{name}_training_seconds"]
    return spent


def _ledger(state: State, folder: RunFolder) -> dict[str, Any]:
    by_source: dict[str, dict[str, int]] = state.ledger["counts"]
    counts: dict[str, int] = {}
    for outcomes in by_source.values():
        for outcome, count in outcomes.items():
            counts[outcome] = counts.get(outcome, 0) + count
    return {
        "counts": counts,
        "by_source": by_source,
        "rows": chosen(rows_of(folder.checkpoints / checkpoint.LEDGER, state.ledger)),
    }


def examples(recipe: Recipe, folder: RunFolder, count: int) -> list[Example]:
    """The first held-out answers of each kind in turn, of another picture each while there are any; of the trained
    model, or of the one before where that is not asked yet."""
    after = asking.read(folder.answers("after")) or asking.read(folder.answers("before"))
    said = {name: {one.id: one.prediction for one in asking.read(folder.answers(name))} for name in RUNS}
    if not after or recipe.data.held_out is None:
        return []
    held_out = recipe.data.held_out
    source, reading = open_held_out(held_out, {held_out: build.build_source(held_out)})
    asked = cache(lambda index: asking.question(source.row(index), reading)[0])
    shown = []
    for index in _spread(after, asked, count):
        answer, conversation = after[index], asked(index)
        shown.append(
            Example(
                picture_png=_picture(conversation),
                question=answer.question,
                truth=" / ".join(answer.truths),
                answers={name: of_run[answer.id] for name, of_run in said.items() if answer.id in of_run},
                kind=answer.kind,
                score=max(measure(answer).values()),
                sound_wav=_sound(conversation),
            )
        )
    return shown


def _spread(answers: list[Answer], asked: Callable[[int], Conversation], count: int) -> list[int]:
    """Indices of `count` answers, one of each kind after the other. asked: the question of an index."""
    waiting: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        waiting.setdefault(answer.kind, []).append(index)
    chosen: list[int] = []
    shown: set[Hashable] = set()

    def pictures(index: int) -> Hashable:
        return tuple(part.identity for part in asked(index).media)

    while len(chosen) < min(count, len(answers)):
        for indices in filter(None, waiting.values()):
            # Of the next few: others need not be drawn or opened.
            index = next((one for one in indices[:LOOKED_AT] if pictures(one) not in shown), indices[0])
            indices.remove(index)
            chosen.append(index)
            shown.add(pictures(index))
    return chosen[:count]


def _picture(conversation: Conversation) -> bytes:
    """The first picture as PNG, or nothing when there is none to show."""
    first = next((part for part in conversation.media if isinstance(part, ImagePart)), None)
    if first is None:
        return b""
    try:
        pixels = Image.fromarray(image.load(first.image))
    except DataError:
        return b""
    pixels.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    return buffer.getvalue()


def _sound(conversation: Conversation) -> bytes:
    """How the first sound begins, as WAV, or nothing when there is none to play."""
    first = next((part for part in conversation.media if isinstance(part, AudioPart)), None)
    try:
        return b"" if first is None else audio.excerpt(first)
    except DataError:
        return b""
