"""Components to the assembled model.

A component's `kind` is a name that the tables here know, or `package.module:Class` of the user's own. A new component
is its file, its settings in `models/config.py`, and a line here.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import Backbone, Encoder, Fusion, Projector
from vitrail.contracts.samples import VISION
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.construct import build_backbone
from vitrail.models.backbones.decoder import Decoder
from vitrail.models.backbones.language_model import LanguageModel
from vitrail.models.config import (
    CustomConfig,
    DownsampleConfig,
    EncoderConfig,
    FusionConfig,
    GatedCrossAttentionConfig,
    HybridConfig,
    JoinedConfig,
    LinearProjectorConfig,
    MllamaEncoderConfig,
    MLPProjectorConfig,
    ModelConfig,
    PatchMergerConfig,
    PerceiverConfig,
    ProjectorConfig,
    ResamplerConfig,
    SpliceConfig,
    TextLinesEncoderConfig,
    VisionTransformerConfig,
    WhisperEncoderConfig,
    token_width,
)
from vitrail.models.encoders.mllama import MllamaEncoder
from vitrail.models.encoders.text_lines import TextLinesEncoder
from vitrail.models.encoders.vision_transformer import VisionTransformer
from vitrail.models.encoders.whisper import WhisperEncoder
from vitrail.models.fusion.gated_cross_attention import GatedCrossAttention
from vitrail.models.fusion.splice import Splice
from vitrail.models.projectors.downsample import Downsample
from vitrail.models.projectors.joined import Joined
from vitrail.models.projectors.linear import LinearProjector
from vitrail.models.projectors.mlp import MLPProjector
from vitrail.models.projectors.patch_merger import PatchMerger
from vitrail.models.projectors.perceiver import PerceiverResampler
from vitrail.models.projectors.resampler import Resampler
from vitrail.prompts.config import MRopePositionsConfig
from vitrail.training.objectives import Objective

ENCODERS: Mapping[type, Callable[..., Encoder]] = {
    VisionTransformerConfig: VisionTransformer,
    MllamaEncoderConfig: MllamaEncoder,
    TextLinesEncoderConfig: TextLinesEncoder,
    WhisperEncoderConfig: WhisperEncoder,
}
"""Settings to class, called with the settings and patch_values: the numbers in one patch of one frame, in one frame
of sound, or of one token of a page's text."""

PROJECTORS: Mapping[type, Callable[..., Projector]] = {
    MLPProjectorConfig: MLPProjector,
    LinearProjectorConfig: LinearProjector,
    PatchMergerConfig: PatchMerger,
    ResamplerConfig: Resampler,
    DownsampleConfig: Downsample,
    PerceiverConfig: PerceiverResampler,
}
"""Settings to class, called with the settings, encoder_width, backbone_width (or that of media tokens, where the fusion
has another) and patches_per_token: how many patches, or features of sound, become one token; they lie together.
`Joined` besides, with the width of what it joins."""

FUSIONS: Mapping[type, Callable[..., Fusion]] = {
    SpliceConfig: Splice,
    GatedCrossAttentionConfig: GatedCrossAttention,
    HybridConfig: GatedCrossAttention,
}
"""Settings to class, called with the settings and the backbone."""


def custom(kind: str, where: str, **arguments: Any) -> Any:
    """An object of the class behind `package.module:Class`; the working directory is searched too.

    Raises RecipeError when there is no such class, or it does not take the arguments.
    """
    module, _, name = kind.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"{where}: cannot load '{kind}': {error}") from error
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise RecipeError(f"{where}: {kind}: {error}") from error
    return found(**arguments)


def build_model(
    config: ModelConfig,
    vocabulary: int,
    seed: int,
    backbone: LanguageModel | None = None,
    objectives: Iterable[Objective] = (),
) -> MultimodalModel:
    """The assembled model in float32, on the default device. seed: of every random weight.

    objectives: those whose modules it is to have. Raises RecipeError for components that do not fit together.
    """
    # The seed is this model's own business: a caller's stream of chance goes on as if nothing had been drawn.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _assembled(config, vocabulary, backbone, objectives)


