"""Settings as a recipe has them, small: unions told apart by `kind`, shorthands, derived values and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class Adam:
    kind: Literal["adamw", "adam"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True)
class Muon:
    momentum: float
    kind: Literal["muon"] = "muon"
    lr: float = 0.02


@dataclass(frozen=True)
class Custom:
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    __custom__: ClassVar[bool] = True


Optimizer = Adam | Muon | Custom


@dataclass(frozen=True)
class Files:
    kind: Literal["files"]
    path: Path

    @classmethod
    def from_scalar(cls, text: str) -> Files:
        if text.endswith("/"):
            raise ValueError(f"expected a file, got the folder '{text}'")
        return cls("files", Path(text))


@dataclass(frozen=True)
class Drawn:
    kind: Literal["drawn"]
    count: int = 8


@dataclass(frozen=True)
class Data:
    train: Files | Drawn
    held_out: Files | Drawn | None = None


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    lr: float | None = None
    freeze: tuple[str, ...] = ()
    optimizer: Optimizer = field(default_factory=Adam)

    def __post_init__(self) -> None:
        if self.steps <= 0:
            raise ValueError(f"steps must be positive,\ngot {self.steps}")


@dataclass(frozen=True)
class Size:
    width: int = 64
    heads: int = 4
    wide: int | None = None
    area: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", self.width * self.heads)
        if self.wide is None:
            object.__setattr__(self, "wide", 4 * self.width)
