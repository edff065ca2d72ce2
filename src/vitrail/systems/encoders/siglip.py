"""The layout of SigLIP's vision tower: transformers' `SiglipVisionModel`, with its pooling head or without.

    square picture -> linear stem, learnt positions -> blocks -> LayerNorm -> pooled: a learnt query attends, an MLP

A folder of the whole SigLIP is read too, its text tower passed over. Files are written under the names of the hub.
Source: transformers 5.23, `models/siglip`; arXiv 2303.15343.
"""

from __future__ import annotations

from typing import Any

from vitrail.media.config import TilesConfig
from vitrail.models.config import VisionTransformerConfig
from vitrail.systems.encoders.clip import OTHERS, TOWER, in_tower, sizes, vision_settings
from vitrail.systems.encoders.clip import VISION as CLIP_VISION
from vitrail.systems.system import EncoderSpec, KeyMap, Official, before, square, within

LAYOUT = "SiglipVisionModel"

# What transformers' class fills in where the file says nothing.
VISION: dict[str, Any] = {
    **CLIP_VISION,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
MEAN = STD = (0.5, 0.5, 0.5)
OUTSIDE = {
    "position_table": "embeddings.position_embedding.weight",
    "stem.bias": "embeddings.patch_embedding.bias",
    "final_norm.weight": "post_layernorm.weight",
    "final_norm.bias": "post_layernorm.bias",
    "pool.query_key_value.weight": "head.attention.in_proj_weight",
    "pool.query_key_value.bias": "head.attention.in_proj_bias",
    "pool.attention_out.weight": "head.attention.out_proj.weight",
    "pool.attention_out.bias": "head.attention.out_proj.bias",
    "pool.norm.weight": "head.layernorm.weight",
    "pool.norm.bias": "head.layernorm.bias",
    "pool.mlp.up.weight": "head.mlp.fc1.weight",
    "pool.mlp.up.bias": "head.mlp.fc1.bias",
    "pool.mlp.down.weight": "head.mlp.fc2.weight",
    "pool.mlp.down.bias": "head.mlp.fc2.bias",
}


def read(official: Official) -> EncoderSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    vision = vision_settings(official.config, VISION, LAYOUT)
    side, patch = square(vision["image_size"], LAYOUT), square(vision["patch_size"], LAYOUT)
    headed = vision.get("vision_use_head", True)
    encoder = VisionTransformerConfig(
        **sizes(vision),
        position_table=(side // patch, side // patch),
        stem_bias=True,
        stem_norm="none",
        final_norm=True,
        pooling="attention" if headed else "none",
    )
    media = TilesConfig(patch=patch, merge=1, tile=side, max_tiles=1, thumbnail=False, mean=MEAN, std=STD)
    return EncoderSpec(encoder, media)


def canonical(name: str) -> str | None:
    """The hub's name, with the tower's prefix, which transformers leaves out. None for the text tower, and counters."""
    if name.endswith("position_ids") or name.startswith(OTHERS):
        return None
    return name if name.startswith(TOWER) else TOWER + name


def key_map(name: str, spec: EncoderSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    inside = name.removeprefix("encoder.")
    if inside == "pool.query":
        return before(TOWER, within("head.probe", 2))
    return before(TOWER, in_tower(inside, OUTSIDE, spec.patch))
