"""The layout of CLIP's vision tower: transformers' `CLIPVisionModel`, with its projection or without.

    square picture -> linear stem, class token, learnt positions, LayerNorm -> blocks -> pooled: the class token, normed

A folder of the whole CLIP is read too, its text tower passed over. Files are written under the names of the hub.
Source: transformers 5.23, `models/clip`; arXiv 2103.00020. Llava's features are those of the block before the last.
"""

from __future__ import annotations

from typing import Any

from vitrail.contracts.errors import WeightsError
from vitrail.media.config import TilesConfig
from vitrail.models.config import VisionTransformerConfig
from vitrail.systems.system import (
    EncoderSpec,
    Json,
    KeyMap,
    Official,
    before,
    by_name,
    refused,
    same,
    shaped,
    square,
)

LAYOUT = "CLIPVisionModelWithProjection"

# What transformers' class fills in where the file says nothing.
VISION: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "attention_dropout": 0.0,
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
ACTIVATIONS: dict[str, Any] = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}
PROJECTION = "visual_projection.weight"
TOWER = "vision_model."
OTHERS = ("text_model.", "text_projection.", "logit_scale", "logit_bias")
"""Starts of the names in a whole CLIP or SigLIP that are not of its vision tower."""

OUTSIDE = {
    "class_token": "embeddings.class_embedding",
    "position_table": "embeddings.position_embedding.weight",
    "stem.bias": "embeddings.patch_embedding.bias",
    "stem_norm.weight": "pre_layrnorm.weight",
    "stem_norm.bias": "pre_layrnorm.bias",
    "pool.norm.weight": "post_layernorm.weight",
    "pool.norm.bias": "post_layernorm.bias",
}
IN_BLOCK = {
    "attention_norm": ("layer_norm1",),
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": ("self_attn.out_proj",),
    "mlp_norm": ("layer_norm2",),
    "mlp.up": ("mlp.fc1",),
    "mlp.down": ("mlp.fc2",),
}


def read(official: Official) -> EncoderSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    vision = vision_settings(official.config, VISION, LAYOUT)
    side, patch = square(vision["image_size"], LAYOUT), square(vision["patch_size"], LAYOUT)
    projection = official.tensors.get(PROJECTION)
    encoder = VisionTransformerConfig(
        **sizes(vision),
        position_table=(side // patch, side // patch),
        class_token="kept",
        stem_norm="embeddings",
        pooling="class",
        pooled_width=None if projection is None else len(projection),
    )
    media = TilesConfig(patch=patch, merge=1, tile=side, max_tiles=1, thumbnail=False, fit="crop", mean=MEAN, std=STD)
    return EncoderSpec(encoder, media)


def vision_settings(config: Json, defaults: Json, layout: str) -> Json:
    """Settings of the vision tower, of a folder of its own or of the whole. Raises WeightsError for unknown ones."""
    vision = {**defaults, **config.get("vision_config", config)}
    unknown = refused(
        [
            ("hidden_act", vision["hidden_act"], tuple(ACTIVATIONS)),
            ("num_channels", vision["num_channels"], (3,)),
            ("attention_dropout", vision["attention_dropout"], (0,)),
        ]
    )
    if unknown:
        raise WeightsError(f"this model of {layout} has settings that are not supported: {'; '.join(unknown)}")
    return vision


def sizes(vision: Json) -> dict[str, Any]:
    """What CLIP's, SigLIP's and later towers of this kind say in the same words; biases everywhere but in the stem."""
    return {
        "width": vision["hidden_size"],
        "depth": vision["num_hidden_layers"],
        "heads": vision["num_attention_heads"],
        "mlp_width": vision["intermediate_size"],
        "activation": ACTIVATIONS[vision["hidden_act"]],
        "absolute": "learnt",
        "rope": "none",
        "norm": "layer",
        "norm_eps": vision["layer_norm_eps"],
        "mlp": "plain",
        "qkv_bias": True,
        "bias": True,
    }


def canonical(name: str) -> str | None:
    """The hub's name, with the tower's prefix, which transformers may leave out. None for the text tower."""
    if name.endswith("position_ids") or name.startswith(OTHERS):
        return None
    return name if name.startswith((TOWER, "visual_projection.")) else TOWER + name


def key_map(name: str, spec: EncoderSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    inside = name.removeprefix("encoder.")
    if inside == "pool.projection.weight":
        return same(PROJECTION)
    return before(TOWER, in_tower(inside, OUTSIDE, spec.patch))


def in_tower(name: str, outside: dict[str, str], patch: int) -> KeyMap:
    """Where a tensor of the encoder is kept, in names without the tower's prefix. outside: those beside the blocks."""
    if name == "stem.weight":
        return shaped("embeddings.patch_embedding.weight", (3, patch, patch))
    return by_name(name, outside, "encoder.layers", IN_BLOCK)
