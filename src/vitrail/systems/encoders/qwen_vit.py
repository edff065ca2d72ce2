"""The vision towers of Qwen2-VL and Qwen2.5-VL and the merger behind them, as their checkpoints name them.

    picture of any shape, or pairs of frames -> linear stem -> blocks with rotary positions -> merger: norm, two layers

Each pair of frames is a view of its own. Qwen2.5-VL's blocks attend within windows, but for a few that see the view.
Sources: transformers 5.23, `models/qwen2_vl`, `models/qwen2_5_vl`; arXiv 2409.12191, 2502.13923.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vitrail.media.config import NativeResolutionConfig
from vitrail.media.native import MAX_ASPECT
from vitrail.models.backbones.checks import theta_of
from vitrail.models.config import MLPProjectorConfig, VisionTransformerConfig
from vitrail.systems import composite
from vitrail.systems.system import Json, KeyMap, before, by_name, refused, shaped

# What transformers' classes fill in where the file says nothing.
VISION_2: dict[str, Any] = {
    "depth": 32,
    "embed_dim": 1280,
    "mlp_ratio": 4,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "in_channels": 3,
    "hidden_act": "quick_gelu",
}
VISION_2_5: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 3584,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "in_channels": 3,
    "hidden_act": "silu",
    "window_size": 112,
    "fullatt_block_indexes": (7, 15, 23, 31),
    "tokens_per_second": 4,
}
IMAGES: dict[str, Any] = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
}
OF_TOWER = {
    "patch_size": "patch_size",
    "merge_size": "spatial_merge_size",
    "temporal_patch_size": "temporal_patch_size",
}
"""The image processor's name of a setting -> the tower's."""
EPS = 1e-6
"""Of all norms, fixed in the official code."""
STRUCTURE: dict[str, Any] = {
    "rope": "shared",
    "norm_eps": EPS,
    "stem_norm": "none",
    "qkv_bias": True,
    "bias": True,
}
"""What is the same in both."""

TOWER = "visual."
OUTSIDE = {
    "projector.norm": "merger.ln_q",
    "projector.first": "merger.mlp.0",
    "projector.second": "merger.mlp.2",
}
IN_BLOCK: dict[str, str | tuple[str, ...]] = {
    "attention_norm": "norm1",
    "query_key_value": "attn.qkv",
    "attention_out": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.up": "mlp.fc1",
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
}
DOWN = {"plain": "mlp.fc2", "gated": "mlp.down_proj"}


def encoder_2(vision: Json) -> VisionTransformerConfig:
    """Qwen2-VL's encoder in our words: LayerNorm, plain MLP, attention within each picture or pair of frames."""
    return VisionTransformerConfig(
        **STRUCTURE,
        width=vision["embed_dim"],
        depth=vision["depth"],
        heads=vision["num_heads"],
        mlp_width=int(vision["embed_dim"] * vision["mlp_ratio"]),
        activation=vision["hidden_act"],
        rope_theta=_theta(vision),
        norm="layer",
        mlp="plain",
        frames=vision["temporal_patch_size"],
    )


def encoder_2_5(vision: Json) -> VisionTransformerConfig:
    """Qwen2.5-VL's encoder in our words: RMSNorm, gated MLP, windows of so many pixels a side."""
    merge, patch = vision["spatial_merge_size"], vision["patch_size"]
    return VisionTransformerConfig(
        **STRUCTURE,
        width=vision["hidden_size"],
        depth=vision["depth"],
        heads=vision["num_heads"],
        mlp_width=vision["intermediate_size"],
        activation=vision["hidden_act"],
        rope_theta=_theta(vision),
        norm="rms",
        mlp="gated",
        frames=vision["temporal_patch_size"],
        window=vision["window_size"] // merge // patch * merge,
        full_blocks=tuple(vision["fullatt_block_indexes"]),
    )


def _theta(vision: Json) -> float:
    return theta_of(vision) or 10_000.0


def merger(encoder: VisionTransformerConfig, merge: int) -> MLPProjectorConfig:
    """The merger in our words: each patch is normed, merge x merge of them go through two layers."""
    return MLPProjectorConfig(hidden=encoder.width * merge**2, norm=encoder.norm, norm_eps=EPS)


def unknown(vision: Json) -> list[str]:
    """Settings of the tower that ours does not have, each in a few words."""
    acts = ("quick_gelu", "gelu", "silu")
    channels = vision.get("in_chans", vision["in_channels"])
    rope = (vision.get("rope_parameters") or {}).get("rope_type", "default")
    return refused(
        [
            ("vision_config.hidden_act", vision["hidden_act"], acts),
            ("vision_config.in_channels", channels, (3,)),
            ("vision_config.rope_parameters.rope_type", rope, ("default", "axial")),
        ]
    )


def limits(images: Json) -> tuple[Any, Any]:
    """Least and most pixels of a picture: `min_pixels` and `max_pixels`, each before what `size` says of it.

    Source: transformers 5.23, `Qwen2VLImageProcessor.__init__`.
    """
    size = IMAGES["size"] if images.get("size") is None else images["size"]
    size = size if isinstance(size, Mapping) else {}
    least, most = images.get("min_pixels"), images.get("max_pixels")
    return (
        size.get("shortest_edge") if least is None else least,
        size.get("longest_edge") if most is None else most,
    )


def unknown_images(images: Json, vision: Json) -> list[str]:
    """Settings of the image processor that this rule does not have, or that the tower contradicts, in a few words."""
    least, most = limits(images)
    found = refused(
        [
            (f"image processor's {name}", images[name], (vision[of_tower],))
            for name, of_tower in OF_TOWER.items()
            if images.get(name) is not None
        ]
    )
    if not isinstance(least, int) or not isinstance(most, int) or not 0 < least <= most:
        found.append(
            f"image processor's size is {images.get('size')!r} with min_pixels {images.get('min_pixels')} and "
            f"max_pixels {images.get('max_pixels')}, supported: shortest_edge and longest_edge, the first not more"
        )
    return found


def media_of(images: Json, patch: int, merge: int) -> NativeResolutionConfig:
    """The smart resize, with its limits in tokens; to the pixel where tokens are not the same."""
    least, most = limits(images)
    token = (patch * merge) ** 2
    fewest, largest = max(1, math.ceil(least / token)), max(1, most // token)
    # Where limits are whole tokens and far enough apart, no picture exceeds them, and ours is the same rule.
    whole = least % token == most % token == 0 and MAX_ASPECT <= largest >= 4 * fewest
    return NativeResolutionConfig(
        patch=patch,
        merge=merge,
        min_tokens=min(fewest, largest),
        max_tokens=largest,
        min_pixels=None if whole else least,
        max_pixels=None if whole else most,
        mean=composite.colours(images["image_mean"]),
        std=composite.colours(images["image_std"]),
    )


def key_map(name: str, encoder: VisionTransformerConfig, patch: int) -> KeyMap:
    """Where a tensor of encoder or projector is kept."""
    module, _, kind = name.rpartition(".")
    if module == "encoder.stem":
        return shaped(f"{TOWER}patch_embed.proj.{kind}", (3, encoder.frames, patch, patch))
    inside = {**IN_BLOCK, "mlp.down": DOWN[encoder.mlp]}
    return before(TOWER, by_name(name.removeprefix("encoder."), OUTSIDE, "blocks", inside))
