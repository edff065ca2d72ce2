"""What one process writes while a run trains: the log, the rows of the ledger, the checkpoints.

Each is whole on the disk before what it replaces is removed. A full disk makes the run wait; nothing is lost by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from vitrail.contracts.errors import VitrailError, WeightsError
from vitrail.data.ledger import Event, Ledger, LedgerFile
from vitrail.disk import is_full, with_room
from vitrail.training import checkpoint
from vitrail.training.checkpoint import State
from vitrail.training.runlog import RunLog
from vitrail.training.stopping import Stopped, StopRequest

T = TypeVar("T")


class RunFiles:
    """log.jsonl and checkpoints/ of a run's folder, gone on with from a state.

    All of it raises Stopped where the disk is full and someone asks the run to end, and WeightsError where files cannot
    be written for another reason.
    """

    def __init__(self, folder: Path, state: State, say: Callable[[str], None], request: StopRequest) -> None:
        """state: that of the checkpoint gone on from; what was written after it is cut off."""
        self.folder, self.checkpoints, self.say, self.request = folder, folder / "checkpoints", say, request
        self._steps = state.total_steps
        rows = self.checkpoints / checkpoint.LEDGER
        self._log = self._with_room(lambda: RunLog(folder / "log.jsonl", state.stage, state.step))
        self._rows = self._with_room(lambda: LedgerFile(rows, state.ledger))

    def step(self, record: dict[str, Any], rows: list[Event], total_steps: int) -> None:
        """Appends a step's record, if it has one, and the rows that the ledger has to tell of."""
        self._steps = total_steps
        if record:
            self._with_room(partial(self._log.write, record))
        if rows:
            self._with_room(partial(self._rows.add, rows))

    def save(
        self,
        name: str,
        model: Mapping[str, Tensor],
        optimizer: Mapping[str, Tensor],
        chances: Mapping[str, Tensor],
        state: State,
        ledger: Ledger,
    ) -> Path:
        """Writes a checkpoint, and removes those that it makes superfluous; completes the state's ledger."""

        def written() -> Path:
            # What the checkpoint knows of must not be lost to a power cut that spares the checkpoint.
            self._log.sync()
            state.ledger = {**ledger.to_json(), **self._rows.mark()}
            return checkpoint.write(self.checkpoints, name, model, optimizer, state, chances)

        path = self._with_room(written)
        checkpoint.prune(self.checkpoints)
        return path

    def close(self) -> None:
        """Ends log and ledger."""
        self._log.close()
        self._rows.close()

    def _with_room(self, work: Callable[[], T]) -> T:
        try:
            return with_room(work, self.say, lambda: bool(self.request.number))
        except (VitrailError, OSError) as error:
            if not (self.request.number and is_full(error)):
                if isinstance(error, VitrailError):
                    raise
                raise WeightsError(f"cannot write the checkpoints or the log of '{self.folder}': {error}") from error
            last = checkpoint.latest(self.checkpoints)
            where = f"step {self._steps}, on a full disk ({error}); the last checkpoint is {last}"
            raise Stopped(self.request.number, where) from error


def newest_sound(checkpoints: Path, start_of: Callable[[State], int | None], say: Callable[[str], None]) -> Path | None:
    """The checkpoint to go on from, None where there is none. Newer ones that are damaged are named, and set aside.

    start_of: number of the stage at whose end the model stood that a state's objective must see again; None for none.
    Raises WeightsError when there are checkpoints and none of them is sound.
    """
    damaged: list[tuple[Path, str]] = []
    for path in reversed(checkpoint.by_age(checkpoints)):
        wrong = checkpoint.damage(path)
        if not wrong and (stage := start_of(checkpoint.load_state(path))) is not None:
            start = checkpoint.ends(checkpoints)[stage]
            wrong = checkpoint.damage(start)
            wrong = wrong and f"its stage began with {start.name}, where {wrong}"
        if not wrong:
            for one, why in damaged:
                aside = checkpoint.set_aside(one)
                say(f"the checkpoint {one} is damaged: {why}; it is '{aside.name}' now, going on from {path.name}")
            return path
        damaged.append((path, wrong))
    if damaged:
        path, wrong = damaged[0]
        raise WeightsError(
            f"no checkpoint in '{checkpoints}' is sound ({path.name}: {wrong}); choose another folder with run=..., or "
            "delete this run to begin anew"
        )
    return None
