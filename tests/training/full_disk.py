"""Trains on a disk of its own that becomes full, and says what came of it: `python full_disk.py RECIPE DISK`.

Started in a mount namespace where the folder DISK is a small disk.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vitrail import build
from vitrail.recipe.read import read_recipe
from vitrail.training import checkpoint, runlog
from vitrail.training.device import Device
from vitrail.training.loop import Trainer
from vitrail.training.stopping import Stopped

FULL_AT = 4
"""Step after which nothing more fits."""


def fill(path: Path) -> None:
    """Takes all the room there is, to the byte."""
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def trained(recipe_file: str, folder: Path, every: int, when_waiting: Callable[[], None] | None) -> dict[str, Any]:
    """Trains to the end, from wherever the folder stands. when_waiting: what happens once the run waits for room; None
    for a disk that never is full."""
    recipe = read_recipe(recipe_file).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    device = Device("cpu", "float32", 1, compiled=False)
    model = build.build_model(recipe.model, tokenizer.vocabulary, 0).train()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("waiting for room") and when_waiting is not None:
            when_waiting()

    def on_step(record: dict[str, Any]) -> None:
        if when_waiting is not None and record["total_steps"] == FULL_AT:
            fill(folder.parent / "ballast")

    stages = build.build_stages(recipe, encode, device)
    trainer = Trainer(model, stages, folder, device, every, on_step, say=say)
    trainer.resume()
    try:
        trainer.run()
        ended = ""
    except Stopped as stopped:
        ended = f"{stopped.number}: {stopped}"
    whole = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    losses = [record["loss"] for record in runlog.read(folder / "log.jsonl")]
    found = checkpoint.by_age(folder / "checkpoints")
    wrong = {path.name: checkpoint.damage(path) for path in found}
    return {"said": said, "ended": ended, "weights": whole.double().sum().item(), "losses": losses, "damage": wrong}


def main(recipe: str, disk: Path) -> None:
    """Full in a save (a checkpoint every 4 steps) and at the log; then room again, or an end that is asked for."""
    ballast = disk / "ballast"
    told = {"undisturbed": trained(recipe, disk / "undisturbed", 2, None)}
    for name, every in (("save", FULL_AT), ("log", 100)):
        told[f"{name}, room again"] = trained(recipe, disk / name, every, ballast.unlink)
        asked = disk / f"{name} asked"
        told[f"{name}, asked"] = trained(recipe, asked, every, lambda: signal.raise_signal(signal.SIGTERM))
        ballast.unlink()
        told[f"{name}, afterwards"] = trained(recipe, asked, every, None)
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
