"""DeepSeek-VL's two towers in the words of its own code: SigLIP as timm names its tensors, and SAM with a second neck.

The code has sizes in tables, by the name of the encoder; what no table says is fixed in it.
Source: deepseek-ai/DeepSeek-VL, `deepseek_vl/models/siglip_vit.py` and `sam.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitrail.media.config import PaddedConfig
from vitrail.models.config import DownsampleConfig, StreamConfig, VisionTransformerConfig
from vitrail.systems.encoders import eva_vit, sam, siglip
from vitrail.systems.system import Json, KeyMap, before, by_name, same, shaped, within

SIGLIP_TABLES: dict[str, dict[str, Any]] = {
    "siglip_large_patch16_384": {
        "image_size": 384,
        "patch_size": 16,
        "width": 1024,
        "layers": 24,
        "heads": 16,
        "mlp_ratio": 4,
        "global_pool": "map",
    }
}
SAM_TABLES: dict[str, dict[str, Any]] = {
    "sam_b_downsample": {
        "width": 768,
        "layers": 12,
        "heads": 12,
        "patch_size": 16,
        "global_attn_indexes": [2, 5, 8, 11],
        "prompt_embed_dim": 256,
        "downsample_channels": [512, 1024],
        "window_size": 14,
        "hd_interpolate_size": 96,
    }
}
"""Of the official code; it has patch, neck, window and interpolation outside its table."""
OWN = ("siglip_large_patch16_384", "sam_b_downsample")
"""Names under which the two are written."""
MLP_RATIO = 4
"""Of SAM's blocks, fixed in the official code."""
EPS = 1e-6
"""Of both encoders' norms, fixed there."""
POOL = "attn_pool."

SIGLIP_OUTSIDE = {
    "stem.bias": "patch_embed.proj.bias",
    "final_norm": "norm",
    "pool.attention_out": f"{POOL}proj",
    "pool.norm": f"{POOL}norm",
    "pool.mlp.up": f"{POOL}mlp.fc1",
    "pool.mlp.down": f"{POOL}mlp.fc2",
}
SAM_IN_BLOCK = {**sam.IN_BLOCK, "attention_norm": "norm1", "mlp_norm": "norm2"}
NECK = {"reduce.weight": "0.weight", "first_norm": "1", "mix": "2", "second_norm": "3"}

HIGH_PROJECTOR = {
    "halvings.0.weight": "downsamples.0.weight",
    "halvings.1.weight": "downsamples.1.weight",
    "early_gate": "hd_alpha_downsamples",
}


def siglip_of(table: Json, layout: str, *, pooled: bool) -> VisionTransformerConfig:
    """SigLIP in our words. pooled: whether an attention pool, which is never asked, comes along."""
    settings = {
        **siglip.VISION,
        "hidden_act": "gelu",
        "hidden_size": table["width"],
        "image_size": table["image_size"],
        "intermediate_size": int(table["width"] * table["mlp_ratio"]),
        "layer_norm_eps": EPS,
        "num_attention_heads": table["heads"],
        "num_hidden_layers": table["layers"],
        "patch_size": table["patch_size"],
        "vision_use_head": pooled,
    }
    return siglip.encoder_of(settings, layout)


def siglip_table(encoder: VisionTransformerConfig, patch: int) -> dict[str, Any]:
    """The inverse. patch: px."""
    assert encoder.position_table, "obstacles come first"
    ratio = encoder.mlp_width / encoder.width
    return {
        "image_size": encoder.position_table[0] * patch,
        "patch_size": patch,
        "width": encoder.width,
        "layers": encoder.depth,
        "heads": encoder.heads,
        "mlp_ratio": int(ratio) if ratio.is_integer() else ratio,
        "global_pool": "map" if encoder.pooling == "attention" else "",
    }


def high_of(table: Json, media: PaddedConfig, layout: str) -> StreamConfig:
    """The stream of the large pictures in our words: SAM with both necks, and what brings its grid to SigLIP's."""
    settings = {
        **sam.VISION,
        "global_attn_indexes": table["global_attn_indexes"],
        "hidden_size": table["width"],
        "image_size": media.side,
        "mlp_dim": MLP_RATIO * table["width"],
        "num_attention_heads": table["heads"],
        "num_hidden_layers": table["layers"],
        "output_channels": table["prompt_embed_dim"],
        "patch_size": table["patch_size"],
        "window_size": table["window_size"],
    }
    (first, second), grid = table["downsample_channels"], table["hd_interpolate_size"] // 4
    encoder = replace(sam.encoder_of(settings, layout), early=True)
    return StreamConfig(
        media, encoder, DownsampleConfig(grid=(grid, grid), channels=(first, second), early=encoder.neck)
    )


def sam_table(high: StreamConfig) -> dict[str, Any]:
    """The inverse."""
    encoder, media, projector = high.encoder, high.media, high.projector
    assert isinstance(encoder, VisionTransformerConfig), "obstacles come first"
    assert isinstance(media, PaddedConfig), "obstacles come first"
    assert isinstance(projector, DownsampleConfig), "obstacles come first"
    return {
        "width": encoder.width,
        "layers": encoder.depth,
        "heads": encoder.heads,
        "patch_size": media.patch,
        "global_attn_indexes": list(encoder.full_blocks),
        "prompt_embed_dim": encoder.neck,
        "downsample_channels": list(projector.channels),
        "window_size": encoder.window or 0,
        "hd_interpolate_size": 4 * projector.grid[0],
    }


def in_siglip(name: str, patch: int) -> KeyMap:
    """Where a tensor of SigLIP is kept, without the tower's prefix. name: without `encoder.`."""
    match name:
        case "position_table":
            return within("pos_embed", 1)
        case "stem.weight":
            return shaped("patch_embed.proj.weight", (3, patch, patch))
        case "pool.query":
            return within(f"{POOL}latent", 2)
    if name.startswith("pool.query_key_value."):
        ending = name.rpartition(".")[2]
        return KeyMap((f"{POOL}q.{ending}", f"{POOL}kv.{ending}"), lambda found: torch.cat(list(found)), _query_apart)
    return by_name(name, SIGLIP_OUTSIDE, "blocks", eva_vit.IN_BLOCK)


def _query_apart(tensor: Tensor) -> list[Tensor]:
    """Queries, and keys with values."""
    third = len(tensor) // 3
    return [tensor[:third], tensor[third:]]


def in_sam(name: str, high: StreamConfig) -> KeyMap:
    """The same of SAM."""
    assert isinstance(high.encoder, VisionTransformerConfig), "obstacles come first"
    assert isinstance(high.media, PaddedConfig), "obstacles come first"
    match name:
        case "position_table":
            return sam.grid("pos_embed", high.encoder)
        case "stem.weight":
            return shaped("patch_embed.proj.weight", (3, high.media.patch, high.media.patch))
        case "stem.bias":
            return same("patch_embed.proj.bias")
    if name.startswith("neck."):
        return before("neck.", sam.in_neck(name.removeprefix("neck."), NECK))
    return by_name(name, {}, "blocks", SAM_IN_BLOCK)


def in_high_projector(name: str) -> KeyMap:
    """The same of what brings SAM's grid to SigLIP's, which is kept in the tower. name: without its component."""
    if name.startswith("early_neck."):
        return before("neck_hd.", sam.in_neck(name.removeprefix("early_neck."), NECK))
    return same(HIGH_PROJECTOR[name])
