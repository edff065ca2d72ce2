"""The generators that a component may draw from while it trains (dropout, say): torch's, numpy's and Python's own.

A run has their streams to itself: they begin at its seed and come back with its checkpoints, and the caller's go on
afterwards as if nothing had been drawn. Costs 10 KB a checkpoint and process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def seed(number: int, rank: int) -> None:
    """Begins anew. Processes draw differently: they see different packs."""
    torch.manual_seed(number + (rank << 32))
    random.seed(number + (rank << 32))
    np.random.seed((number + rank * 1_000_003) % 2**32)


def state() -> dict[str, Tensor]:
    """Where the generators stand, by name."""
    found = {"torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        found["mps"] = torch.mps.get_rng_state()
    _, words, gauss = random.getstate()
    found["python"] = torch.tensor(words)
    found["python.gauss"] = torch.tensor([float("nan") if gauss is None else gauss], dtype=torch.float64)
    numbers = np.random.get_state(legacy=False)
    assert isinstance(numbers, dict), "asked for in this form"
    found["numpy"] = torch.tensor([*numbers["state"]["key"].tolist(), numbers["state"]["pos"], numbers["has_gauss"]])
    found["numpy.gauss"] = torch.tensor([numbers["gauss"]], dtype=torch.float64)
    return found


def restore(found: Mapping[str, Tensor]) -> None:
    """The inverse of `state`; a device that is not here is passed over."""
    torch.set_rng_state(found["torch"])
    if "cuda" in found and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(found["cuda"])
    if "mps" in found and torch.backends.mps.is_available():
        torch.mps.set_rng_state(found["mps"])
    gauss = float(found["python.gauss"])
    random.setstate((3, tuple(found["python"].tolist()), None if gauss != gauss else gauss))  # NaN alone is not itself
    *key, position, has_gauss = found["numpy"].tolist()
    words = np.array(key, dtype=np.uint32)
    np.random.set_state(("MT19937", words, position, has_gauss, float(found["numpy.gauss"])))


@contextmanager
def apart() -> Iterator[None]:
    """What is drawn within is not drawn from the caller's streams."""
    before = state()
    try:
        yield
    finally:
        restore(before)


def together(states: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Those of several processes, under the names of one file. states: by rank."""
    return {f"{rank}.{name}": tensor for rank, found in states.items() for name, tensor in found.items()}


def of_rank(tensors: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The inverse, for one process; {} where there was no such one."""
    start = f"{rank}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
