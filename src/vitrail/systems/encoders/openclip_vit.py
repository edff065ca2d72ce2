"""OpenCLIP's ViT-bigG as Qwen-VL names its tensors: queries, keys and values lie head by head.

Source: QwenLM/Qwen-VL, `visual.py`.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from vitrail.systems.system import KeyMap, by_name, shaped

OUTSIDE = {
    "position_table": "positional_embedding",
    "stem_norm.weight": "ln_pre.weight",
    "stem_norm.bias": "ln_pre.bias",
}
IN_BLOCK = {
    "attention_norm": "ln_1",
    "query_key_value": "attn.in_proj",
    "attention_out": "attn.out_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}


def key_map(name: str, patch: int, heads: int) -> KeyMap:
    """Where a tensor of the encoder is kept, without the prefix of the system (`transformer.visual.`)."""
    inside = name.removeprefix("encoder.")
    if inside == "stem.weight":
        return shaped("conv1.weight", (3, patch, patch))
    kept = by_name(inside, OUTSIDE, "transformer.resblocks", IN_BLOCK)
    if ".query_key_value." not in inside:
        return kept
    ours, theirs = partial(_swapped, first=heads, second=3), partial(_swapped, first=3, second=heads)
    return KeyMap(kept.names, lambda tensors: ours(tensors[0]), lambda tensor: [theirs(tensor)])


def _swapped(tensor: Tensor, first: int, second: int) -> Tensor:
    """Rows that lie in `first` groups of `second`, in `second` groups of `first`."""
    swapped: Tensor = tensor.unflatten(0, (first, second, -1)).transpose(0, 1).flatten(0, 2)
    return swapped
