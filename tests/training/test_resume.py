"""A run that was stopped, however rudely, ends exactly where an undisturbed one ends."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vitrail import build
from vitrail.contracts.errors import WeightsError
from vitrail.data.encode import Encode
from vitrail.data.ledger import rows_of
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe
from vitrail.training import checkpoint, runlog
from vitrail.training.checkpoint import State
from vitrail.training.device import Device
from vitrail.training.loop import Trainer
from vitrail.training.stopping import Stopped

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
    make: Make,
    recipe: Recipe,
    encode: Encode,
    folder: Path,
    every: int,
    stop_at: int = 0,
    dtype: str = "float32",
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[MultimodalModel, State]:
    """What a fresh process would do: a fresh model, the latest checkpoint, on to the end (or to step `stop_at`)."""
    device = Device("cpu", dtype, 1, compiled=False)
    model = make().to(device.torch_dtype).train()
    stages = build.build_stages(recipe, encode, device)
    trainer = Trainer(model, stages, folder, device, every, unplug_after(stop_at), seed=seed, say=say)
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
    assert ledger["bytes"], "some rows must be lost, or the ledger would prove little"
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
    # The last within a stage, in case the newest is found damaged; a run removes it once its weights are written.
    found = [path.name for path in checkpoint.by_age(tmp_path / "checkpoints")]
    assert found == ["00000005-align", "00000011-step", "00000012-instruct"]
    again = trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=3, stop_at=1)
    assert again[1].stage == len(tiny_recipe.stages)
    assert_same(again, undisturbed[0])
    assert log_of(tmp_path) == undisturbed[1]


BEFORE = {"outcome": "fate", "tokens: media": "tokens: picture", "encoder.position_table": "encoder.table"}
"""Words of checkpoints, and how they were written before streams had names."""


def as_before(folder: Path) -> None:
    """Rewrites a checkpoint as it was written before streams had names, files digests, and ledgers a file."""
    beside = folder.parent / "ledger.jsonl"
    data = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    del data["objective"]
    rows = list(rows_of(beside, data["ledger"]))
    data["ledger"] = {
        "counts": data["ledger"]["counts"],
        "rows": [{BEFORE.get(key, key): row[key] for key in row} for row in rows],
    }
    data["counters"] = {BEFORE.get(key, key): value for key, value in data["counters"].items()}
    assert rows
    assert "fate" in data["ledger"]["rows"][0]
    assert "tokens: picture" in data["counters"]
    (folder / "state.json").write_text(json.dumps({**data, "layout": 2}), encoding="utf-8")
    for file in (beside, folder / "digests.json", folder / "chance.safetensors"):
        file.unlink()
    renamed = 0
    for file in (folder / "model.safetensors", folder / "optimizer.safetensors"):
        tensors = {}
        for name, tensor in load_file(file).items():
            before = name.replace("encoder.position_table", BEFORE["encoder.position_table"])
            renamed += before != name
            tensors[before] = tensor
        save_file(tensors, file)
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
    for path in checkpoint.by_age(found.parent):
        if path != found:
            shutil.rmtree(path)
    as_before(found)
    again = trained(make, recipe, tiny_encode, tmp_path / "run", every=2)
    assert_same(again, whole)
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["align", "instruct"])
def test_asked_to_end_while_the_end_of_a_stage_is_saved(
    number: signal.Signals,
    name: str,
    undisturbed: Any,
    tiny_model: Make,
    tiny_recipe: Recipe,
    tiny_encode: Encode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The checkpoint is written to its end, and then the run ends: the last stage's too."""
    digest = checkpoint.digest

    def signalled(path: Path) -> str:
        if path.parent.name.startswith(".") and path.parent.name.split(".")[1].endswith(f"-{name}"):
            monkeypatch.setattr(checkpoint, "digest", digest)
            signal.raise_signal(number)
        return digest(path)

    monkeypatch.setattr(checkpoint, "digest", signalled)
    with pytest.raises(Stopped, match=f"^stage {name} is done; checkpoint .*-{name}$") as caught:
        trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=100)
    assert caught.value.number == number
    assert checkpoint.load_state(checkpoint.by_age(tmp_path / "checkpoints")[-1]).step == 0
    result = trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=100)
    assert_same(result, undisturbed[0])
    assert log_of(tmp_path) == undisturbed[1]


def flip(path: Path) -> None:
    """Turns one bit of a file's middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["model.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    file: str, undisturbed: Any, tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    with pytest.raises(Unplugged):
        trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=2, stop_at=10)
    newest = tmp_path / "checkpoints" / "00000009-step"
    flip(newest / file)
    said: list[str] = []
    result = trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=2, say=said.append)
    assert said == [
        f"the checkpoint {newest} is damaged: {file} is not what was written; it is 'damaged-00000009-step' now, "
        "going on from 00000007-step"
    ]
    assert_same(result, undisturbed[0])
    assert log_of(tmp_path) == undisturbed[1]


def test_a_run_without_a_sound_checkpoint_does_not_begin_anew(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """And nothing of it is moved: someone may know how to mend it."""
    with pytest.raises(Unplugged):
        trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=2, stop_at=10)
    for path in checkpoint.by_age(tmp_path / "checkpoints"):
        (path / "model.safetensors").unlink()
    before = sorted((tmp_path / "checkpoints").iterdir())
    with pytest.raises(WeightsError, match=r"^no checkpoint in '.*' is sound \(00000009-step: model.safetensors is "):
        trained(tiny_model, tiny_recipe, tiny_encode, tmp_path, every=2)
    assert sorted((tmp_path / "checkpoints").iterdir()) == before


class Forgetful(nn.Module):
    """Forgets every other value by torch's dice, and scales what is left by those of Python and numpy."""

    def forward(self, values: Tensor) -> Tensor:
        kept = nn.functional.dropout(values, 0.5, self.training)
        return kept * (1 + 0.1 * random.random() + 0.1 * np.random.rand() + 0.01 * random.gauss(0, 1))


def test_a_component_that_draws_is_the_same_after_a_stop(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """With dropout: stopped in either stage and at their border; the caller's own dice are where they were."""

    def make() -> MultimodalModel:
        model = tiny_model()
        model.projector.register_forward_hook(lambda module, given, made: Forgetful().train(module.training)(made))
        return model

    torch.manual_seed(1)
    before = torch.get_rng_state()
    whole = trained(make, tiny_recipe, tiny_encode, tmp_path / "whole", every=2)
    assert torch.equal(torch.get_rng_state(), before)
    for stop_at in (3, 5, 6, 10):
        torch.manual_seed(stop_at)
        with pytest.raises(Unplugged):
            trained(make, tiny_recipe, tiny_encode, tmp_path / "torn", every=2, stop_at=stop_at)
    result = trained(make, tiny_recipe, tiny_encode, tmp_path / "torn", every=2)
    assert_same(result, whole)
    assert log_of(tmp_path / "torn") == log_of(tmp_path / "whole")
    other = trained(make, tiny_recipe, tiny_encode, tmp_path / "other", every=2, seed=1)
    pairs = zip(other[0].parameters(), whole[0].parameters(), strict=True)
    assert not all(torch.equal(*pair) for pair in pairs), "another seed drops other values"
