"""A run that was stopped, however rudely, ends exactly where an undisturbed one ends."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitrail import build
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.run.train import train
from vitrail.training import checkpoint, runlog
from vitrail.training.checkpoint import State
from vitrail.training.device import Device
from vitrail.training.loop import Trainer

Make = Callable[..., MultimodalModel]
STEPS = 12
"""Of the tiny recipe: five in its first stage, seven in its second."""
OF_THE_CLOCK = ("tokens_per_second", "seconds", "memory_gib")


class Unplugged(Exception):  # noqa: N818 (it is what happens to the run, not a mistake)
    """Ends a run between the log's record and the checkpoint."""


def unplug_after(step: int) -> Callable[[dict[str, Any]], None]:
    def on_step(record: dict[str, Any]) -> None:
        if record["total_steps"] == step:
            raise Unplugged

    return on_step


def trained(
    make: Make, recipe: Recipe, encode: Encode, folder: Path, every: int, stop_at: int = 0, dtype: str = "float32"
) -> tuple[MultimodalModel, State]:
    """What a fresh process would do: a fresh model, the latest checkpoint, on to the end (or to step `stop_at`)."""
    device = Device("cpu", dtype, 1, compiled=False)
    model = make().to(device.torch_dtype).train()
    trainer = Trainer(model, build.build_stages(recipe, encode, device), folder, device, every, unplug_after(stop_at))
    trainer.resume()
    return model, trainer.run()


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Everything that was logged but for what the clock and the machine say."""
    records = runlog.read(folder / "log.jsonl")
    return [{name: value for name, value in record.items() if name not in OF_THE_CLOCK} for record in records]


def facts(state: State) -> dict[str, Any]:
    """A state without its seconds."""
    counters = {name: value for name, value in state.counters.items() if not name.startswith("seconds")}
    return {**vars(state), "counters": counters}


def assert_same(one: tuple[MultimodalModel, State], other: tuple[MultimodalModel, State]) -> None:
    theirs = other[0].state_dict()
    for name, tensor in one[0].state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert facts(one[1]) == facts(other[1])


@pytest.fixture(scope="module")
def undisturbed(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[MultimodalModel, State], list[dict[str, Any]]]:
    """A run from its start to its end, and its log."""
    folder = tmp_path_factory.mktemp("undisturbed")
    result = trained(tiny_model, tiny_recipe, tiny_encode, folder, every=3)
    log, ledger = log_of(folder), result[1].ledger
    assert len(log) == STEPS == result[1].total_steps
    assert ledger["rows"], "some rows must be lost, or the ledger would prove little"
    assert log[-1]["rows"] == ledger["counts"]["drawn"], "the log says what became of the rows so far"
    assert result[1].cursor == {}
    return result, log


@pytest.mark.parametrize(
    ("stop_at", "every"), [(5, 1), (8, 1), (1, 3), (4, 3), (5, 3), (6, 3), (12, 3), (5, 100), (8, 100)]
)
def test_a_run_goes_on_bit_for_bit(
    stop_at: int,
    every: int,
    undisturbed: Any,
    tiny_model: Make,
    tiny_recipe: Recipe,
    tiny_encode: Encode,
    tmp_path: Path,
) -> None:
    """Stopped in either stage, at their border, on a checkpoint and between two."""
    with pytest.raises(Unplugged):
        trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every, stop_at)
    result = trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every)
    assert_same(result, undisturbed[0])
    assert log_of(tmp_path) == undisturbed[1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_stopped_again_and_again(
    dtype: str, tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """Each time a few steps further; with half precision the float32 masters come along too."""
    whole = trained(tiny_model, tiny_recipe, tiny_encode, tmp_path / "whole", every=2, dtype=dtype)
    for stop_at in (2, 3, 6, 9, 12):
        with pytest.raises(Unplugged):
            trained(tiny_model, tiny_recipe, tiny_encode, tmp_path / "torn", every=2, stop_at=stop_at, dtype=dtype)
    result = trained(tiny_model, tiny_recipe, tiny_encode, tmp_path / "torn", every=2, dtype=dtype)
    assert_same(result, whole)
    assert log_of(tmp_path / "torn") == log_of(tmp_path / "whole")


def test_a_finished_run_has_nothing_left_to_do(
    undisturbed: Any, tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=3)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "00000005-align",
        "00000012-instruct",
    ]
    again = trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=3, stop_at=1)
    assert again[1].stage == len(tiny_recipe.stages)
    assert_same(again, undisturbed[0])
    assert log_of(tmp_path) == undisturbed[1]


BEFORE = {"outcome": "fate", "tokens: media": "tokens: picture", "encoder.position_table": "encoder.table"}
"""Words of checkpoints, and how they were written before streams had names."""


def as_before(folder: Path) -> None:
    """Rewrites a checkpoint as it was written before streams had names."""
    data = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    del data["objective"]
    data["ledger"]["rows"] = [{BEFORE.get(key, key): row[key] for key in row} for row in data["ledger"]["rows"]]
    data["counters"] = {BEFORE.get(key, key): value for key, value in data["counters"].items()}
    assert data["ledger"]["rows"]
    assert "fate" in data["ledger"]["rows"][0]
    assert "tokens: picture" in data["counters"]
    (folder / "state.json").write_text(json.dumps(data), encoding="utf-8")
    renamed = 0
    for file in ("model.safetensors", "optimizer.safetensors"):
        tensors = {}
        for name, tensor in load_file(folder / file).items():
            before = name.replace("encoder.position_table", BEFORE["encoder.position_table"])
            renamed += before != name
            tensors[before] = tensor
        save_file(tensors, folder / file)
    assert renamed == 1 + len(("step", "exp_avg", "exp_avg_sq"))


def test_a_checkpoint_of_before_goes_on(tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path) -> None:
    """Ledger, counters, tensors and moments had other names; bit for bit all the same, and the log agrees."""
    encoder = dataclasses.replace(tiny_recipe.model.encoder, absolute="learnt", position_table=(4, 4))
    model = dataclasses.replace(tiny_recipe.model, encoder=encoder)
    # So that rows are lost early on.
    pack = dataclasses.replace(tiny_recipe.data.pack, length=200)
    recipe = dataclasses.replace(tiny_recipe, data=dataclasses.replace(tiny_recipe.data, pack=pack))

    def make() -> MultimodalModel:
        return build.build_model(model, tiny_encode.tokenizer.vocabulary, seed=0)

    whole = trained(make, recipe, tiny_encode, tmp_path / "whole", every=2)
    with pytest.raises(Unplugged):
        trained(make, recipe, tiny_encode, tmp_path / "run", every=2, stop_at=10)
    found = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert checkpoint.load_state(found).step > 0
    as_before(found)
    again = trained(make, recipe, tiny_encode, tmp_path / "run", every=2)
    assert_same(again, whole)
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")


# The same through the command line, in processes of their own, ended by real signals.

LONGER = ("stages.0.steps=30", "stages.1.steps=50", "stages.1.accumulate=1")
LONGEST = ("stages.0.steps=100", "stages.1.steps=200", "stages.1.accumulate=1")

ALONE = "train: {kind: drawn, rows: 16, size: [64, 128]}"
MIXED = """train:
    kind: mixture
    parts:
      - {name: small, source: {kind: drawn, rows: 16, size: [64, 128]}, share: [[0, 3], [1, 1]]}
      - {name: large, source: {kind: drawn, rows: 9, size: [96, 128], seed: 1}, share: 1}"""
"""Two sources whose shares change while the run is on."""


def start(recipe: Path, folder: Path, every: int, longer: tuple[str, ...] = LONGER) -> subprocess.Popen[str]:
    overrides = (f"run={folder}", f"training.checkpoint_every={every}", *longer)
    command = [sys.executable, "-m", "vitrail", "train", str(recipe), *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def here(recipe: Path, folder: Path, every: int, longer: tuple[str, ...] = LONGER) -> Path:
    """The same in this process, which has torch imported already."""
    train(read_recipe(str(recipe), [f"run={folder}", f"training.checkpoint_every={every}", *longer]))
    return folder


def wait_for_steps(process: subprocess.Popen[str], folder: Path, steps: int) -> bool:
    """Until the log tells of a step after `steps`; False when the process ended first."""
    while process.poll() is None:
        records = runlog.read(folder / "log.jsonl")
        if records and records[-1]["total_steps"] > steps:
            return True
        time.sleep(0.005)
    return False


def reached(folder: Path) -> int:
    """Steps that the latest checkpoint knows."""
    found = checkpoint.latest(folder / "checkpoints")
    return checkpoint.load_state(found).total_steps if found else 0


def results(folder: Path) -> dict[str, bytes]:
    names = ("weights/model.safetensors", "ledger.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_recipe_text: str) -> Path:
    """The run that nobody disturbed, made in this process."""
    base = tmp_path_factory.mktemp("whole")
    (base / "tiny.yaml").write_text(tiny_recipe_text, encoding="utf-8")
    return here(base / "tiny.yaml", base / "run", every=7)


@pytest.mark.parametrize(
    ("kills", "longer"), [(3, LONGER), pytest.param(20, LONGEST, marks=pytest.mark.long)], ids=["3", "20"]
)
def test_killed_at_random(kills: int, longer: tuple[str, ...], tiny_recipe_text: str, tmp_path: Path) -> None:
    """SIGKILL, which no process can prepare for: before a step, in one, or in the middle of saving."""
    assert ALONE in tiny_recipe_text
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text(tiny_recipe_text.replace(ALONE, MIXED), encoding="utf-8")
    whole = here(recipe, tmp_path / "whole", 7, longer)
    steps = [record["total_steps"] for record in log_of(whole)]
    chance = random.Random(kills)
    folder, done = tmp_path / "run", 0
    for _ in range(kills):
        process = start(recipe, folder, every=2, longer=longer)
        # Most kills fall a few steps on; the last must still find the run at work.
        enough = min(reached(folder) + chance.randrange(1 + len(steps) // 2 // kills), len(steps) - 10)
        assert wait_for_steps(process, folder, enough), process.communicate()
        time.sleep(chance.random() * 0.03)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert reached(folder) >= done, "what was saved is never lost"
        done = reached(folder)
    here(recipe, folder, 2, longer)
    assert results(folder) == results(whole)
    assert log_of(folder) == log_of(whole)
    assert all(set(record["loss_by_source"]) <= {"small", "large"} for record in log_of(folder))
    kept = {path.name.split("-")[1] for path in (folder / "checkpoints").iterdir()}
    assert kept == {"align", "instruct"}, "nothing half made is left"


def test_asked_to_end(whole: Path, tiny_recipe_file: Path, tmp_path: Path) -> None:
    """SIGTERM: the step in progress is finished, a checkpoint is left, and the exit status says so."""
    folder = tmp_path / "run"
    process = start(tiny_recipe_file, folder, every=1000)
    assert wait_for_steps(process, folder, 32), process.communicate()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    logged = log_of(folder)[-1]
    assert 32 < logged["total_steps"] < 80
    assert reached(folder) == logged["total_steps"], "not a step is lost"
    said = " ".join(errors.split())
    assert f"stopped: stage instruct, step {logged['step']}; checkpoint" in said
    assert "Give the same command again to go on." in said
    assert "Traceback" not in errors
    again = start(tiny_recipe_file, folder, every=1000)
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert results(folder) == results(whole)
    assert log_of(folder) == log_of(whole)
    lines = (folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(json.loads(lines[0])["counts"]["drawn"].values()) > 16
