"""From the processes that were started to those that train together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vitrail.contracts.errors import RecipeError
from vitrail.training.parallel.environment import launched
from vitrail.training.parallel.single import Parallel


@contextmanager
def started(device: str) -> Iterator[Parallel]:
    """What this process does with the others, until the context ends. device: as in `training.device.Device`.

    One process alone loads nothing for it. Raises RecipeError for a device that one process alone trains on,
    TrainingError where the processes do not find each other.
    """
    rank, ranks = launched()
    if ranks == 1:
        yield Parallel()
        return
    if device not in ("cpu", "cuda"):
        raise RecipeError(f"training.device: '{device}' trains in one process; {ranks} were started (WORLD_SIZE)")
    from vitrail.training.parallel.sharded import Sharded, joined

    with joined(device, rank, ranks) as control:
        yield Sharded(device, rank, ranks, control)
