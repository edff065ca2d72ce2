"""One of several processes that train a list of jobs together, and what a test needs to start them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
WAIT = 600
"""Seconds that the processes may take; on two idle cores they take about 20."""


@dataclass(frozen=True)
class Job:
    """A recipe to train in a folder. stop_at: step of the run at which rank `stop_rank` is sent SIGTERM; 0 for none."""

    recipe: str
    folder: str
    overrides: tuple[str, ...] = ()
    stop_at: int = 0
    stop_rank: int = 0


def run(job: Job, parallel: Any) -> dict[str, Any]:
    """Trains, from wherever the folder stands; what ended it, if anything did."""
    from vitrail import build
    from vitrail.contracts.errors import VitrailError
    from vitrail.recipe.read import read_recipe
    from vitrail.training.device import Device
    from vitrail.training.loop import Trainer
    from vitrail.training.stopping import Stopped

    recipe = read_recipe(job.recipe, job.overrides).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    device = Device("cpu", recipe.training.dtype, 1, compiled=False)
    objectives = build.objectives_of(recipe.stages)

    def on_step(record: dict[str, Any]) -> None:
        if record["total_steps"] == job.stop_at and parallel.rank == job.stop_rank:
            signal.raise_signal(signal.SIGTERM)

    try:
        parallel.check(recipe.stages, objectives)
        model = build.starting_model(
            recipe.model, tokenizer.vocabulary, recipe.seed, device.torch_dtype, objectives.values()
        )
        stages = build.build_stages(recipe, encode, device)
        trainer = Trainer(model.train(), stages, Path(job.folder), device, 3, on_step, parallel)
        trainer.resume()
        return {"state": dataclasses.asdict(trainer.run())}
    except (VitrailError, Stopped) as error:
        return {"ended": type(error).__name__, "message": str(error)}


def together(folder: Path, jobs: Sequence[Job], ranks: int = 2) -> list[list[dict[str, Any]]]:
    """What came of each job on each rank, in processes of their own."""
    (folder / "jobs.json").write_text(json.dumps([dataclasses.asdict(job) for job in jobs]), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([*sys.path, str(TESTS)])
    shared = {**os.environ, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__)), str(folder)]
    logs = [folder / f"rank{rank}.txt" for rank in range(ranks)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank, log in enumerate(logs):
            with log.open("w", encoding="utf-8") as file:
                started.append(subprocess.Popen(command, env={**shared, "RANK": str(rank)}, stderr=file))
        codes = ended(started)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert codes == [0] * ranks, "\n".join(log.read_text(encoding="utf-8") for log in logs)
    found = [json.loads((folder / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in range(ranks)]
    return [list(of_job) for of_job in zip(*found, strict=True)]


def ended(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Their exit statuses, once all have ended, or one has failed, or it takes too long."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        codes = [process.poll() for process in processes]
        if None not in codes or any(codes):
            break
        time.sleep(0.1)
    return [process.poll() for process in processes]


def main(folder: Path) -> None:
    """What each of the processes does."""
    import faulthandler

    import torch

    from vitrail.training.parallel.launch import started

    faulthandler.dump_traceback_later(WAIT - 20, exit=True)
    torch.set_num_threads(1)
    jobs = [Job(**job) for job in json.loads((folder / "jobs.json").read_text(encoding="utf-8"))]
    with started("cpu") as parallel:
        found = [run(dataclasses.replace(job, overrides=tuple(job.overrides)), parallel) for job in jobs]
        (folder / f"rank{parallel.rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