def _assembled(
    config: ModelConfig, vocabulary: int, backbone: LanguageModel | None, objectives: Iterable[Objective]
) -> MultimodalModel:
    if backbone is None:
        backbone = build_backbone(config.backbone, vocabulary)
    towers = _towers(config, token_width(config.fusion, backbone.width))
    fusion = _fusion(config.fusion, backbone)
    seen = towers[VISION][0].width if VISION in towers else 0
    heads = _heads(objectives, seen, backbone)
    if isinstance(config.positions, MRopePositionsConfig):
        assert isinstance(backbone, Decoder), "settings say that M-RoPE is a decoder's"
        backbone.use_mrope(config.positions.sections)
    backbone.recompute = config.backbone.recompute
    if config.backbone.lora:
        # Last, so that what else is drawn by chance is the same without adapters.
        backbone.add_adapters(config.backbone.lora)
    return MultimodalModel(towers, fusion, backbone, heads)


def _towers(config: ModelConfig, width: int) -> dict[str, tuple[Encoder, Projector]]:
    """Encoder and projector of each stream; joined ones come before those that join them. width: of media tokens."""
    streams = config.towers
    joining = {name: one.projector for name, one in streams.items() if isinstance(one.projector, JoinedConfig)}
    joined = {projector.joins for projector in joining.values()}
    towers: dict[str, tuple[Encoder, Projector]] = {}
    for name in sorted(streams, key=lambda name: name in joining):
        stream, where = streams[name], "model" if name == VISION else f"model.streams.{name}"
        encoder = build_encoder(stream.encoder, stream.media.patch_values, f"{where}.encoder")
        given = {
            "encoder_width": encoder.width,
            "backbone_width": width,
            "patches_per_token": stream.media.patches_per_token,
        }
        if name in joining:
            given["beside_width"] = getattr(towers[joining[name].joins][1], "width", width)
        projector = _projector(stream.projector, given, f"{where}.projector")
        made = getattr(projector, "width", width)
        if name not in joined and made != width:
            raise RecipeError(f"{where}.projector makes tokens of {made} numbers, media tokens have {width}")
        towers[name] = encoder, projector
    return towers


def build_encoder(config: EncoderConfig, patch_values: int, where: str = "encoder") -> Encoder:
    """An encoder alone. Raises RecipeError, which begins with `where`, for a class that is not there."""
    if isinstance(config, CustomConfig):
        made: Encoder = custom(config.kind, where, patch_values=patch_values, **config.options)
        return made
    return ENCODERS[type(config)](config, patch_values=patch_values)


def _projector(config: ProjectorConfig, given: Mapping[str, int], where: str) -> Projector:
    if isinstance(config, CustomConfig):
        made: Projector = custom(config.kind, where, **given, **config.options)
        return made
    if isinstance(config, JoinedConfig):
        # A projector but for what it is handed besides: the tokens of the other stream.
        return cast(Projector, Joined(config, **given))
    return PROJECTORS[type(config)](config, **given)


def _fusion(config: FusionConfig, backbone: Backbone) -> Fusion:
    if isinstance(config, CustomConfig):
        made: Fusion = custom(config.kind, "model.fusion", backbone=backbone, **config.options)
        return made
    return FUSIONS[type(config)](config, backbone)


def _heads(objectives: Iterable[Objective], encoder_width: int, backbone: Backbone) -> dict[str, nn.Module]:
    """The modules of objectives, each once. Raises RecipeError where two want different ones under one name."""
    wanted: dict[str, partial[Any]] = {}
    for objective in objectives:
        for name, make in objective.heads(encoder_width, backbone.width, backbone.vocabulary).items():
            before = wanted.setdefault(name, make)
            if (before.func, before.args, before.keywords) != (make.func, make.args, make.keywords):
                raise RecipeError(f"stages: '{name}' is one module of the model, and its stages set it differently")
    return {name: make() for name, make in wanted.items()}
