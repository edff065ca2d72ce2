"""Checkpoints: everything a run needs to go on bit for bit. Written beside and renamed, so a torn one is never found.

`<run>/checkpoints/<number>-<stage>/` holds model.safetensors, optimizer.safetensors and state.json (written last).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from vitrail.contracts.errors import WeightsError
from vitrail.models.weights import unshared

LAYOUT = 2
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"


@dataclass
class State:
    """Where a run stands.

    stage: number of the stage to go on with. step, tokens, epochs: done in it. total_steps: done in the run.

    cursor: of the stream, {} at a stage's start; objective: what that of the stage has kept; ledger: what was handed
    over; counters: seconds, tokens and the like, summed over the run.
    device: device, dtype, threads and compilation the run computes with.
    """

    stage: int = 0
    step: int = 0
    total_steps: int = 0
    tokens: int = 0
    epochs: float = 0.0
    cursor: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=lambda: {"counts": {}, "rows": []})
    objective: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, name: str, model: nn.Module, optimizer: Mapping[str, Tensor], state: State) -> Path:
    """`write` of a model that this process holds as a whole."""
    return write(folder, name, unshared(model), optimizer, state)


def write(folder: Path, name: str, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], state: State) -> Path:
    """Writes a checkpoint and returns its folder. An existing one of that name is replaced.

    model, optimizer: whole tensors, however many processes hold them while they train.
    Raises WeightsError when it cannot be written, a full disk for one, or holds numbers that are not finite; older
    checkpoints stay as they are then.
    """
    broken = next((key for key, value in model.items() if value.is_floating_point() and not value.isfinite().all()), "")
    if broken:
        raise WeightsError(f"no checkpoint is written: '{broken}' is not finite; those before it are as they were")
    target, making = folder / name, folder / f".{name}.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(parents=True)
        save_file(dict(model), making / MODEL)
        save_file({key: value.contiguous() for key, value in optimizer.items()}, making / OPTIMIZER)
        (making / "state.json").write_text(json.dumps({"layout": LAYOUT, **asdict(state)}), encoding="utf-8")
        for file in making.iterdir():
            with file.open("r+b") as opened:
                os.fsync(opened.fileno())
        shutil.rmtree(target, ignore_errors=True)
        making.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(making, ignore_errors=True)
        raise WeightsError(f"cannot write the checkpoint '{target}': {error}") from error
    return target


def load_state(folder: Path) -> State:
    """The state of a checkpoint. Raises WeightsError when it is torn or of another layout."""
    try:
        data = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        layout = data.pop("layout")
        if layout != LAYOUT:
            raise WeightsError(f"'{folder}' has checkpoint layout {layout}, this version reads {LAYOUT}")
        counters = data["counters"]
        if "tokens: picture" in counters:
            # Checkpoints of before counted those of pictures alone.
            counters["tokens: media"] = counters.pop("tokens: picture")
        return State(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"'{folder}' is damaged: {error}") from error


def latest(folder: Path) -> Path | None:
    """The checkpoint with the highest number, or None. Names sort by age."""
    found = sorted(path for path in folder.glob("[0-9]*") if (path / "state.json").is_file())
    return found[-1] if found else None


def ends(folder: Path) -> list[Path]:
    """The checkpoints at the end of stages, in their order."""
    return [path for path in sorted(folder.glob("[0-9]*")) if not path.name.endswith("-step")]


def prune(folder: Path, keep: Path) -> None:
    """Removes the checkpoints made within a stage, but for `keep`; those at the end of stages stay.

    What kills left half made goes too.
    """
    for path in [*folder.glob("[0-9]*-step"), *folder.glob(".[0-9]*")]:
        if path != keep:
            shutil.rmtree(path)
