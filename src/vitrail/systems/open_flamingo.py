"""Names of OpenFlamingo's own parts: the Perceiver resampler, and the gated blocks between the layers of any decoder.

    CLIP -> Perceiver resampler -> gated cross-attention between the layers of a language model

Its checkpoints hold these parts alone, encoder and language model are taken from elsewhere; so they are no folders that
`vitrail.load` opens. Source: mlfoundations/open_flamingo, open_flamingo/src/helpers.py, flamingo_lm.py, factory.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitrail.models.config import GatedCrossAttentionConfig, PerceiverConfig
from vitrail.systems.system import KeyMap, by_name, in_block

PERCEIVER, BLOCKS = "perceiver", "lang_encoder.gated_cross_attn_layers"
OUTSIDE = {
    "projector.queries": f"{PERCEIVER}.latents",
    "projector.frame_table": f"{PERCEIVER}.frame_embs",
    "projector.out_norm": f"{PERCEIVER}.norm",
}
IN_RESAMPLER = {
    "feature_norm": "0.norm_media",
    "query_norm": "0.norm_latents",
    "query": "0.to_q",
    "key_value": "0.to_kv",
    "attention_out": "0.to_out",
    "mlp_norm": "1.0",
    "mlp.up": "1.1",
    "mlp.down": "1.3",
}
IN_BLOCK = {
    "attention_norm": "attn.norm",
    "query": "attn.to_q",
    "attention_out": "attn.to_out",
    "attention_gate": "attn_gate",
    "mlp_norm": "ff.0",
    "mlp.up": "ff.1",
    "mlp.down": "ff.3",
    "mlp_gate": "ff_gate",
}


def perceiver(**sizes: Any) -> PerceiverConfig:
    """The resampler, of these sizes; unless said otherwise those that were released, behind CLIP ViT-L/14."""
    return PerceiverConfig(**{"out_projection": False, **sizes})


def gated_blocks(**sizes: Any) -> GatedCrossAttentionConfig:
    """The blocks, of these sizes; unless said otherwise those that were released, every fourth layer."""
    structure: dict[str, Any] = {
        "sees": "last",
        "blind": "mlp",
        "norm": "layer",
        "norm_eps": 1e-5,
        "mlp": "plain",
        "activation": "gelu",
    }
    released = {"every": 4, "media_width": 1024, "heads": 8, "head_width": 64}
    return GatedCrossAttentionConfig(**{**structure, **released, **sizes})


def key_map(name: str, layers: Sequence[int]) -> KeyMap:
    """Where a tensor of projector or fusion is kept. layers: that the blocks stand before."""
    if name == "projector.media_table":
        official = f"{PERCEIVER}.media_time_embs"
        return KeyMap((official,), lambda tensors: tensors[0].squeeze(1), lambda tensor: [tensor.unsqueeze(1)])
    if not name.startswith("fusion."):
        inside = name.removeprefix("projector.") if name.startswith("projector.blocks.") else name
        return by_name(inside, OUTSIDE, f"{PERCEIVER}.layers", IN_RESAMPLER)
    number, part = in_block(name.removeprefix("fusion."))
    layer = layers[int(number)]
    halves = {"key.weight": 0, "value.weight": 1}
    if part in halves:
        which = halves[part]
        names = (f"{BLOCKS}.{layer}.attn.to_kv.weight",)
        return KeyMap(names, partial(_half, which=which), partial(_whole, which=which), shared=True)
    return by_name(f"blocks.{layer}.{part}", {}, BLOCKS, IN_BLOCK)


def _half(tensors: Sequence[Tensor], which: int) -> Tensor:
    return tensors[0].chunk(2)[which]


def _whole(tensor: Tensor, which: int) -> list[Tensor]:
    """Keys and values below each other, zeros where the others are."""
    halves = [torch.zeros_like(tensor), torch.zeros_like(tensor)]
    halves[which] = tensor
    return [torch.cat(halves)]
