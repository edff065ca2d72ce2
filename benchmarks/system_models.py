"""The models of benchmarks/systems.py: their sizes, and what transformers' class of each takes for pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.media.config import NativeResolutionConfig, TilesConfig
from vitrail.media.native import patchify_frames
from vitrail.models.config import DecoderConfig, ModelConfig, VisionTransformerConfig
from vitrail.prompts.config import MRopePositionsConfig
from vitrail.systems import internvl
from vitrail.systems.encoders import intern_vit, qwen_vit

SMALLEST, LARGEST = 112, 448
"""Sides of pictures, px."""


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


def language(size: Size) -> DecoderConfig:
    """Qwen2's language model, embeddings tied, a key for every five queries (or two)."""
    config = {
        "model_type": "qwen2",
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


Tensors = dict[str, torch.Tensor]


def qwen2_vl_inputs(views: Sequence[tuple[NDArray[np.float32], ...]], media: Any) -> Tensors:
    """Pictures as its processor gives them: every patch holds two equal frames."""
    frames = [np.stack([pixels, pixels]) for (pixels,) in views]
    patches = [patchify_frames(pair, media.patch, media.merge, 2)[0] for pair in frames]
    grid = [(1, pair.shape[1] // media.patch, pair.shape[2] // media.patch) for pair in frames]
    return {"pixel_values": torch.from_numpy(np.concatenate(patches)), "image_grid_thw": torch.tensor(grid)}


def internvl_inputs(views: Sequence[tuple[NDArray[np.float32], ...]], media: Any) -> Tensors:
    """Tiles as its processor gives them."""
    tiles = np.stack([tile for picture in views for tile in picture])
    return {"pixel_values": torch.from_numpy(tiles.transpose(0, 3, 1, 2)).contiguous()}


@dataclass(frozen=True)
class System:
    """What differs between systems. inputs: decoded views of each picture to what their class takes."""

    model: Callable[[Size], ModelConfig]
    inputs: Callable[[Sequence[tuple[NDArray[np.float32], ...]], Any], Tensors]


SYSTEMS: Mapping[str, System] = {
    "qwen2_vl": System(qwen2_vl_model, qwen2_vl_inputs),
    "internvl": System(internvl_model, internvl_inputs),
}
