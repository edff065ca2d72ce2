"""What a recipe will cost, before anything is spent.

Parameters are counted on the meta device. Time and memory come from a calibration of a few seconds: one layer of each
component, at its real width and on a full pack, forward and backward, times the depth. A model of any size can be planned on a
machine that could not hold it.
"""

from __future__ import annotations

from dataclasses import dataclass

CALIBRATION_SECONDS = 3.0
MOMENTS_BYTES = 8
"""AdamW keeps two float32 numbers a trained parameter."""


@dataclass(frozen=True)
class StagePlan:
    """One stage. tokens a step, seconds and GiB are estimates; steps is None where the length of the data decides."""

    name: str
    trainable: int
    steps: int | None
    tokens_per_step: float
    seconds: float | None
    memory_gib: float


@dataclass(frozen=True)
class Plan:
    """parameters: by component. packing: share of real tokens in the first window's packs."""

    parameters: dict[str, int]
    stages: tuple[StagePlan, ...]
    packing: float
    tokens_per_second: float


@dataclass(frozen=True)
class Cost:
    """Of one pass forward and backward over one pack: seconds, and bytes kept for the backward pass."""

    seconds: float
    activations: int
