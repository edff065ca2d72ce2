"""What can be said in a recipe about data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitrail.data.drawn.config import DrawnConfig, LinesConfig
from vitrail.data.drawn.documents.config import DocumentsConfig

Overlong = Literal["drop", "truncate_text", "error"]
DialectName = Literal["auto", "openai", "sharegpt", "tags"]


@dataclass(frozen=True)
class JsonlConfig:
    """Rows of a .jsonl (or a .json list), pictures beside it.

    path: the file; a plain string in a recipe means this. pictures: folder that relative picture paths start from;
    null means the file's own. dialect: how conversations are written; `auto` looks at the first rows. rows: use only
    this many from the start, 0 for all. shuffle: false takes rows in the file's order, but for how a window packs.
    """

    path: Path
    kind: Literal["jsonl"] = "jsonl"
    pictures: Path | None = None
    dialect: DialectName = "auto"
    rows: int = 0
    shuffle: bool = True

    @classmethod
    def from_scalar(cls, text: str) -> JsonlConfig:
        """`data.train=my.jsonl`."""
        return cls(path=Path(text))

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ValueError(f"rows must be 0 (all of them) or more, got {self.rows}")


SourceConfig = JsonlConfig | DrawnConfig | LinesConfig | DocumentsConfig


@dataclass(frozen=True)
class PackConfig:
    """Samples are laid end to end into packs.

    length: tokens of a pack. patches: picture patches of a pack, at most. window: samples that are packed together;
    order and packing are functions of the window alone. overlong: what happens to a sample longer than a pack.
    """

    length: int = 2048
    patches: int = 16_384
    window: int = 512
    overlong: Overlong = "drop"

    def __post_init__(self) -> None:
        for name, value in (("length", self.length), ("patches", self.patches), ("window", self.window)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class DataConfig:
    """train: what stages learn from unless they name their own. held_out: what scores are measured on.

    max_lost: share of rows that may be lost (unreadable, too long ...) before the run fails; every loss is in the
    ledger.
    """

    train: SourceConfig
    held_out: SourceConfig | None = None
    pack: PackConfig = field(default_factory=PackConfig)
    max_lost: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.max_lost <= 1:
            raise ValueError(f"max_lost is a share, from 0 to 1, got {self.max_lost}")
