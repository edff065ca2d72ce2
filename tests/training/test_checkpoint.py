"""Checkpoints and the run log: whole or not there, and trimmed to what a resumed run knows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vitrail.contracts.errors import WeightsError
from vitrail.models.weights import load_model, load_tensors
from vitrail.training import checkpoint, runlog
from vitrail.training.checkpoint import State
from vitrail.training.config import StageConfig
from vitrail.training.runlog import RunLog

STATE = State(
    stage=1,
    step=4,
    total_steps=9,
    tokens=12345,
    epochs=0.1 + 0.2,
    cursor={"packs": 1},
    ledger={
        "counts": {"drawn": {"used": 3}},
        "first_lost": {"id": "é", "source": "s", "outcome": "too_long", "reason": "r"},
    },
    counters={"seconds": 1.5},
    device={"name": "cpu"},
)


FILES = ("model.safetensors", "optimizer.safetensors", "chance.safetensors", "state.json", "digests.json")


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 5)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path, "00000009-step", model(), {"exp_avg.weight": torch.ones(5, 3).T}, STATE)


def test_what_is_saved_comes_back(saved: Path) -> None:
    assert checkpoint.load_state(saved) == STATE
    other = nn.Linear(3, 5)
    load_model(other, saved / "model.safetensors")
    assert torch.equal(other.weight, model().weight)
    assert torch.equal(load_tensors(saved / "optimizer.safetensors")["exp_avg.weight"], torch.ones(3, 5))
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_an_optimizer_without_state_is_saved_too(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, "00000009-align", model(), {}, STATE)
    assert load_tensors(folder / "optimizer.safetensors") == {}


def test_a_checkpoint_of_the_same_name_is_replaced(saved: Path) -> None:
    (saved / "more").touch()
    again = checkpoint.save(saved.parent, saved.name, model(), {}, State(stage=3))
    assert checkpoint.load_state(again).stage == 3
    assert sorted(path.name for path in again.iterdir()) == sorted(FILES)
    assert [path.name for path in again.parent.iterdir()] == [again.name]


def test_the_latest_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "nowhere") is None
    assert checkpoint.latest(tmp_path) is None
    for name in ("00000008-zebra", "00000012-step", "00000010-align"):
        checkpoint.save(tmp_path, name, model(), {}, STATE)
    (tmp_path / "00000099-step").mkdir()  # without its state, which is written last
    (tmp_path / ".00000100-step.17").mkdir()
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.name == "00000012-step"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit to the size of files")
@pytest.mark.parametrize("room", [0, 50, 1000])
def test_a_full_disk_costs_nothing_that_was_there(saved: Path, room: int) -> None:
    """Here files may grow to so many bytes; the tensors, or the state after them, do not fit."""
    import resource

    larger = State(stage=3, cursor={"rows": ["row"] * 1000})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(WeightsError, match=r"^cannot write the checkpoint '.*00000009-step': ") as caught:
            checkpoint.save(saved.parent, saved.name, model(), {}, larger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert checkpoint.load_state(saved) == STATE
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_pruning_keeps_the_ends_of_stages_and_the_newest_two(tmp_path: Path) -> None:
    """And clears away what a kill in the middle of a save left behind."""
    names = ("00000004-step", "00000005-first-step", "00000006-step", "00000008-step", "00000010-step")
    for name in names:
        checkpoint.save(tmp_path, name, model(), {}, STATE)
    half_made = tmp_path / ".00000007-step.4711"
    half_made.mkdir()
    (half_made / "model.safetensors").touch()
    checkpoint.prune(tmp_path)
    assert [path.name for path in checkpoint.by_age(tmp_path)] == ["00000005-first-step", *names[3:]]
    checkpoint.save(tmp_path, "00000010-align", model(), {}, STATE)
    checkpoint.prune(tmp_path)
    assert [path.name for path in checkpoint.by_age(tmp_path)] == [names[1], "00000010-step", "00000010-align"]
    assert not half_made.exists()
    checkpoint.prune(tmp_path, keep=0)
    assert (
        checkpoint.by_age(tmp_path) == checkpoint.ends(tmp_path) == [tmp_path / names[1], tmp_path / "00000010-align"]
    )


@pytest.mark.parametrize("text", ["", '{"layout": 2, "stage"', "[]", "7", "{}", '{"layout": 2, "colour": 3}'])
def test_a_torn_state(saved: Path, text: str) -> None:
    (saved / "state.json").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"00000009-step' is damaged: ") as caught:
        checkpoint.load_state(saved)
    assert "\n" not in str(caught.value)


def test_a_state_of_another_version(saved: Path) -> None:
    data = json.loads((saved / "state.json").read_text(encoding="utf-8"))
    (saved / "state.json").write_text(json.dumps({**data, "layout": 99}), encoding="utf-8")
    with pytest.raises(WeightsError, match="has checkpoint layout 99, this version reads 3"):
        checkpoint.load_state(saved)


def flip(path: Path) -> None:
    """Turns one bit of a file's middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_every_file_is_checked_to_the_bit(saved: Path, file: str, harm: Callable[[Path], object]) -> None:
    assert checkpoint.damage(saved) == ""
    harm(saved / file)
    wrong = checkpoint.damage(saved)
    assert wrong
    assert file in wrong or file == "digests.json"
    with pytest.raises(WeightsError, match="00000009-step' is damaged: "):
        checkpoint.sound(saved)


