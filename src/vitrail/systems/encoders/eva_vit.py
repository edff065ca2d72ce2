"""EVA-CLIP's ViT-g as BLIP-2 and MiniGPT-4 name its tensors. Queries and values have biases, keys none: zeros here.

Source: salesforce/LAVIS, `eva_vit.py`; Vision-CAIR/MiniGPT-4, `models/eva_vit.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitrail.systems.system import KeyMap, by_name, in_block, shaped, within

OUTSIDE = {"stem.bias": "patch_embed.proj.bias"}
IN_BLOCK = {
    "attention_norm": "norm1",
    "query_key_value": "attn.qkv",
    "attention_out": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}


def key_map(name: str, patch: int) -> KeyMap:
    """Where a tensor of the encoder is kept, without the prefix of the system (`visual_encoder.`)."""
    inside = name.removeprefix("encoder.")
    match inside:
        case "class_token":
            return within("cls_token", 2)
        case "position_table":
            return within("pos_embed", 1)
        case "stem.weight":
            return shaped("patch_embed.proj.weight", (3, patch, patch))
    if inside.endswith(".query_key_value.bias"):
        attention = f"blocks.{in_block(inside)[0]}.attn"
        return KeyMap((f"{attention}.q_bias", f"{attention}.v_bias"), _with_zeros, _without_keys)
    return by_name(inside, OUTSIDE, "blocks", IN_BLOCK)


def _with_zeros(tensors: Sequence[Tensor]) -> Tensor:
    query, value = tensors
    return torch.cat([query, torch.zeros_like(query), value])


def _without_keys(tensor: Tensor) -> list[Tensor]:
    """A bias of keys adds the same to all that a query compares: it changes nothing, and is left out."""
    query, _, value = tensor.chunk(3)
    return [query, value]
