"""What can be said in a recipe about training. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vitrail.contracts.devices import DeviceName
from vitrail.data.config import ResolutionConfig, TrainingData
from vitrail.models.config import CustomConfig
from vitrail.training.objectives import NextToken, ObjectiveConfig


@dataclass(frozen=True)
class CosineConfig:
    """Linear warm-up, then half a cosine down to `floor` times the learning rate. warmup: share of the stage."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = 0.03
    floor: float = 0.1

    def __post_init__(self) -> None:
        _shares(warmup=self.warmup, floor=self.floor)


@dataclass(frozen=True)
class ConstantConfig:
    """Linear warm-up, then the full learning rate to the end."""

    kind: Literal["constant"] = "constant"
    warmup: float = 0.03

    def __post_init__(self) -> None:
        _shares(warmup=self.warmup)


@dataclass(frozen=True)
class WSDConfig:
    """Warm-up, stable, decay: linear to `floor` over the last `decay` share of the stage.

    Source: MiniCPM, arXiv 2404.06395.
    """

    kind: Literal["wsd"] = "wsd"
    warmup: float = 0.03
    decay: float = 0.2
    floor: float = 0.0

    def __post_init__(self) -> None:
        _shares(warmup=self.warmup, decay=self.decay, floor=self.floor)
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup ({self.warmup}) and decay ({self.decay}) together must be at most 1")


def _shares(**values: float) -> None:
    """Raises ValueError for what is no share: a warm-up of 100 steps would never end."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}, must be from 0 to 1")


ScheduleConfig = CosineConfig | ConstantConfig | WSDConfig


@dataclass(frozen=True)
class AdamWConfig:
    """AdamW. Weight decay spares vectors (norms, biases)."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.05
    clip: float = 1.0
    """Largest norm of the gradient, 0 for no limit."""

    def __post_init__(self) -> None:
        if self.clip < 0 or self.weight_decay < 0 or self.eps <= 0:
            raise ValueError("clip and weight_decay must be 0 or more, eps more than 0")


@dataclass(frozen=True)
class StageConfig:
    """One stage. Exactly one of steps, epochs and tokens says how long it lasts."""

    name: str
    """Letters, digits, - and _."""
    train: Mapping[str, float]
    """Component -> learning rate; what is not named is frozen."""
    steps: int | None = None
    epochs: float | None = None
    tokens: int | None = None
    """Real tokens of packs: no padding, and no media beside the text."""
    accumulate: int = 1
    """Packs a step; of a stage counted in epochs, the last step of each takes those that are left."""
    schedule: ScheduleConfig = field(default_factory=CosineConfig)
    optimizer: AdamWConfig = field(default_factory=AdamWConfig)
    objective: ObjectiveConfig | CustomConfig = field(default_factory=NextToken)
    data: TrainingData | None = None
    """Instead of data.train."""
    replay: Mapping[str, float] = field(default_factory=dict)
    """Earlier stage -> share of this stage's samples that come from that stage's data."""
    resolution: ResolutionConfig | None = None
    """How large pictures may become."""

    def __post_init__(self) -> None:
        # Checkpoints carry the stage's name, and those within a stage are called step.
        if not re.fullmatch(r"[\w-]+", self.name) or self.name == "step":
            raise ValueError(f"name is '{self.name}', must be letters, digits, - and _, and not 'step'")
        given = [name for name in ("steps", "epochs", "tokens") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, epochs, tokens (got {', '.join(given) or 'none'})")
        if getattr(self, given[0]) <= 0:
            raise ValueError(f"{given[0]} must be more than 0")
        if self.accumulate < 1:
            raise ValueError("accumulate must be at least 1")
        if any(share <= 0 for share in self.replay.values()) or sum(self.replay.values()) >= 1:
            raise ValueError("replay gives shares above 0 that leave some for the stage's own data")
        if not self.train:
            raise ValueError("train names no component: the stage would learn nothing")
        for component, rate in self.train.items():
            if not rate > 0:
                raise ValueError(f"the learning rate of {component} is {rate}; leave a component out to freeze it")

    @property
    def lasts(self) -> tuple[Literal["packs", "epochs", "tokens"], float]:
        """How long the stage is, in what its stream counts."""
        if self.steps is not None:
            return "packs", self.steps * self.accumulate
        if self.epochs is not None:
            return "epochs", self.epochs
        assert self.tokens is not None, "a stage is counted in steps, epochs or tokens"
        return "tokens", self.tokens


@dataclass(frozen=True)
class TrainingConfig:
    """How the stages are run."""

    device: DeviceName = "auto"
    """auto takes CUDA, then MPS, then the CPU."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto takes bfloat16 where the device multiplies it in hardware."""
    compile: Literal["auto", "on", "off"] = "auto"
    """auto compiles on CUDA where a compiler is found; on compiles on the CPU too."""
    threads: int = 0
    """0 for as many as cores, or fewer where OMP_NUM_THREADS, the affinity or a CPU quota says so; a run goes on with
    the number it started with."""
    checkpoint_every: int = 200
    """Steps between checkpoints, besides those at the end of each stage."""
    keep_features: Literal["auto", "on", "off"] = "auto"
    """Whether what frozen encoders make of media is kept in the cache folder, 16 GiB an encoder; auto where a stage on
    the CPU goes over its data more than once."""
    skip_nonfinite: int = 0
    """Steps in a row that may be left out because their loss or gradient is not finite; 0 stops at the first."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}; allowed: 1 or more, or 0 for as many as cores")
        if self.skip_nonfinite < 0:
            raise ValueError(f"skip_nonfinite is {self.skip_nonfinite}; allowed: 0 or more steps in a row")
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every is {self.checkpoint_every}; allowed: 1 or more steps")