def as_layout_2(folder: Path) -> None:
    """Rewrites a checkpoint as it was before it had digests and chance."""
    data = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    data["ledger"]["rows"] = [data["ledger"].pop("first_lost")]
    (folder / "state.json").write_text(json.dumps({**data, "layout": 2}), encoding="utf-8")
    (folder / "digests.json").unlink()
    (folder / "chance.safetensors").unlink()


def test_a_checkpoint_without_digests_still_opens(saved: Path) -> None:
    """Its tensors are measured, its state is read."""
    as_layout_2(saved)
    assert checkpoint.damage(saved) == ""
    assert checkpoint.load_state(saved).tokens == STATE.tokens
    (saved / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes()[:-1])
    assert "it cannot be read" in checkpoint.damage(saved)


def test_everything_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and its folder before the rename, the folder around it after: then older ones may go."""
    calls: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(checkpoint, "synced", lambda path: calls.append(path.name))

    def renamed(path: Path, target: Path) -> Path:
        calls.append(f"rename to {target.name}")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    folder = tmp_path / "run" / "checkpoints"
    checkpoint.save(folder, "00000001-step", model(), {}, STATE)
    before, after = calls[: calls.index("rename to 00000001-step")], calls[calls.index("rename to 00000001-step") + 1 :]
    assert sorted(before[:-1]) == sorted(FILES)
    assert before[-1].startswith(".00000001-step")
    assert after == ["checkpoints", "run"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_torn_tensors(saved: Path, file: str) -> None:
    path = saved / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=f"{file}' is damaged: "):
        load_tensors(path)


@pytest.mark.parametrize("name", ["step", "a/b", "..", "", "two words", "a.b"])
def test_a_stage_must_not_spoil_the_names_of_checkpoints(name: str) -> None:
    with pytest.raises(ValueError, match=r"name is .*must be letters, digits, - and _"):
        StageConfig(name, {"encoder": 1.0}, steps=1)
    assert StageConfig("align-2_é", {"encoder": 1.0}, steps=1).name == "align-2_é"


def record(stage: int, step: int) -> dict[str, float]:
    return {"stage_number": stage, "step": step, "loss": stage + step / 10}


def test_a_resumed_log_keeps_what_its_checkpoint_knows(tmp_path: Path) -> None:
    """Steps count from 1: a checkpoint after step 2 knows steps 1 and 2."""
    path = tmp_path / "run" / "log.jsonl"
    written = [record(0, 1), record(0, 2), record(0, 3), record(1, 1), record(1, 2), record(1, 3)]
    log = RunLog(path, 0, 0)
    for entry in written:
        log.write(entry)
    log.close()
    with path.open("a", encoding="utf-8") as file:
        file.write('{"stage_number": 1, "st')  # torn by a kill
    assert runlog.read(path) == written
    RunLog(path, 1, 2).close()
    assert runlog.read(path) == written[:5]
    log = RunLog(path, 1, 0)
    log.write(record(1, 1))
    log.close()
    assert runlog.read(path) == written[:4]
    RunLog(path, 0, 0).close()
    assert runlog.read(path) == []
    assert [entry.name for entry in path.parent.iterdir()] == ["log.jsonl"]


def test_a_record_is_on_disk_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl", 0, 0)
    log.write(record(0, 1))
    assert runlog.read(tmp_path / "log.jsonl") == [record(0, 1)]
    log.close()


def test_no_log_has_no_records(tmp_path: Path) -> None:
    assert runlog.read(tmp_path / "log.jsonl") == []
