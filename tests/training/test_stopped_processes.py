"""Runs of the command line, in processes of their own and ended by real signals, end where an undisturbed one ends."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Nursery, Run

from vitrail.recipe.read import read_recipe
from vitrail.run.train import train
from vitrail.training import checkpoint, runlog

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks of one process")

LONGER = ("stages.0.steps=12", "stages.1.steps=24", "stages.1.accumulate=1")
LONGEST = ("stages.0.steps=100", "stages.1.steps=200", "stages.1.accumulate=1")

ALONE = "train: {kind: drawn, rows: 16, size: [64, 128]}"
MIXED = """train:
    kind: mixture
    parts:
      - {name: small, source: {kind: drawn, rows: 16, size: [64, 128]}, share: [[0, 3], [1, 1]]}
      - {name: large, source: {kind: drawn, rows: 9, size: [96, 128], seed: 1}, share: 1}"""
"""Two sources whose shares change while the run is on."""

MEASURED = ("evaluate={max_tokens: 4}", "data.held_out={kind: drawn, rows: 3, size: [64, 128], seed: 9}")
OF_THE_CLOCK = ("tokens_per_second", "seconds", "memory_gib")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Where runs are forked off."""
    found = Nursery()
    yield found
    found.close()


def overrides(folder: Path, every: int, more: tuple[str, ...]) -> list[str]:
    return [f"run={folder}", f"training.checkpoint_every={every}", *more]


def here(recipe: Path, folder: Path, every: int, more: tuple[str, ...]) -> Path:
    """The same in this process."""
    train(read_recipe(str(recipe), overrides(folder, every, more)))
    return folder


def wait_for_steps(run: Run, folder: Path, steps: int) -> bool:
    """Until the log tells of a step after `steps`; False when the process ended first."""
    while run.poll() is None:
        records = runlog.read(folder / "log.jsonl")
        if records and records[-1]["total_steps"] > steps:
            return True
        time.sleep(0.005)
    return False


