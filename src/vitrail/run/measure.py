"""What is measured of a model in a run, each under its name in results.json, unless it is there already."""

from __future__ import annotations

import time
from typing import Any

from vitrail.evaluation import answers as asking
from vitrail.evaluation.losses import held_out_losses
from vitrail.evaluation.pairs import ranked_right
from vitrail.evaluation.plain_text import text_change, text_loss
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics import calibration
from vitrail.metrics.scoring import METRICS, summarise
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import load_model
from vitrail.run.opened import Run
from vitrail.training import checkpoint

SWAPPED = "swapped"
"""The name of what the trained model answers to another row's media."""


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
    if which == "after":
        likelihoods, right = [one.likelihood for one in given], [one.right for one in given]
        if made := calibration.fitted(likelihoods, right):
            run.keep(lambda: made.write(run.folder.weights))
        summary["calibration"] = calibration.quality(likelihoods, right)
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


def headline(summary: dict[str, Any]) -> str:
    """The overall scores in one line."""
    parts = []
    for metric in METRICS:
        found = summary[metric]
        if found["n"]:
            name = metric.replace("_", " ")
            parts.append(f"{name} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}], n = {found['n']}")
    return "; ".join(parts)
