"""The models of benchmarks/systems.py: their sizes, and what transformers' class of each takes for pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.contracts.samples import VISION
from vitrail.media.config import NativeResolutionConfig, PaddedConfig, TilesConfig
from vitrail.media.native import patchify_frames
from vitrail.models.config import (
    DecoderConfig,
    DownsampleConfig,
    JoinedConfig,
    ModelConfig,
    StreamConfig,
    VisionTransformerConfig,
)
from vitrail.prompts.config import MRopePositionsConfig
from vitrail.systems import deepseek_vl, internvl
from vitrail.systems.deepseek_vl_hybrid import HIGH
from vitrail.systems.encoders import intern_vit, presets, qwen_vit

SMALLEST, LARGEST = 112, 448
"""Sides of pictures, px."""
SMALL = 224
"""Side of a padded square, px; of the larger one, LARGEST."""


@dataclass(frozen=True)
class Size:
    """Of a model: widths, numbers of layers and heads. A head of the language model has width / heads."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    vision_width: int
    vision_layers: int
    vision_heads: int


FULL = Size(32_768, 640, 12, 10, 1792, 512, 8, 8)
TINY = Size(1024, 32, 1, 2, 64, 32, 1, 2)


def language(size: Size, family: str = "qwen2") -> DecoderConfig:
    """A language model of that family, embeddings tied, a key for every five queries (or two)."""
    config = {
        "model_type": family,
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": 2 if size.heads > 2 else 1,
        "tie_word_embeddings": True,
    }
    return DecoderConfig(config=config, tokenizer="small")


def qwen2_vl_model(size: Size) -> ModelConfig:
    settings = {
        "embed_dim": size.vision_width,
        "depth": size.vision_layers,
        "num_heads": size.vision_heads,
    }
    encoder = qwen_vit.encoder_2({**qwen_vit.VISION_2, **settings})
    half = size.width // size.heads // 2
    sections = (half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8)
    media = NativeResolutionConfig(max_tokens=(LARGEST // 28) ** 2)
    return ModelConfig(
        language(size), media, encoder, qwen_vit.merger(encoder, 2), positions=MRopePositionsConfig(sections=sections)
    )


def internvl_model(size: Size) -> ModelConfig:
    media = TilesConfig(tile=224, max_tiles=6)
    encoder = VisionTransformerConfig(
        **intern_vit.STRUCTURE,
        width=size.vision_width,
        depth=size.vision_layers,
        heads=size.vision_heads,
        mlp_width=4 * size.vision_width,
        activation="gelu",
        position_table=(16, 16),
        norm="layer",
        norm_eps=1e-6,
        qkv_bias=True,
        layer_scale=0.1,
    )
    return ModelConfig(language(size), media, encoder, internvl.PROJECTOR)


def deepseek_vl_model(size: Size) -> ModelConfig:
    return ModelConfig(language(size, "llama"), PaddedConfig(side=SMALL), siglip_of(size), deepseek_vl.PROJECTOR)


def siglip_of(size: Size) -> VisionTransformerConfig:
    return replace(
        presets.siglip_large(SMALL),
        width=size.vision_width,
        depth=size.vision_layers,
        heads=size.vision_heads,
        mlp_width=4 * size.vision_width,
    )


def deepseek_vl_hybrid_model(size: Size) -> ModelConfig:
    """SAM half as wide and half as deep as the other encoder, but for its last block within windows."""
    large, neck = PaddedConfig(side=LARGEST), size.vision_width // 4
    depth = max(1, size.vision_layers // 2)
    sam = replace(
        presets.sam_base(LARGEST),
        width=size.vision_width // 2,
        depth=depth,
        heads=max(1, size.vision_heads // 2),
        mlp_width=2 * size.vision_width,
        full_blocks=(depth - 1,),
        neck=neck,
        early=True,
    )
    grid = (SMALL // large.patch, SMALL // large.patch)
    down = DownsampleConfig(grid=grid, channels=(2 * neck, 4 * neck), early=neck)
    return ModelConfig(
        language(size, "llama"),
        PaddedConfig(side=SMALL, larger=LARGEST, background=large.colour),
        siglip_of(size),
        JoinedConfig(),
        {HIGH: StreamConfig(large, sam, down)},
    )


Tensors = dict[str, torch.Tensor]
Shown = Mapping[str, tuple[NDArray[np.float32], ...]]
"""Decoded views of a picture, normalised, by stream."""


def qwen2_vl_inputs(shown: Sequence[Shown], media: Any) -> Tensors:
    """Pictures as its processor gives them: every patch holds two equal frames."""
    frames = [np.stack([pixels, pixels]) for (pixels,) in (one[VISION] for one in shown)]
    patches = [patchify_frames(pair, media.patch, media.merge, 2)[0] for pair in frames]
    grid = [(1, pair.shape[1] // media.patch, pair.shape[2] // media.patch) for pair in frames]
    return {"pixel_values": torch.from_numpy(np.concatenate(patches)), "image_grid_thw": torch.tensor(grid)}


def as_planes(shown: Sequence[Shown], stream: str) -> torch.Tensor:
    """Views of one size, float32[V, 3, H, W]."""
    views = np.stack([view for one in shown for view in one[stream]])
    return torch.from_numpy(views.transpose(0, 3, 1, 2)).contiguous()


def square_inputs(shown: Sequence[Shown], media: Any) -> Tensors:
    """Tiles, or padded squares, as their processors give them."""
    return {"pixel_values": as_planes(shown, VISION)}


def two_squares_inputs(shown: Sequence[Shown], media: Any) -> Tensors:
    """The small square of each picture, and the large one."""
    return {"pixel_values": as_planes(shown, VISION), "high_res_pixel_values": as_planes(shown, HIGH)}


@dataclass(frozen=True)
class System:
    """What differs between systems. inputs: decoded views of each picture to what their class takes.

    picture: the style of pictures where it is not called as the system is. template: of prompts.
    """

    model: Callable[[Size], ModelConfig]
    inputs: Callable[[Sequence[Shown], Any], Tensors]
    picture: str = ""
    template: str = "chatml"


SYSTEMS: Mapping[str, System] = {
    "qwen2_vl": System(qwen2_vl_model, qwen2_vl_inputs),
    "internvl": System(internvl_model, square_inputs),
    "deepseek_vl": System(deepseek_vl_model, square_inputs, template="deepseek"),
    "deepseek_vl_hybrid": System(deepseek_vl_hybrid_model, two_squares_inputs, "deepseek_vl", "deepseek"),
}
