"""The layout of SigLIP's vision tower: transformers' `SiglipVisionModel`, with its pooling head or without.

    square picture -> linear stem, learnt positions -> blocks -> LayerNorm -> pooled: a learnt query attends, an MLP

A folder of the whole SigLIP is read too, its text tower passed over. Files are written under the names of the hub.
Source: transformers 5.23, `models/siglip`; arXiv 2303.15343.
"""

from __future__ import annotations

from typing import Any

from vitrail.media.config import TilesConfig
from vitrail.models.config import EncoderConfig, VisionTransformerConfig
from vitrail.systems.encoders.clip import ACTIVATIONS, OTHERS, TOWER, in_tower, sizes, vision_settings
from vitrail.systems.encoders.clip import VISION as CLIP_VISION
from vitrail.systems.system import (
    EncoderSpec,
    Json,
    KeyMap,
    Official,
    before,
    differences,
    kind_of,
    square,
    within,
)

LAYOUT = "SiglipVisionModel"

# What transformers' class fills in where the file says nothing.
VISION: dict[str, Any] = {
    **CLIP_VISION,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
STRUCTURE: dict[str, Any] = {"stem_bias": True, "stem_norm": "none", "final_norm": True}
"""What is the same in every SigLIP, beside what it shares with CLIP."""
FREE = (
    *("width", "depth", "heads", "mlp_width", "activation", "norm_eps", "position_table", "pooling"),
    "rope_theta",
)
"""What the layout says of an encoder, and what is without effect."""
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
    media = TilesConfig(patch=patch, merge=1, tile=side, max_tiles=1, thumbnail=False, mean=MEAN, std=STD)
    return EncoderSpec(encoder_of(vision, LAYOUT), media)


def encoder_of(vision: Json, layout: str) -> VisionTransformerConfig:
    """The encoder in our words. vision: its settings in transformers' words, none left out."""
    side = square(vision["image_size"], layout) // square(vision["patch_size"], layout)
    headed = vision.get("vision_use_head", True)
    return VisionTransformerConfig(
        **sizes(vision), **STRUCTURE, position_table=(side, side), pooling="attention" if headed else "none"
    )


def written(encoder: VisionTransformerConfig, patch: int) -> dict[str, Any]:
    """The encoder in transformers' words. patch: px."""
    assert encoder.position_table is not None, "obstacles come first"
    names = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    return {
        "attention_dropout": 0.0,
        "hidden_act": names[encoder.activation],
        "hidden_size": encoder.width,
        "image_size": encoder.position_table[0] * patch,
        "intermediate_size": encoder.mlp_width,
        "layer_norm_eps": encoder.norm_eps,
        "model_type": "siglip_vision_model",
        "num_attention_heads": encoder.heads,
        "num_channels": 3,
        "num_hidden_layers": encoder.depth,
        "patch_size": patch,
        "vision_use_head": encoder.pooling == "attention",
    }


def obstacles(encoder: EncoderConfig | None, where: str) -> list[str]:
    """Why an encoder of ours is no SigLIP, each in a few words. where: it stands in the recipe."""
    if not isinstance(encoder, VisionTransformerConfig):
        return [f"{where} is {kind_of(encoder)}, the layout has vision_transformer"]
    layout = VisionTransformerConfig(**sizes(VISION), **STRUCTURE, position_table=(1, 1))
    found = differences(encoder, layout, FREE, where)
    if encoder.activation not in ACTIVATIONS.values():
        found.append(f"{where}.activation is {encoder.activation}, the layout has {', '.join(ACTIVATIONS.values())}")
    if encoder.pooling == "class":
        found.append(f"{where}.pooling is class, the layout has attention and none")
    return found


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
