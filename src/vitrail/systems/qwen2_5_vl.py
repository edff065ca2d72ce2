"""The layout of Qwen2.5-VL: `Qwen2_5_VLForConditionalGeneration`.

Qwen2-VL's, but for an encoder that attends within windows, and times of a video that are measured in seconds.
Source: transformers 5.23, `models/qwen2_5_vl`; arXiv 2502.13923.
"""

from __future__ import annotations

from vitrail.contracts.protocols import Tokenizer
from vitrail.models.config import VisionTransformerConfig
from vitrail.prompts.config import MRopePositionsConfig
from vitrail.systems import qwen2_vl
from vitrail.systems.encoders import qwen_vit
from vitrail.systems.system import Json, ModelSpec, Official

LAYOUT = "Qwen2_5_VLForConditionalGeneration"

FREE = (*qwen2_vl.SIZES, "window", "full_blocks")
"""What the layout says of an encoder."""


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    vision = {**qwen_vit.VISION_2_5, **official.config.get("vision_config", {})}
    return qwen2_vl.spec_of(official, LAYOUT, vision, qwen_vit.encoder_2_5(vision))


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    found = qwen2_vl.obstacles_to(spec, qwen_vit.encoder_2_5(qwen_vit.VISION_2_5), FREE)
    encoder, positions = spec.model.encoder, spec.model.positions
    if isinstance(encoder, VisionTransformerConfig) and not encoder.window:
        found.append("model.encoder.window is null, the layout has one")
    if isinstance(positions, MRopePositionsConfig) and not positions.tokens_per_second:
        found.append(f"model.positions.{qwen2_vl.SPEED} is null, the layout has a number")
    return found


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    encoder, positions = spec.model.encoder, spec.model.positions
    assert isinstance(encoder, VisionTransformerConfig), obstacles(spec)
    assert isinstance(positions, MRopePositionsConfig), obstacles(spec)
    assert encoder.window is not None, obstacles(spec)
    vision = {
        "fullatt_block_indexes": list(encoder.full_blocks),
        "hidden_size": encoder.width,
        "intermediate_size": encoder.mlp_width,
        "out_hidden_size": spec.backbone["hidden_size"],
        qwen2_vl.SPEED: positions.tokens_per_second,
        "window_size": encoder.window * spec.model.pictures.patch,
    }
    return qwen2_vl.written(spec, tokenizer, dtype, (LAYOUT, "qwen2_5_vl"), vision)


canonical = qwen2_vl.canonical
key_map = qwen2_vl.key_map
