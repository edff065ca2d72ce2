"""Checkpoints: everything a run needs to go on bit for bit. Written beside and renamed, so a torn one is never found.

`<run>/checkpoints/<number>-<stage>/` holds model.safetensors, optimizer.safetensors, chance.safetensors, state.json and
the digest of each of them in digests.json; `<run>/checkpoints/ledger.jsonl` the rows of the ledger, of which state.json
says how far they are its own. Writing one reads it once more for the digests, and so does going on from it: about a
second a gigabyte each.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vitrail.contracts.errors import WeightsError
from vitrail.data import ledger
from vitrail.disk import digest, synced
from vitrail.models.weights import unshared

LAYOUT, BEFORE = 3, 2
"""What is written; and what is read too, which had no digests, no chance and the ledger's rows in its state."""
MODEL, OPTIMIZER, CHANCE = "model.safetensors", "optimizer.safetensors", "chance.safetensors"
STATE, DIGESTS, LEDGER = "state.json", "digests.json", "ledger.jsonl"
DAMAGED = "damaged-"
"""Begins the names of checkpoints that were set aside."""
KEPT = 2
"""Checkpoints at the least, so that one is left when the newest is damaged."""


@dataclass
class State:
    """Where a run stands.

    stage: number of the stage to go on with. step, tokens, epochs: done in it. total_steps: done in the run.

    cursor: of the stream, {} at a stage's start; objective: what that of the stage has kept; ledger: counts of what was
    handed over, bytes and digest of the rows beside; counters: seconds, tokens and the like, summed over the run.
    device: device, dtype, threads and compilation the run computes with.
    """

    stage: int = 0
    step: int = 0
    total_steps: int = 0
    tokens: int = 0
    epochs: float = 0.0
    cursor: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=lambda: {"counts": {}})
    objective: dict[str, Any] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)


def save(
    folder: Path,
    name: str,
    model: nn.Module,
    optimizer: Mapping[str, Tensor],
    state: State,
    chance: Mapping[str, Tensor] | None = None,
) -> Path:
    """`write` of a model that this process holds as a whole."""
    return write(folder, name, unshared(model), optimizer, state, chance)


def write(
    folder: Path,
    name: str,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    state: State,
    chance: Mapping[str, Tensor] | None = None,
) -> Path:
    """Writes a checkpoint and returns its folder, once it is on the disk. An existing one of that name is replaced.

    model, optimizer: whole tensors, however many processes hold them while they train. chance: where generators stand.
    Raises WeightsError when it cannot be written, a full disk for one, or holds numbers that are not finite; older
    checkpoints stay as they are then.
    """
    broken = next((key for key, value in model.items() if value.is_floating_point() and not value.isfinite().all()), "")
    if broken:
        raise WeightsError(f"no checkpoint is written: '{broken}' is not finite; those before it are as they were")
    target, making, old = folder / name, folder / f".{name}.{os.getpid()}", folder / f".{name}.old"
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(parents=True)
        save_file(dict(model), making / MODEL)
        save_file({key: value.contiguous() for key, value in optimizer.items()}, making / OPTIMIZER)
        save_file(dict(chance or {}), making / CHANCE)
        (making / STATE).write_text(json.dumps({"layout": LAYOUT, **asdict(state)}), encoding="utf-8")
        digests = {file.name: digest(file) for file in sorted(making.iterdir())}
        (making / DIGESTS).write_text(json.dumps(digests, indent=2), encoding="utf-8")
        for path in (*making.iterdir(), making):
            synced(path)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        making.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        # The checkpoint's own name, and that of the folder where it is the first: before anything older is removed.
        synced(folder)
        synced(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(making, ignore_errors=True)
        raise WeightsError(f"cannot write the checkpoint '{target}': {error}") from error
    return target


def load_state(folder: Path) -> State:
    """The state of a checkpoint. Raises WeightsError when it is torn or of another layout."""
    try:
        data = json.loads((folder / STATE).read_text(encoding="utf-8"))
        layout = data.pop("layout")
        if layout not in (LAYOUT, BEFORE):
            raise WeightsError(f"'{folder}' has checkpoint layout {layout}, this version reads {LAYOUT}")
        counters = data["counters"]
        if "tokens: picture" in counters:
            # Checkpoints of before counted those of pictures alone.
            counters["tokens: media"] = counters.pop("tokens: picture")
        return State(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"'{folder}' is damaged: {error}") from error


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint; "" for nothing. One of before has no digests, so its tensors are only measured.

    Raises WeightsError for one of another layout: nothing is wrong with it, and it must not be passed over.
    """
    try:
        return _broken_file(folder) or ledger.damage(folder.parent / LEDGER, load_state(folder).ledger)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        return f"it cannot be read ({error})"


def _broken_file(folder: Path) -> str:
    """The first file that is missing or is not what was written, and which of the two."""
    if not (folder / STATE).is_file():
        return f"{STATE} is missing"
    if (folder / DIGESTS).is_file():
        expected = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    elif json.loads((folder / STATE).read_text(encoding="utf-8"))["layout"] == LAYOUT:
        return f"{DIGESTS} is missing"
    else:
        expected = dict.fromkeys((MODEL, OPTIMIZER))
    for name in (*expected, *({MODEL, OPTIMIZER} - expected.keys())):
        if not (folder / name).is_file():
            return f"{name} is missing"
        if expected.get(name) is None:
            with safe_open(folder / name, "pt"):
                continue
        if digest(folder / name) != expected[name]:
            return f"{name} is not what was written"
    return ""


def sound(folder: Path) -> Path:
    """The same checkpoint. Raises WeightsError when it is damaged."""
    if wrong := damage(folder):
        raise WeightsError(f"the checkpoint '{folder}' is damaged: {wrong}")
    return folder


def by_age(folder: Path) -> list[Path]:
    """The checkpoints, the oldest first: by the steps they know, and a stage's end after a checkpoint within it."""
    return sorted(folder.glob("[0-9]*"), key=lambda path: (path.name.partition("-")[0], not _within(path), path.name))


def _within(path: Path) -> bool:
    """Whether a checkpoint was made within a stage. No stage is called step."""
    return path.name.partition("-")[2] == "step"


def latest(folder: Path) -> Path | None:
    """The newest checkpoint whose state can be read, or None."""
    for path in reversed(by_age(folder)):
        try:
            load_state(path)
        except WeightsError:
            continue
        return path
    return None


def ends(folder: Path) -> list[Path]:
    """The checkpoints at the end of stages, in their order."""
    return [path for path in by_age(folder) if not _within(path)]


def set_aside(path: Path) -> Path:
    """Takes a damaged checkpoint out of the row, so that it is no longer found, and returns where it lies now."""
    aside = path.with_name(DAMAGED + path.name)
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    return aside


def prune(folder: Path, keep: int = KEPT) -> None:
    """Removes the checkpoints made within a stage, but for those among the newest `keep`; the ends of stages stay.

    What kills left half made goes too.
    """
    found = by_age(folder)
    within = [path for path in found[: len(found) - keep] if _within(path)]
    for path in [*within, *folder.glob(".[0-9]*")]:
        shutil.rmtree(path)
