"""MoonViT as Kimi-VL names its tensors. Its rotary positions rotate neighbouring channels, columns before rows.

With queries' and keys' channels in another order they are ours: the same numbers meet the same angles.
Source: moonshotai/Kimi-VL, `modeling_kimi_vl.py`; vLLM, `moonvit.py`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vitrail.systems.system import KeyMap, by_name, shaped

OUTSIDE = {
    "stem.bias": "patch_embed.proj.bias",
    "final_norm.weight": "encoder.final_layernorm.weight",
    "final_norm.bias": "encoder.final_layernorm.bias",
}
IN_BLOCK = {
    "attention_norm": "norm0",
    "query_key_value": "wqkv",
    "attention_out": "wo",
    "mlp_norm": "norm1",
    "mlp.up": "mlp.fc0",
    "mlp.down": "mlp.fc1",
}


def key_map(name: str, patch: int, heads: int, table: tuple[int, int]) -> KeyMap:
    """Where a tensor of the encoder is kept, without the prefix of the system (`vision_tower.`)."""
    inside = name.removeprefix("encoder.")
    if inside == "stem.weight":
        return shaped("patch_embed.proj.weight", (3, patch, patch))
    if inside == "position_table":
        names = ("patch_embed.pos_emb.weight",)
        return KeyMap(names, lambda tensors: tensors[0].flatten(0, 1), lambda tensor: [tensor.unflatten(0, table)])
    kept = by_name(inside, OUTSIDE, "encoder.blocks", IN_BLOCK)
    if ".query_key_value." not in inside:
        return kept
    ours, theirs = partial(_reordered, heads=heads), partial(_reordered, heads=heads, back=True)
    return KeyMap(kept.names, lambda tensors: ours(tensors[0]), lambda tensor: [theirs(tensor)])


def _reordered(tensor: Tensor, heads: int, back: bool = False) -> Tensor:
    """Rows of queries and keys, within each head: (frequency, column or row, one of a pair) to (pair, row, frequency).

    Rows come before columns in ours. Values stay. back: the other way round.
    """
    apart = tensor.unflatten(0, (3, heads, -1))
    width = apart.shape[2]
    order = torch.arange(width, device=tensor.device).unflatten(0, (-1, 2, 2)).permute(2, 1, 0).flip(1).flatten()
    order = order.argsort() if back else order
    return torch.cat([apart[:2, :, order], apart[2:]]).flatten(0, 2)
