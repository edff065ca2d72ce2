"""What can be said in a recipe about a model: its components and their sizes. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vitrail.contracts.samples import TARGET, TEXT, VISION, Spliced, component
from vitrail.media.config import LogMelConfig, NativeResolutionConfig, PictureMediaConfig
from vitrail.models.backbones.config import DecoderConfig as DecoderConfig
from vitrail.models.backbones.config import EncoderDecoderConfig as EncoderDecoderConfig
from vitrail.models.backbones.config import LoraConfig as LoraConfig
from vitrail.models.encoders.config import VisionTransformerConfig as VisionTransformerConfig
from vitrail.models.encoders.config import WhisperEncoderConfig as WhisperEncoderConfig
from vitrail.models.fusion.config import Blind as Blind
from vitrail.models.fusion.config import CrossAttentionConfig as CrossAttentionConfig
from vitrail.models.fusion.config import GatedCrossAttentionConfig as GatedCrossAttentionConfig
from vitrail.models.fusion.config import HybridConfig as HybridConfig
from vitrail.models.fusion.config import Sees as Sees
from vitrail.models.fusion.config import SpliceConfig as SpliceConfig
from vitrail.prompts.config import LinePositionsConfig, MRopePositionsConfig


@dataclass(frozen=True)
class MLPProjectorConfig:
    """Pixel shuffle (merge x merge patches, or `merge` features of sound, become one token) and a two-layer MLP, with a
    norm before either."""

    token_grid: ClassVar[None] = None

    kind: Literal["mlp"] = "mlp"
    hidden: int | None = None
    """Width between the two layers; null means the backbone's."""
    bias: bool = True
    """Of the two layers."""
    norm: Literal["rms", "layer", "none"] = "rms"
    norm_at: Literal["patches", "merged"] = "patches"
    """Each patch is normed before they merge, or the merged ones."""
    norm_eps: float = 1e-5
    order: Literal["rows", "columns"] = "rows"
    """Of a view's tokens: row by row, or column by column (InternVL's `ps_version` v2 and v1)."""


@dataclass(frozen=True)
class LinearProjectorConfig:
    """One linear layer over merge x merge patches, or `merge` features of sound.

    Source: MiniGPT-4 for Llama 2 (arXiv 2304.10592), LLaVA 1.
    """

    token_grid: ClassVar[None] = None

    kind: Literal["linear"] = "linear"
    bias: bool = True


@dataclass(frozen=True)
class PatchMergerConfig:
    """Norm, a linear merger of the patches of a token to the encoder's width, then a two-layer MLP.

    Source: Mistral Small 3.1, transformers `Mistral3MultiModalProjector`.
    """

    token_grid: ClassVar[None] = None

    kind: Literal["patch_merger"] = "patch_merger"
    bias: bool = False
    """Of the two layers."""
    norm_eps: float = 1e-5
    """transformers takes the backbone's rms_norm_eps, vLLM always 1e-5."""


