"""The layout of Qwen2.5-VL: `Qwen2_5_VLForConditionalGeneration`.

Qwen2-VL's, but for an encoder that attends within windows, and times of a video that are measured in seconds.
Source: transformers 5.23, `models/qwen2_5_vl`; arXiv 2502.13923.
"""

from __future__ import annotations

from dataclasses import replace

from vitrail.contracts.protocols import Tokenizer
from vitrail.models.config import VisionTransformerConfig
from vitrail.systems import qwen2_vl, qwen_vit
from vitrail.systems.system import Described, Json, Official

LAYOUT = "Qwen2_5_VLForConditionalGeneration"

SPEED = "tokens_per_second"
"""Among a backbone's settings: how far the positions of a video's times are apart; our place for it."""
FREE = (*qwen2_vl.SIZES, "window", "full_blocks")
"""What the layout says of an encoder."""


def read(official: Official) -> Described:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    vision = {**qwen_vit.VISION_2_5, **official.config.get("vision_config", {})}
    described = qwen2_vl.described_by(official, LAYOUT, vision, qwen_vit.encoder_2_5(vision))
    backbone = {**described.backbone, SPEED: vision[SPEED]}
    model = replace(described.model, backbone=replace(described.model.backbone, config=backbone))
    return replace(described, model=model, backbone=backbone)


def obstacles(described: Described) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    found = qwen2_vl.obstacles_to(described, qwen_vit.encoder_2_5(qwen_vit.VISION_2_5), FREE)
    encoder = described.model.encoder
    if isinstance(encoder, VisionTransformerConfig) and not encoder.window:
        found.append("model.encoder.window is null, the layout has one")
    return found


def write(described: Described, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    encoder = described.model.encoder
    assert isinstance(encoder, VisionTransformerConfig), obstacles(described)
    assert encoder.window is not None, obstacles(described)
    vision = {
        "fullatt_block_indexes": list(encoder.full_blocks),
        "hidden_size": encoder.width,
        "intermediate_size": encoder.mlp_width,
        "out_hidden_size": described.backbone["hidden_size"],
        SPEED: described.backbone.get(SPEED, qwen_vit.VISION_2_5[SPEED]),
        "window_size": encoder.window * described.model.media.patch,
    }
    language = {key: value for key, value in described.backbone.items() if key != SPEED}
    names = (LAYOUT, "qwen2_5_vl")
    return qwen2_vl.written(replace(described, backbone=language), tokenizer, dtype, names, vision)


canonical = qwen2_vl.canonical
place = qwen2_vl.place