def reached(folder: Path) -> int:
    """Steps that the latest checkpoint knows."""
    found = checkpoint.latest(folder / "checkpoints")
    return checkpoint.load_state(found).total_steps if found else 0


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Everything that was logged but for what the clock and the machine say."""
    records = runlog.read(folder / "log.jsonl")
    return [{name: value for name, value in record.items() if name not in OF_THE_CLOCK} for record in records]


def results(folder: Path) -> dict[str, Any]:
    """Weights, ledger and log; of a run that measures, its answers and scores and the same of its blind baseline."""
    found: dict[str, Any] = {"log": log_of(folder), "blind log": log_of(folder / "blind")}
    for path in (folder / "weights" / "model.safetensors", *folder.glob("answers/*"), *folder.rglob("ledger.jsonl")):
        found[str(path.relative_to(folder))] = path.read_bytes()
    measured = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    found["results"] = {name: without_seconds(value) for name, value in measured.items() if "seconds" not in name}
    return found


def without_seconds(value: Any) -> Any:
    return {name: one for name, one in value.items() if name != "seconds"} if isinstance(value, dict) else value


def ends(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[1] for path in (folder / "checkpoints").iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_recipe_text: str) -> Path:
    """The run that nobody disturbed, made in this process."""
    base = tmp_path_factory.mktemp("whole")
    (base / "tiny.yaml").write_text(tiny_recipe_text, encoding="utf-8")
    return here(base / "tiny.yaml", base / "run", 7, LONGER)


@pytest.mark.parametrize(
    ("kills", "longer"), [(3, LONGER), pytest.param(20, LONGEST, marks=pytest.mark.long)], ids=["3", "20"]
)
def test_killed_at_random(
    kills: int, longer: tuple[str, ...], nursery: Nursery, tiny_recipe_text: str, tmp_path: Path
) -> None:
    """SIGKILL, which no process can prepare for: before a step, in one, or in the middle of saving."""
    assert ALONE in tiny_recipe_text
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text(tiny_recipe_text.replace(ALONE, MIXED), encoding="utf-8")
    whole = here(recipe, tmp_path / "whole", 7, longer)
    steps = [record["total_steps"] for record in log_of(whole)]
    chance = random.Random(kills)
    folder, done = tmp_path / "run", 0
    for _ in range(kills):
        run = nursery.start(["train", str(recipe), *overrides(folder, 2, longer)], tmp_path / "said")
        # Most kills fall a few steps on; the last must still find the run at work.
        enough = min(reached(folder) + chance.randrange(1 + len(steps) // 2 // kills), len(steps) - 6)
        assert wait_for_steps(run, folder, enough), run.said
        time.sleep(chance.random() * 0.03)
        run.send(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        assert reached(folder) >= done, "what was saved is never lost"
        done = reached(folder)
    here(recipe, folder, 2, longer)
    assert results(folder) == results(whole)
    assert all(set(record["loss_by_source"]) <= {"small", "large"} for record in log_of(folder))
    assert ends(folder) == ["align", "instruct"], "nothing half made is left"


def test_asked_to_end(nursery: Nursery, whole: Path, tiny_recipe_file: Path, tmp_path: Path) -> None:
    """SIGTERM: the step in progress is finished, a checkpoint is left, and the exit status says so."""
    folder = tmp_path / "run"
    run = nursery.start(["train", str(tiny_recipe_file), *overrides(folder, 1000, LONGER)], tmp_path / "said")
    assert wait_for_steps(run, folder, 14), run.said
    run.send(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.said
    logged = log_of(folder)[-1]
    assert 14 < logged["total_steps"] < 36
    assert reached(folder) == logged["total_steps"], "not a step is lost"
    assert f"stopped: stage instruct, step {logged['step']}; checkpoint" in run.said
    assert "Give the same command again to go on." in run.said
    assert "Traceback" not in run.said
    again = nursery.start(["train", str(tiny_recipe_file), *overrides(folder, 1000, LONGER)], tmp_path / "said")
    assert again.wait() == 0, again.said
    assert f"going on in stage instruct after step {logged['step']} " in again.said
    assert results(folder) == results(whole)
    lines = (folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(json.loads(lines[0])["counts"]["drawn"].values()) > 16


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks the kernel for a process's children")
def test_ctrl_c_reaches_the_workers_too(nursery: Nursery, whole: Path, tiny_recipe_file: Path, tmp_path: Path) -> None:
    """The terminal sends it to all of the group. One worker was killed before: its batches come from another."""
    folder, with_worker = tmp_path / "run", (*LONGER, "data.workers=1")
    command = ["train", str(tiny_recipe_file), *overrides(folder, 1000, with_worker)]
    run = nursery.start(command, tmp_path / "said")
    assert wait_for_steps(run, folder, 2), run.said
    (worker,) = workers_of(run.pid)
    os.kill(worker, signal.SIGKILL)
    enough = log_of(folder)[-1]["total_steps"] + 12  # more than were prepared ahead
    assert wait_for_steps(run, folder, enough), run.said
    run.send(signal.SIGINT, group=True)
    assert run.wait() == 128 + signal.SIGINT, run.said
    logged = log_of(folder)[-1]["total_steps"]
    assert logged < 36, "it was still at work"
    assert reached(folder) == logged
    assert "1 worker process(es) of the data were lost and replaced" in run.said
    assert "Traceback" not in run.said
    # A run may go on with fewer workers.
    here(tiny_recipe_file, folder, 1000, LONGER)
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    assert checkpoint.load_state(found).counters["workers replaced"] == 1
    assert "1, and replaced" in (folder / "report.html").read_text(encoding="utf-8")
    assert results(folder) == results(whole)


def workers_of(process: int) -> list[int]:
    """Its children that prepare data: all but the one that keeps an eye on what processes share."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    # A thread's children are listed with the thread.
    for task in Path(f"/proc/{process}/task").iterdir():
        children += (task / "children").read_text(encoding="ascii").split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, command in commands.items() if b"spawn_main" in command]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("legs", [6, pytest.param(40, marks=pytest.mark.long)])
def test_a_signal_at_any_file(legs: int, nursery: Nursery, tiny_recipe_file: Path, tmp_path: Path) -> None:
    """Sent just as a file is brought to the disk: of a checkpoint, answers, scores, weights, the blind baseline's, the
    report. Ctrl-C, SIGTERM and SIGKILL in turn."""
    whole = here(tiny_recipe_file, tmp_path / "whole", 3, MEASURED)
    folder, chance, codes = tmp_path / "run", random.Random(legs), []
    numbers = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
    for leg in range(100):
        number = numbers[leg % 3]
        at = chance.randint(12, max(24, 220 // legs))
        command = ["train", str(tiny_recipe_file), *overrides(folder, 3, MEASURED)]
        run = nursery.start(command, tmp_path / "said", number, at)
        codes.append(run.wait())
        assert codes[-1] in (0, -number, 128 + number), run.said
        assert "Traceback" not in run.said
        if codes[-1] == 0:
            break
    assert codes[-1] == 0, f"not at its end after {len(codes)} starts"
    assert len(codes) > 3
    assert {143, -signal.SIGKILL, 130} <= set(codes), "in training, where the two that ask leave a checkpoint"
    assert results(folder) == results(whole)
    assert ends(folder) == ["align", "instruct"]
    assert (folder / "report.html").is_file()