@dataclass(frozen=True)
class ResamplerConfig:
    """Learnt queries look once at the patches of a view: the same number of tokens for a view of any size.

    The encoder's patches do not merge (`model.media.merge: 1`). Linear layers before and behind the attention have no
    bias; without one of them the widths must agree.
    Sources: Qwen-VL (arXiv 2308.12966), 256 queries, keys `resized`; MiniCPM-V 2.5 (arXiv 2408.01800), 96 queries
    without positions, keys `own`; both as released, with 32 heads of 128.
    """

    kind: Literal["resampler"] = "resampler"
    queries: tuple[int, int] = (8, 8)
    """Rows and columns of the tokens."""
    width: int | None = None
    """Of the attention, a multiple of heads and of 4; null means the backbone's."""
    heads: int = 8
    query_positions: bool = True
    """Whether sines of their row and column are added to the queries."""
    key_positions: Literal["resized", "own", "none"] = "resized"
    """Added to the patches, as keys alone: the sines of the queries' grid, resized to the view's;
    those of the view's own rows and columns; or none."""
    kv_projection: bool = True
    """A linear layer from the encoder's width."""
    out_projection: bool = True
    """A linear layer to the backbone's width."""
    bias: bool = True
    """Of the attention's own four layers."""
    query_norm: bool = True
    key_norm: bool = True
    """Of keys and values, behind `kv_projection`."""
    out_norm: bool = True
    """Of what comes out of the attention."""
    norm: Literal["rms", "layer"] = "layer"
    """Of all three."""
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if min(self.queries) < 1 or self.heads < 1:
            raise ValueError("queries, [rows, columns], and heads must be at least 1")

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of every view."""
        return self.queries


@dataclass(frozen=True)
class DownsampleConfig:
    """Features of a view, resized to four times a grid and halved twice by convolutions without a bias.

    Source: DeepSeek-VL, arXiv 2403.05525, section 3.1, and `sam.py` of its code: 64 x 64 features of SAM to 24 x 24.
    """

    kind: Literal["downsample"] = "downsample"
    grid: tuple[int, int] = (24, 24)
    """Rows and columns of the tokens."""
    channels: tuple[int, int] = (512, 1024)
    """Behind the first convolution, and of the tokens; the latter are of the backbone's width unless another projector
    joins them."""
    early: int | None = 256
    """The features come with those of an early block behind them (`encoder.early`): these go the same way, after a neck
    that makes them as wide as the others, so wide, and are added, times a learnt number that starts at 0. Null for
    features without."""

    def __post_init__(self) -> None:
        if min(*self.grid, *self.channels, self.early or 1) < 1:
            raise ValueError("grid, [rows, columns], channels and early must be at least 1")

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of every view."""
        return self.grid


@dataclass(frozen=True)
class JoinedConfig:
    """Tokens of two streams of the same pictures become one: a layer each to half of the backbone's width, side by
    side, the other stream's first; GELU; one more layer.

    Source: DeepSeek-VL's adaptor, `low_high_hybrid_split_mlp_gelu` in `projector.py` of its code.
    """

    token_grid: ClassVar[None] = None

    kind: Literal["joined"] = "joined"
    joins: str = "high"
    """The other stream, in `model.streams`: its projector's tokens, as many of each view, are seen nowhere else."""


