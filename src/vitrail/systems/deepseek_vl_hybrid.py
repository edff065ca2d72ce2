"""The layout of DeepSeek-VL 7B in transformers: `DeepseekVLHybridForConditionalGeneration`.

    picture in a square of 1,024 px -> SAM-B -> two necks -> resized, halved twice --.
          '- shrunk to 384 px -> SigLIP-L -----------------------------------------> joined -> splice -> a Llama

One neck is SAM's own, behind its last block; the other looks at its first block without windows.
Source: transformers 5.23, `models/deepseek_vl_hybrid`; arXiv 2403.05525.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.media.config import PaddedConfig
from vitrail.models.config import (
    DecoderConfig,
    DownsampleConfig,
    JoinedConfig,
    ModelConfig,
    StreamConfig,
    VisionTransformerConfig,
)
from vitrail.systems import composite, deepseek_vl
from vitrail.systems.encoders import sam, siglip
from vitrail.systems.encoders.clip import vision_settings
from vitrail.systems.system import EncoderSpec, Json, KeyMap, ModelSpec, Official, before, on_a_line, same, square

LAYOUT = "DeepseekVLHybridForConditionalGeneration"

HIGH = "high"
"""The stream of the large pictures, in models that are read; one of ours may have another name."""
# What transformers' image processor fills in where the files say nothing.
IMAGES: dict[str, Any] = {
    **deepseek_vl.IMAGES,
    "high_res_size": {"height": 1024, "width": 1024},
    "high_res_image_mean": deepseek_vl.IMAGES["image_mean"],
    "high_res_image_std": deepseek_vl.IMAGES["image_std"],
    "high_res_resample": 3,
}
OUTSIDE = {
    "projector.beside": "model.aligner.high_res_vision_proj",
    "projector.own": "model.aligner.vision_proj",
    "projector.out": "model.aligner.proj",
}
HIGH_PROJECTOR = {
    "halvings.0.weight": "model.high_res_vision_proj.conv1.weight",
    "halvings.1.weight": "model.high_res_vision_proj.conv2.weight",
    "early_gate": "model.high_res_vision_alpha",
}
EARLY = "early_neck."


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    config = official.config
    vision = vision_settings(config, siglip.VISION, LAYOUT)
    high = {**sam.VISION, **config.get("high_res_vision_config", {})}
    images = _images(official, high)
    unknown = [*deepseek_vl.unknown_vision(vision), *sam.unknown_settings(high, "high_res_vision_config.")]
    unknown += deepseek_vl.unknown_images(images)
    if images["high_res_resample"] != images["resample"]:
        unknown.append(f"image processor's high_res_resample is {images['high_res_resample']}, supported: resample's")
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    encoder = siglip.encoder_of(vision, LAYOUT)
    assert encoder.position_table, "SigLIP has a table of positions"
    large = PaddedConfig(
        patch=square(high["patch_size"], LAYOUT),
        side=square(images["high_res_size"], LAYOUT),
        least=images["min_size"],
        mean=composite.colours(images["high_res_image_mean"]),
        std=composite.colours(images["high_res_image_std"]),
    )
    neck = high["output_channels"]
    model = ModelConfig(
        backbone=DecoderConfig(config=deepseek_vl.language_settings(official), tokenizer="bytes"),
        media=replace(
            large,
            patch=square(vision["patch_size"], LAYOUT),
            side=square(images["size"], LAYOUT),
            larger=large.side,
            background=large.colour,
            mean=composite.colours(images["image_mean"]),
            std=composite.colours(images["image_std"]),
        ),
        encoder=encoder,
        projector=JoinedConfig(joins=HIGH),
        streams={
            HIGH: StreamConfig(
                large,
                replace(sam.encoder_of(high, LAYOUT), early=True),
                DownsampleConfig(grid=encoder.position_table, channels=(2 * neck, 4 * neck), early=neck),
            )
        },
    )
    return deepseek_vl.spec_of(model)


def _images(official: Official, high: Json) -> dict[str, Any]:
    images = deepseek_vl.image_settings(official, IMAGES)
    if not any(name in official.files for name in ("preprocessor_config.json", "processor_config.json")):
        side = square(high["image_size"], LAYOUT)
        images["high_res_size"] = {"height": side, "width": side}
    return images


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    found = two_stream_obstacles(spec)
    if found:
        return found
    high, grid = high_of(spec.model), spec.model.encoder
    assert isinstance(high.projector, DownsampleConfig), "said above"
    assert isinstance(high.encoder, VisionTransformerConfig), "said above"
    assert isinstance(grid, VisionTransformerConfig), "said above"
    neck, where = high.encoder.neck or 0, f"model.streams.{name_of(spec.model)}"
    if high.projector.channels != (2 * neck, 4 * neck):
        found.append(
            f"{where}.projector.channels is {list(high.projector.channels)}, the layout has 2 and 4 times the neck's"
        )
    if high.projector.grid != grid.position_table:
        found.append(
            f"{where}.projector.grid is {list(high.projector.grid)}, the layout has model.encoder.position_table"
        )
    if spec.backbone["hidden_size"] % 2:
        found.append(f"the language model's width is {spec.backbone['hidden_size']}, the layout has an even one")
    return found


def two_stream_obstacles(spec: ModelSpec) -> list[str]:
    """Obstacles that a model of two streams meets in every layout of the hybrid."""
    model = spec.model
    name = name_of(model)
    other = {key: stream for key, stream in model.streams.items() if key != name}
    found = [
        *on_a_line(replace(model, streams=other, projector=deepseek_vl.PROJECTOR)),
        *deepseek_vl.language_obstacles(spec),
    ]
    found += siglip.obstacles(model.encoder, "model.encoder")
    if name not in model.streams:
        return [*found, f"model.projector is {model.projector.kind}, the layout has joined"]
    high, where = model.streams[name], f"model.streams.{name}"
    found += sam.obstacles(high.encoder, f"{where}.encoder")
    if isinstance(high.encoder, VisionTransformerConfig) and not high.encoder.early:
        found.append(f"{where}.encoder.early is False, the layout has True")
    if not isinstance(high.projector, DownsampleConfig):
        found.append(f"{where}.projector is {high.projector.kind}, the layout has downsample")
    elif isinstance(high.encoder, VisionTransformerConfig) and high.projector.early != high.encoder.neck:
        found.append(f"{where}.projector.early is {high.projector.early}, the layout has the neck's width")
    found += deepseek_vl.media_obstacles(high.media, f"{where}.media", ("larger",))
    if isinstance(high.media, PaddedConfig) and isinstance(model.media, PaddedConfig):
        found += deepseek_vl.media_obstacles(model.media, "model.media", (), high.media.colour)
        for setting, wanted in (("larger", high.media.side), ("least", high.media.least)):
            if getattr(model.media, setting) != wanted:
                found.append(f"model.media.{setting} is {getattr(model.media, setting)}, the layout has {wanted}")
    elif not isinstance(model.media, PaddedConfig):
        found.append(f"model.media is {model.media.kind}, the layout has padded")
    return found


def name_of(model: ModelConfig) -> str:
    """The name of the stream that the projector joins; "" for none."""
    return model.projector.joins if isinstance(model.projector, JoinedConfig) else ""


def high_of(model: ModelConfig) -> StreamConfig:
    """The stream of the large pictures, of a model that has one."""
    return model.streams[name_of(model)]


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    low, high = spec.model.media, high_of(spec.model)
    assert isinstance(low, PaddedConfig), obstacles(spec)
    assert isinstance(high.media, PaddedConfig), obstacles(spec)
    assert isinstance(high.encoder, VisionTransformerConfig), obstacles(spec)
    files = deepseek_vl.written(spec, tokenizer, dtype, LAYOUT, "deepseek_vl_hybrid")
    config = {
        **files["config.json"],
        "high_res_vision_config": {**sam.written(high.encoder, high.media.patch), "scale": high.encoder.width // 2},
    }
    images = {
        **deepseek_vl.image_files(low, high.media.least),
        "high_res_image_mean": list(high.media.mean),
        "high_res_image_std": list(high.media.std),
        "high_res_resample": 3,
        "high_res_size": {"height": high.media.side, "width": high.media.side},
        "image_processor_type": "DeepseekVLHybridImageProcessor",
        "processor_class": "DeepseekVLHybridProcessor",
    }
    processor = {"num_image_tokens": low.max_tokens, "processor_class": "DeepseekVLHybridProcessor"}
    return {**files, "config.json": config, "preprocessor_config.json": images, "processor_config.json": processor}


canonical = deepseek_vl.canonical


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    stream = name_of(spec.model)
    projector, encoder = f"{stream}_projector.", f"{stream}_encoder."
    if name.startswith(projector):
        inside = name.removeprefix(projector)
        if inside.startswith(EARLY):
            return before("model.high_res_vision_neck.", sam.in_neck(inside.removeprefix(EARLY), sam.NECK))
        return same(HIGH_PROJECTOR[inside])
    if not name.startswith(encoder):
        return deepseek_vl.in_layout(name, spec, OUTSIDE)
    inside, high = name.removeprefix(encoder), high_of(spec.model)
    assert isinstance(high.encoder, VisionTransformerConfig), "obstacles come first"
    return before("model.high_res_vision_model.", sam.key_map(inside, EncoderSpec(high.encoder, high.media)))
