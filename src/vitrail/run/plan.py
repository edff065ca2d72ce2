"""What a recipe will cost, before anything is spent.

Parameters are counted on the meta device. Time and memory come from a calibration of a few seconds (`run.plan_cost`) on
a pack of the data (`run.plan_load`). A model of any size can be planned on a machine that could not hold it. Where even
that calibration would take minutes, it is left out: the rest can be counted.

Memory is that of one model while it trains; the blind baseline is trained after it, in the same memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from vitrail import build
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe
from vitrail.run.plan_cost import (
    LONGEST_CALIBRATION,
    UNTIMED,
    bytes_of,
    calibration,
    cost_of_pack,
    count,
    memory_bandwidth,
    shaped,
)
from vitrail.run.plan_load import load_of
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.optimizer import BYTES, freeze_all_but

PROCESS_GIB = 0.5
"""Python, torch and transformers before any model."""


@dataclass(frozen=True)
class StagePlan:
    """One stage. trainable: parameters. steps: None for epochs of data that is not there. seconds, memory_gib: of the
    stage and of the process, estimates; None where a calibration would take too long, or steps are not known.

    flop: of a step, floating-point operations; counted where it is not timed.

    known: whether the steps are those that the stage will take (unreadable pictures aside), or reckoned from its first
    windows. packing: share of real tokens in packs. missing: why the stage's data could not be opened, and a pack was
    made up; "" when it was measured.
    """

    name: str
    trainable: int
    steps: float | None
    seconds: float | None
    memory_gib: float | None
    packing: float
    missing: str
    flop: float | None = None
    known: bool = True


@dataclass(frozen=True)
class Plan:
    """parameters: by component."""

    parameters: Mapping[str, int]
    stages: Sequence[StagePlan]


def make_plan(recipe: Recipe, device: Device) -> Plan:
    """Counts and measures. Raises RecipeError for a recipe that does not fit together."""
    torch.set_num_threads(device.threads)
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer, recipe.data.fetch)
    with torch.device("meta"):
        objectives = build.objectives_of(recipe.stages).values()
        whole = shaped(recipe.model, tokenizer.vocabulary, objectives=objectives)
    parameters = {name: count(child) for name, child in whole.named_children() if count(child)}
    stages = [_stage(recipe, stage, whole, encode, device) for stage in recipe.stages]
    return Plan(parameters, stages)


def _stage(recipe: Recipe, stage: StageConfig, whole: MultimodalModel, encode: Encode, device: Device) -> StagePlan:
    freeze_all_but(whole, stage.train, stage.name)
    trainable = sum(parameter.numel() for parameter in whole.parameters() if parameter.requires_grad)
    load, vocabulary = load_of(recipe, stage, encode, device), encode.tokenizer.vocabulary
    timed = calibration(recipe, vocabulary, load.batch, device) <= LONGEST_CALIBRATION
    at = device if timed else UNTIMED
    cost = cost_of_pack(recipe, stage, vocabulary, load.batch, at, made_up=bool(load.missing))
    memory = PROCESS_GIB + (_held(stage, whole, trainable, at.torch_dtype) + cost.kept) / 2**30
    found = StagePlan(stage.name, trainable, load.steps, None, memory, load.packing, load.missing, known=load.known)
    if not timed:
        return replace(found, flop=stage.accumulate * cost.flop)
    if load.steps is None:
        return found
    # A step of the optimizer goes over parameter, gradient and both moments, some of them twice.
    moving = load.steps * trainable * 8 * 4 / memory_bandwidth()
    return replace(found, seconds=load.packs * cost.seconds + min(load.fresh, load.packs) * cost.once + moving)


def _held(stage: StageConfig, whole: MultimodalModel, trainable: int, dtype: torch.dtype) -> int:
    """Bytes that are there all through a step: weights, and what the optimizer and the objective keep of them."""
    (objective,) = build.objectives_of([stage]).values()
    start = dtype.itemsize if objective.remembers_start else 0
    return bytes_of(whole, dtype.itemsize) + trainable * (BYTES[dtype] - dtype.itemsize + start)
