"""What can be said in a recipe about a model: its components and their sizes. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vitrail.contracts.samples import TARGET, TEXT, VISION, Spliced, component
from vitrail.media.config import CanvasConfig, LogMelConfig, NativeResolutionConfig, PictureMediaConfig, TextLinesConfig
from vitrail.models.backbones.config import DecoderConfig as DecoderConfig
from vitrail.models.backbones.config import EncoderDecoderConfig as EncoderDecoderConfig
from vitrail.models.backbones.config import LoraConfig as LoraConfig
from vitrail.models.encoders.config import MllamaEncoderConfig as MllamaEncoderConfig
from vitrail.models.encoders.config import TextLinesEncoderConfig as TextLinesEncoderConfig
from vitrail.models.encoders.config import VisionTransformerConfig as VisionTransformerConfig
from vitrail.models.encoders.config import WhisperEncoderConfig as WhisperEncoderConfig
from vitrail.models.fusion.config import Blind as Blind
from vitrail.models.fusion.config import CrossAttentionConfig as CrossAttentionConfig
from vitrail.models.fusion.config import GatedCrossAttentionConfig as GatedCrossAttentionConfig
from vitrail.models.fusion.config import HybridConfig as HybridConfig
from vitrail.models.fusion.config import Sees as Sees
from vitrail.models.fusion.config import SpliceConfig as SpliceConfig
from vitrail.models.projectors.config import DownsampleConfig as DownsampleConfig
from vitrail.models.projectors.config import JoinedConfig as JoinedConfig
from vitrail.models.projectors.config import LinearProjectorConfig as LinearProjectorConfig
from vitrail.models.projectors.config import MLPProjectorConfig as MLPProjectorConfig
from vitrail.models.projectors.config import PatchMergerConfig as PatchMergerConfig
from vitrail.models.projectors.config import PerceiverConfig as PerceiverConfig
from vitrail.models.projectors.config import ResamplerConfig as ResamplerConfig
from vitrail.prompts.config import LinePositionsConfig, MRopePositionsConfig


@dataclass(frozen=True)
class CustomConfig:
    """A component of the user's own: `kind: package.module:Class`; every other key is handed to it."""

    __custom__: ClassVar[bool] = True
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


BackboneConfig = DecoderConfig | EncoderDecoderConfig
MediaConfig = PictureMediaConfig | TextLinesConfig | LogMelConfig
StackedConfig = VisionTransformerConfig | WhisperEncoderConfig
"""Encoders that are a stack of blocks, `depth` of them."""
EncoderConfig = StackedConfig | MllamaEncoderConfig | TextLinesEncoderConfig | CustomConfig
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
    media: PictureMediaConfig | TextLinesConfig = field(default_factory=NativeResolutionConfig)
    """What pictures become, said once: data and prompts are handed the same."""
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
            if isinstance(tower.media, TextLinesConfig) and spliced(self.fusion) != "all":
                raise ValueError(f"{where}media.kind is text_lines, whose text stands in the text: fusion.kind: splice")
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
    def pictures(self) -> PictureMediaConfig:
        """`media` of a model that sees pictures as patches, as all official layouts do."""
        assert not isinstance(self.media, TextLinesConfig), "pages are no patches"
        return self.media

    @property
    def towers(self) -> Mapping[str, StreamConfig]:
        """Every media stream by name, the vision stream first where there is one."""
        vision = {} if self.encoder is None else {VISION: StreamConfig(self.media, self.encoder, self.projector)}
        return {**vision, **self.streams}

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the model's components, as stages and `weights` name them."""
        return components_of(self.towers)


READS: Mapping[type, tuple[str, ...]] = {
    VisionTransformerConfig: ("native", "tiles", "padded"),
    MllamaEncoderConfig: ("canvas",),
    TextLinesEncoderConfig: ("text_lines",),
    WhisperEncoderConfig: ("log_mel",),
}
"""Which kinds of media each encoder of ours reads."""


def check_encoder(encoder: EncoderConfig, media: MediaConfig) -> None:
    """Raises ValueError for an encoder of ours that cannot read what the media become."""
    if isinstance(encoder, CustomConfig):
        return
    kinds = READS[type(encoder)]
    if media.kind not in kinds:
        raise ValueError(
            f"encoder.kind is {encoder.kind}, which reads media.kind: {' or '.join(kinds)}; got {media.kind}"
        )
    if isinstance(encoder, MllamaEncoderConfig) and isinstance(media, CanvasConfig):
        found = media.tile // media.patch, media.max_tiles
        if found != (encoder.side, encoder.max_tiles):
            raise ValueError(
                f"media has tiles of {found[0]} patches a side and up to {found[1]} of them, encoder.side is "
                f"{encoder.side} and encoder.max_tiles {encoder.max_tiles}"
            )
    if not isinstance(media, LogMelConfig) or not isinstance(encoder, WhisperEncoderConfig):
        return
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
    if isinstance(tower.media, LogMelConfig | TextLinesConfig) or tower.media.max_views > 1:
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
    if isinstance(tower.media, TextLinesConfig):
        raise ValueError(
            f"{where}projector.kind is {tower.projector.kind}, which makes {grid[0]} x {grid[1]} tokens of any view; "
            f"with {where}media.kind: text_lines every token of the text has one: mlp or linear"
        )
    if tower.media.merge != 1:
        raise ValueError(
            f"{where}media.merge is {tower.media.merge}, with {where}projector.kind {tower.projector.kind} it must be "
            f"1: patches do not merge, every view becomes {grid[0]} x {grid[1]} tokens"
        )
    if isinstance(tower.encoder, MllamaEncoderConfig):
        raise ValueError(
            f"{where}encoder.kind is mllama, whose features are not patches alone: {where}projector.kind "
            f"{tower.projector.kind} does not go with it"
        )
    kept = isinstance(tower.encoder, VisionTransformerConfig) and tower.encoder.class_token == "kept"
    if isinstance(tower.projector, CustomConfig):
        return
    resized = isinstance(tower.projector, ResamplerConfig) and tower.projector.key_positions == "resized"
    if isinstance(tower.media, LogMelConfig) and resized:
        raise ValueError(f"{where}projector.key_positions: resized is for grids of patches; of sound: own or none")
    if kept:
        raise ValueError(f"{where}encoder.class_token: kept, but a resampler looks at patches alone: dropped or none")