@dataclass(frozen=True)
class PerceiverConfig:
    """Learnt queries look at the features of a view again and again, and each time at each other: Flamingo's resampler.

    The encoder's patches do not merge (`model.media.merge: 1`). No layer has a bias.
    Sources: Flamingo, arXiv 2204.14198, section 2.1; OpenFlamingo, helpers.py, whose queries are 64 and whose tokens
    are as wide as the encoder.
    """

    kind: Literal["perceiver"] = "perceiver"
    queries: int = 64
    """Tokens of every view."""
    depth: int = 6
    """Layers, each of attention and an MLP."""
    heads: int = 8
    head_width: int = 64
    mlp_width: int | None = None
    """Null means four times the encoder's."""
    frames: int | None = None
    """Embeddings of the first so many frames of a view; null for none."""
    media: int | None = None
    """Embeddings of the first so many views of a sample; null for none."""
    out_projection: bool = True
    """A linear layer to the width of media tokens; without one the encoder's must be that."""
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("queries", "depth", "heads", "head_width", "mlp_width", "frames", "media"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of every view."""
        return 1, self.queries


@dataclass(frozen=True)
class CustomConfig:
    """A component of the user's own: `kind: package.module:Class`; every other key is handed to it."""

    __custom__: ClassVar[bool] = True
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


BackboneConfig = DecoderConfig | EncoderDecoderConfig
MediaConfig = PictureMediaConfig | LogMelConfig
EncoderConfig = VisionTransformerConfig | WhisperEncoderConfig | CustomConfig
ProjectorConfig = (
    MLPProjectorConfig
    | LinearProjectorConfig
    | PatchMergerConfig
    | ResamplerConfig
    | PerceiverConfig
    | DownsampleConfig
    | JoinedConfig
    | CustomConfig
)
FusionConfig = SpliceConfig | GatedCrossAttentionConfig | HybridConfig | CustomConfig


@dataclass(frozen=True)
class StreamConfig:
    """A media stream beside the vision stream: what its media become, and its encoder and projector."""

    media: MediaConfig
    encoder: EncoderConfig
    projector: ProjectorConfig

    def __post_init__(self) -> None:
        check_encoder(self.encoder, self.media)


@dataclass(frozen=True)
class ModelConfig:
    """The components of a model.

    A recipe may say `from:` beside these, a finished model of any known layout: it then starts from all of that model's
    settings, prompt and weights, and says only what is to be otherwise (`recipe/model_from.py`).
    """

    backbone: BackboneConfig
    media: PictureMediaConfig = field(default_factory=NativeResolutionConfig)
    """How pictures become patches, said once: data and prompts are handed the same."""
    encoder: EncoderConfig | None = field(default_factory=VisionTransformerConfig)
    """Of the vision stream; null for a model that sees nothing."""
    projector: ProjectorConfig = field(default_factory=MLPProjectorConfig)
    """Of the vision stream."""
    streams: Mapping[str, StreamConfig] = field(default_factory=dict)
    """Further media streams, by name."""
    fusion: FusionConfig = field(default_factory=SpliceConfig)
    """Where media meet text."""
    positions: LinePositionsConfig | MRopePositionsConfig = field(default_factory=LinePositionsConfig)
    """Of text and of picture tokens in it; samples carry them, the backbone's rotary frequencies go by them."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Component -> the finished model it is taken from: a run's folder, a folder or hub id in an official layout, or
    `starter` for the encoder and projector that come with the package. One not named starts as its settings say."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """transformers' `generation_config.json` of the base: its `eos_token_id` end answers beside the template's own end,
    and `export` writes all of it again. Empty for that of `backbone.id`."""

    def __post_init__(self) -> None:
        if self.positions.kind == "mrope" and self.backbone.kind == "encoder_decoder":
            raise ValueError("positions: kind mrope rotates a decoder's queries and keys; T5's positions are relative")
        for name in self.streams:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in (TEXT, TARGET, VISION):
                raise ValueError(
                    f"streams: '{name}' must be small letters, digits and _, and none of {TEXT}, {TARGET}, {VISION}"
                )
        if self.encoder is not None:
            check_encoder(self.encoder, self.media)
        for name, tower in self.towers.items():
            where = "" if name == VISION else f"streams.{name}."
            _check_grid(tower, where)
            if isinstance(tower.projector, JoinedConfig):
                self._check_joined(tower, tower.projector.joins, where)

    def _check_joined(self, tower: StreamConfig, joins: str, where: str) -> None:
        """Raises ValueError for a stream that is not there, or whose views have other tokens."""
        other = self.streams.get(joins)
        if other is None or other is tower:
            there = ", ".join(self.streams) or "none"
            raise ValueError(f"{where}projector.joins is '{joins}', no other stream of model.streams; there: {there}")
        if isinstance(other.projector, JoinedConfig):
            raise ValueError(f"{where}projector.joins is '{joins}', whose own projector joins another")
        if tower.media.merge != 1:
            raise ValueError(f"{where}media.merge is {tower.media.merge}, with projector.kind joined it must be 1")
        counts = view_tokens(tower), view_tokens(other)
        if None in counts or counts[0] != counts[1]:
            raise ValueError(
                f"{where}projector joins the tokens of '{joins}' one by one: a picture must be one view of both, with "
                f"as many tokens, got {' and '.join('a varying number' if one is None else str(one) for one in counts)}"
            )

    @property
    def towers(self) -> Mapping[str, StreamConfig]:
        """Every media stream by name, the vision stream first where there is one."""
        vision = {} if self.encoder is None else {VISION: StreamConfig(self.media, self.encoder, self.projector)}
        return {**vision, **self.streams}

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the model's components, as stages and `weights` name them."""
        return components_of(self.towers)


def check_encoder(encoder: EncoderConfig, media: MediaConfig) -> None:
    """Raises ValueError for an encoder of ours that cannot read what the media become."""
    heard = isinstance(media, LogMelConfig)
    if isinstance(encoder, CustomConfig) or (isinstance(encoder, VisionTransformerConfig) and not heard):
        return
    if not isinstance(media, LogMelConfig) or not isinstance(encoder, WhisperEncoderConfig):
        reads = (
            "media.kind: native, tiles or padded"
            if isinstance(encoder, VisionTransformerConfig)
            else "media.kind: log_mel"
        )
        raise ValueError(f"encoder.kind is {encoder.kind}, which reads {reads}; got {media.kind}")
    if media.stride != encoder.stride:
        raise ValueError(f"media.stride is {media.stride}, the encoder makes one feature of {encoder.stride} frames")
    if media.view_frames > encoder.stride * encoder.max_positions:
        raise ValueError(
            f"media.seconds ({media.seconds:g}) are {media.view_frames // encoder.stride} features, "
            f"encoder.max_positions is {encoder.max_positions}"
        )


def components_of(streams: Iterable[str]) -> tuple[str, ...]:
    """Names of the components of a model with these media streams."""
    towers = (name for stream in streams for name in (component(stream, "encoder"), component(stream, "projector")))
    return (*towers, "fusion", "backbone")


def blocks(fusion: FusionConfig, layers: int) -> int:
    """Blocks that a fusion puts between so many decoder layers; of a fusion of the user's own none are known."""
    return len(fusion.layers(layers)) if isinstance(fusion, CrossAttentionConfig) else 0


def spliced(fusion: FusionConfig) -> Spliced:
    """Which views have tokens in the text stream; of a fusion of one's own all, unless it says `spliced: false`."""
    if isinstance(fusion, CustomConfig):
        return "all" if fusion.options.get("spliced", True) else "none"
    return fusion.spliced


def token_width(fusion: FusionConfig, backbone: int) -> int:
    """Of media tokens, as projectors make them. backbone: the language model's width."""
    return (isinstance(fusion, CrossAttentionConfig) and fusion.media_width) or backbone


def token_grid(projector: ProjectorConfig) -> tuple[int, int] | None:
    """Rows and columns of the tokens that a projector makes of every view; None where patches merge into tokens."""
    grid = projector.options.get("token_grid") if isinstance(projector, CustomConfig) else projector.token_grid
    return None if grid is None else (int(grid[0]), int(grid[1]))


def view_tokens(tower: StreamConfig) -> int | None:
    """Tokens of a picture where it is always one view with as many of them; None where their number varies."""
    if isinstance(tower.media, LogMelConfig) or tower.media.max_views > 1:
        return None
    grid = token_grid(tower.projector)
    if grid is not None:
        return grid[0] * grid[1]
    return None if isinstance(tower.media, NativeResolutionConfig) else tower.media.max_tokens


def _check_grid(tower: StreamConfig, where: str) -> None:
    """Raises ValueError for patches that merge before a projector that makes a grid of tokens of any number of them."""
    grid = token_grid(tower.projector)
    if grid is None:
        return
    if tower.media.merge != 1:
        raise ValueError(
            f"{where}media.merge is {tower.media.merge}, with {where}projector.kind {tower.projector.kind} it must be "
            f"1: patches do not merge, every view becomes {grid[0]} x {grid[1]} tokens"
        )
    kept = isinstance(tower.encoder, VisionTransformerConfig) and tower.encoder.class_token == "kept"
    if isinstance(tower.projector, CustomConfig):
        return
    resized = isinstance(tower.projector, ResamplerConfig) and tower.projector.key_positions == "resized"
    if isinstance(tower.media, LogMelConfig) and resized:
        raise ValueError(f"{where}projector.key_positions: resized is for grids of patches; of sound: own or none")
    if kept:
        raise ValueError(f"{where}encoder.class_token: kept, but a resampler looks at patches alone: dropped or none")
