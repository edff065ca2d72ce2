"""Which of how many processes this one is, as torchrun tells it by the environment. Imports no torch."""

from __future__ import annotations

import os


def launched() -> tuple[int, int]:
    """(rank, ranks) of this process; (0, 1) where nobody started several."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ.get("RANK", "0")), ranks) if ranks > 1 else (0, 1)


def ranks_here() -> int:
    """Processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched()[1] > 1 else 1


def local_rank() -> int:
    """This one's number among them."""
    rank, _ = launched()
    return int(os.environ.get("LOCAL_RANK", str(rank)))
