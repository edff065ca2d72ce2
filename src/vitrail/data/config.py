"""What can be said in a recipe about data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vitrail.data.sources.config import DialectName as DialectName
from vitrail.data.sources.config import FilesConfig
from vitrail.data.sources.config import JsonlConfig as JsonlConfig
from vitrail.data.sources.config import Reading as Reading
from vitrail.media.config import AugmentConfig, FetchConfig
from vitrail.synthetic.code.config import CodeConfig
from vitrail.synthetic.config import DrawnConfig, LinesConfig, ProseConfig
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.speech.config import SpokenConfig

Overlong = Literal["drop", "truncate_text", "shrink_media", "drop_media", "error"]

SourceConfig = FilesConfig | DrawnConfig | LinesConfig | DocumentsConfig | CodeConfig | ProseConfig | SpokenConfig


@dataclass(frozen=True)
class PartConfig:
    """One source of a mixture."""

    name: str
    """In the ledger and in the curves."""
    source: SourceConfig
    share: float | tuple[tuple[float, float], ...] | None = None
    """Of the samples, relative to the other parts' shares; a list of [progress, share] changes it over the stage, in
    straight lines between its points. null: by the number of rows."""
    synthetic: bool = False
    """Every row counts as synthetic, as a row does that says `synthetic: true` of itself."""
    augment: AugmentConfig | None = None
    """Pictures are seen a little differently each time."""

    def __post_init__(self) -> None:
        if self.share is None:
            return
        points = self.share if isinstance(self.share, tuple) else ((0.0, self.share),)
        progress = [at for at, _ in points]
        if not points or progress != sorted(set(progress)) or not 0 <= progress[0] <= progress[-1] <= 1:
            raise ValueError("share needs points [progress, share] with progress rising from 0 to 1")
        if any(share < 0 for _, share in points) or not any(share for _, share in points):
            raise ValueError("shares must be 0 or more, and not all 0")


@dataclass(frozen=True)
class MixtureConfig:
    """Several sources in one stream."""

    parts: tuple[PartConfig, ...]
    kind: Literal["mixture"] = "mixture"
    temperature: float = 1.0
    """Shares by number of rows are rows ** (1 / temperature); above 1 small sources count for more."""
    max_synthetic: float = 1.0
    """Share of synthetic samples, at most."""

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names):
            raise ValueError("parts need at least one source, each with a name of its own")
        if len({part.share is None for part in self.parts}) > 1:
            raise ValueError("give every part a share, or none of them")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, must be more than 0")
        if not 0 <= self.max_synthetic <= 1:
            raise ValueError(f"max_synthetic is a share, from 0 to 1, got {self.max_synthetic}")
        if self.max_synthetic < 1 and all(part.synthetic for part in self.parts):
            raise ValueError("every part is synthetic: max_synthetic cannot hold")


TrainingData = SourceConfig | MixtureConfig


@dataclass(frozen=True)
class ResolutionConfig:
    """How large pictures may become within a stage, where that is less than model.media.max_tokens."""

    kind: Literal["random", "growing"]
    """random draws a limit for every sample, evenly between the two; growing goes from the first to the second over the
    stage."""
    least: int
    """Tokens of one picture; patches, where a projector makes as many tokens of any view."""
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"least ({self.least}) must be from 1 to most ({self.most})")


@dataclass(frozen=True)
class PackConfig:
    """Samples are laid end to end into packs. Order and packing are functions of a window alone."""

    length: int = 2048
    """Tokens of a pack."""
    patches: int = 16_384
    """Patches of pictures, or frames of sound, of a pack, at most."""
    window: int = 512
    """Samples that are packed together."""
    policy: Literal["best_fit", "fixed_length"] = "best_fit"
    """best_fit keeps samples whole; fixed_length fills every pack to its end and cuts the last sample of each there
    (MiniCPM-V's way; never within a picture)."""
    overlong: Overlong = "drop"
    """What happens to a sample longer than a pack. A medium is never cut: it is kept, made smaller (shrink_media) or
    left out (drop_media, the last ones first, never all) as a whole."""

    def __post_init__(self) -> None:
        for name, value in (("length", self.length), ("patches", self.patches), ("window", self.window)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class DataConfig:
    """What is learnt from, and what is measured on."""

    train: TrainingData
    """What stages learn from unless they name their own."""
    held_out: SourceConfig | None = None
    """What scores are measured on."""
    pack: PackConfig = field(default_factory=PackConfig)
    max_lost: float = 0.01
    """Share of rows that may be lost (unreadable, too long ...) before the run fails, judged over enough rows to know
    (`data.watch`); every loss is in the ledger."""
    allow_text_only: bool = False
    """Whether a model with an encoder may be trained on rows of which none has a picture, a video or a sound."""
    workers: int = 0
    """Processes that prepare packs; 0 for a thread of the training process. Their number changes no batch."""
    fetch: FetchConfig | None = None
    """Which hosts may be asked for pictures that rows give by address; null fetches none."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_lost <= 1:
            raise ValueError(f"max_lost is a share, from 0 to 1, got {self.max_lost}")
        if self.workers < 0:
            raise ValueError(f"workers is {self.workers}, must be 0 or more")
