"""The layout of SAM's image encoder: transformers' `SamVisionModel`, and the settings of that class.

    square picture -> linear stem, learnt positions -> blocks, most of them within windows -> neck

A folder of the whole SAM is read too, what makes masks passed over. SAM itself resizes a picture's longer side to
1,024 px and fills up at the right and at the bottom with zeros; our rule fills around it, as DeepSeek-VL does.
Source: transformers 5.23, `models/sam`; arXiv 2304.02643.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.contracts.errors import WeightsError
from vitrail.media.config import PaddedConfig
from vitrail.models.config import EncoderConfig, VisionTransformerConfig, WhisperEncoderConfig
from vitrail.systems.system import (
    EncoderSpec,
    Json,
    KeyMap,
    Official,
    before,
    by_name,
    differences,
    kind_of,
    refused,
    same,
    shaped,
    square,
)

LAYOUT = "SamVisionModel"

# What transformers' class fills in where the file says nothing.
VISION: dict[str, Any] = {
    "hidden_size": 768,
    "output_channels": 256,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 1024,
    "patch_size": 16,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "attention_dropout": 0.0,
    "qkv_bias": True,
    "mlp_ratio": 4.0,
    "mlp_dim": None,
    "use_abs_pos": True,
    "use_rel_pos": True,
    "window_size": 14,
    "global_attn_indexes": (2, 5, 8, 11),
}
NECK_EPS = 1e-6
"""Fixed in transformers' class, whatever the blocks' norms have."""
STRUCTURE: dict[str, Any] = {
    "absolute": "learnt",
    "rope": "none",
    "norm": "layer",
    "norm_eps": NECK_EPS,
    "stem_norm": "none",
    "mlp": "plain",
    "activation": "gelu",
    "relative": True,
    "stem_bias": True,
    "qkv_bias": True,
    "bias": True,
}
"""What is the same in every SAM."""
FREE = (
    *("width", "depth", "heads", "mlp_width", "position_table", "window", "full_blocks", "neck", "early"),
    "rope_theta",
)
"""What the layouts say of one, and what is without effect."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOWER = "vision_encoder."
OTHERS = ("prompt_encoder.", "mask_decoder.", "shared_image_embedding.")
"""Starts of the names in a whole SAM that are not of its encoder."""

NECK = {"reduce.weight": "conv1.weight", "first_norm": "layer_norm1", "mix": "conv2", "second_norm": "layer_norm2"}
"""Our names within a neck, of tensors and modules, to transformers'."""
OUTSIDE = {"stem.bias": "patch_embed.projection.bias"}
IN_BLOCK = {
    "attention_norm": "layer_norm1",
    "query_key_value": "attn.qkv",
    "attention_out": "attn.proj",
    "relative.rows": "attn.rel_pos_h",
    "relative.columns": "attn.rel_pos_w",
    "mlp_norm": "layer_norm2",
    "mlp.up": "mlp.lin1",
    "mlp.down": "mlp.lin2",
}


def read(official: Official) -> EncoderSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    vision = {**VISION, **official.config.get("vision_config", official.config)}
    unknown = unknown_settings(vision, "")
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    encoder = encoder_of(vision, LAYOUT)
    media = PaddedConfig(
        patch=square(vision["patch_size"], LAYOUT), side=square(vision["image_size"], LAYOUT), mean=MEAN, std=STD
    )
    return EncoderSpec(encoder, media)


def unknown_settings(vision: Json, where: str) -> list[str]:
    """Settings that ours does not have, each in a few words. where: before their names."""
    allowed = {
        "hidden_act": ("gelu",),
        "num_channels": (3,),
        "layer_norm_eps": (NECK_EPS,),
        "attention_dropout": (0,),
        "qkv_bias": (True,),
        "use_abs_pos": (True,),
        "use_rel_pos": (True,),
    }
    return refused([(f"{where}{name}", vision[name], values) for name, values in allowed.items()])


def encoder_of(vision: Json, layout: str) -> VisionTransformerConfig:
    """The encoder in our words. vision: its settings in transformers' words, none left out."""
    side = square(vision["image_size"], layout) // square(vision["patch_size"], layout)
    return VisionTransformerConfig(
        **STRUCTURE,
        width=vision["hidden_size"],
        depth=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        mlp_width=vision["mlp_dim"] or int(vision["mlp_ratio"] * vision["hidden_size"]),
        position_table=(side, side),
        window=vision["window_size"] or None,
        full_blocks=tuple(vision["global_attn_indexes"]),
        neck=vision["output_channels"],
    )


def written(encoder: VisionTransformerConfig, patch: int) -> dict[str, Any]:
    """The encoder in transformers' words. patch: px."""
    assert encoder.position_table is not None, "obstacles come first"
    return {
        **VISION,
        "global_attn_indexes": list(encoder.full_blocks),
        "hidden_size": encoder.width,
        "image_size": encoder.position_table[0] * patch,
        "mlp_dim": encoder.mlp_width,
        "model_type": "sam_vision_model",
        "num_attention_heads": encoder.heads,
        "num_hidden_layers": encoder.depth,
        "output_channels": encoder.neck,
        "patch_size": patch,
        "window_size": encoder.window or 0,
    }


def obstacles(encoder: EncoderConfig | None, where: str) -> list[str]:
    """Why an encoder of ours is no SAM with a neck, each in a few words. where: it stands in the recipe."""
    if not isinstance(encoder, VisionTransformerConfig):
        return [f"{where} is {kind_of(encoder)}, the layout has vision_transformer"]
    found = differences(encoder, VisionTransformerConfig(**STRUCTURE, position_table=(1, 1)), FREE, where)
    if encoder.neck is None:
        found.append(f"{where}.neck is None, the layout has one")
    return found


def canonical(name: str) -> str | None:
    """The hub's name. None for what makes masks."""
    return None if name.startswith(OTHERS) else name


def key_map(name: str, spec: EncoderSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    return before(TOWER, in_tower(name.removeprefix("encoder."), spec))


def in_tower(name: str, spec: EncoderSpec) -> KeyMap:
    """Where a tensor of the encoder is kept, without the tower's prefix. name: without `encoder.`."""
    match name:
        case "position_table":
            return grid("pos_embed", spec.encoder)
        case "stem.weight":
            return shaped("patch_embed.projection.weight", (3, spec.patch, spec.patch))
    if name.startswith("neck."):
        return before("neck.", in_neck(name.removeprefix("neck."), NECK))
    return by_name(name, OUTSIDE, "layers", IN_BLOCK)


def in_neck(name: str, names: Mapping[str, str]) -> KeyMap:
    """Where a tensor of a neck is kept in it; the linear layer is a convolution of 1 x 1 there."""
    if name in names:
        return KeyMap((names[name],), lambda found: found[0][..., 0, 0], lambda tensor: [tensor[..., None, None]])
    module, _, kind = name.rpartition(".")
    return same(f"{names[module]}.{kind}")


def grid(name: str, encoder: VisionTransformerConfig | WhisperEncoderConfig) -> KeyMap:
    """The table of positions, kept with axes of rows and of columns."""
    assert isinstance(encoder, VisionTransformerConfig), "SAM is a vision transformer"
    assert encoder.position_table, "SAM has a table of positions"
    rows = encoder.position_table[0]
    return KeyMap(
        (name,), lambda found: found[0][0].flatten(0, 1), lambda tensor: [tensor.unflatten(0, (rows, -1))[None]]
    )
