"""The layout of InternVL in transformers: `InternVLForConditionalGeneration`, hub ids that end in `-hf`.

    tiles -> InternViT -> pixel shuffle -> LayerNorm, two layers -> splice -> language model

InternVL 1.5's own layout, with the same components under other names, is `systems/internvl_1_5.py`.
Source: transformers 5.23, `models/internvl`, and its image processor, `models/got_ocr2`.
"""

from __future__ import annotations

from typing import Any

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.media.config import TilesConfig
from vitrail.models.config import DecoderConfig, MLPProjectorConfig, ModelConfig, VisionTransformerConfig
from vitrail.prompts.config import PICTURES, PromptConfig
from vitrail.systems import composite
from vitrail.systems.composite import HEAD, NOTES, ties_embeddings
from vitrail.systems.encoders import intern_vit
from vitrail.systems.system import (
    Json,
    KeyMap,
    ModelSpec,
    Official,
    by_name,
    refused,
    same,
    shaped,
    square,
    within,
)

LAYOUT = "InternVLForConditionalGeneration"

# What transformers' classes fill in where the files say nothing.
VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 448,
    "patch_size": 14,
    "norm_type": "layer_norm",
    "use_qk_norm": False,
    "attention_bias": False,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "layer_scale_init_value": 0.1,
    "attention_dropout": 0.0,
    "hidden_dropout_prob": 0.0,
    "projection_dropout": 0.0,
    "use_absolute_position_embeddings": True,
    "use_mask_token": False,
    "use_mean_pooling": True,
}
IMAGES: dict[str, Any] = {
    "image_mean": (0.485, 0.456, 0.406),
    "image_std": (0.229, 0.224, 0.225),
    "min_patches": 1,
    "max_patches": 12,
    "crop_to_patches": True,
}
QUERY_KEY_EPS = 1e-6
"""Fixed in transformers, whatever the other norms have."""
PROJECTOR = MLPProjectorConfig(norm="layer", norm_at="merged")
TOWER, PROJECTION = "vision_tower.", "multi_modal_projector."
UNUSED = f"{TOWER}embeddings.mask_token"
OUTSIDE = {
    "stem": f"{TOWER}embeddings.patch_embeddings.projection",
    "final_norm": f"{TOWER}layernorm",
    "projector.norm": f"{PROJECTION}layer_norm",
    "projector.first": f"{PROJECTION}linear_1",
    "projector.second": f"{PROJECTION}linear_2",
}
IN_BLOCK = {
    "attention_norm": ("layernorm_before",),
    "query_key_value": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "query_norm": ("attention.q_norm",),
    "key_norm": ("attention.k_norm",),
    "attention_out": ("attention.projection_layer",),
    "attention_scale": ("lambda_1",),
    "mlp_norm": ("layernorm_after",),
    "mlp.up": ("mlp.fc1",),
    "mlp.down": ("mlp.fc2",),
    "mlp_scale": ("lambda_2",),
}


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    config = official.config
    vision = {**VISION, **config.get("vision_config", {})}
    layer = _layer(config.get("vision_feature_layer", -1), vision["num_hidden_layers"])
    unknown = [*_unknown(config, vision), *composite.unknown_images(_images(official))]
    if layer is None:
        unknown.append(f"vision_feature_layer is {config['vision_feature_layer']}, supported: one of the blocks")
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    tied = ties_embeddings(official, config.get("tie_word_embeddings", True))
    text = {key: value for key, value in config.get("text_config", {}).items() if key not in NOTES}
    backbone = {"model_type": "qwen2", **text, "tie_word_embeddings": tied}
    assert layer is not None, "said above"
    model = ModelConfig(
        backbone=DecoderConfig(config=backbone, tokenizer="bytes"),
        media=_media(official, vision, round(1 / config.get("downsample_ratio", 0.5))),
        encoder=_encoder(vision, layer),
        projector=PROJECTOR,
    )
    unused = [UNUSED] if vision["use_mask_token"] else []
    if not vision["use_mean_pooling"] and layer != -1:
        unused += [f"{TOWER}layernorm.weight", f"{TOWER}layernorm.bias"]
    return ModelSpec(
        model, PromptConfig(picture=PICTURES["internvl"]), backbone, frozenset([*unused, *([HEAD] if tied else [])])
    )


def _encoder(vision: Json, layer: int) -> VisionTransformerConfig:
    side, patch = square(vision["image_size"], LAYOUT), square(vision["patch_size"], LAYOUT)
    tabled = vision["use_absolute_position_embeddings"]
    return VisionTransformerConfig(
        **{**intern_vit.STRUCTURE, "absolute": "learnt" if tabled else "none"},
        width=vision["hidden_size"],
        depth=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        mlp_width=vision["intermediate_size"],
        activation=vision["hidden_act"],
        position_table=(side // patch, side // patch) if tabled else None,
        norm="rms" if vision["norm_type"] == "rms_norm" else "layer",
        norm_eps=vision["layer_norm_eps"],
        final_norm=not vision["use_mean_pooling"] and layer == -1,
        query_key_norm=vision["use_qk_norm"],
        qkv_bias=vision["attention_bias"],
        layer_scale=vision["layer_scale_init_value"],
        layer=layer,
    )


def _layer(found: Any, depth: int) -> int | None:
    """The layer counted from the last; None where there are several."""
    if isinstance(found, list | tuple):
        if len(found) != 1:
            return None
        found = found[0]
    return int(found) if found < 0 else int(found) - depth - 1


def _unknown(config: Json, vision: Json) -> list[str]:
    """Settings that our components do not have."""
    wanted = [
        ("vision_feature_select_strategy", config.get("vision_feature_select_strategy", "default"), ("default",)),
        ("projector_hidden_act", config.get("projector_hidden_act", "gelu"), ("gelu",)),
        ("vision_config.model_type", vision.get("model_type", "internvl_vision"), ("internvl_vision",)),
        ("vision_config.hidden_act", vision["hidden_act"], ("gelu",)),
        ("vision_config.num_channels", vision["num_channels"], (3,)),
        ("vision_config.norm_type", vision["norm_type"], tuple(intern_vit.NORMS)),
        *((f"vision_config.{name}", vision[name], (0,)) for name in VISION if "dropout" in name),
    ]
    if vision["use_qk_norm"]:
        wanted.append(("vision_config.layer_norm_eps", vision["layer_norm_eps"], (QUERY_KEY_EPS,)))
    if not vision["use_mean_pooling"]:
        wanted.append(("vision_config.norm_type", vision["norm_type"], ("layer_norm",)))
    return refused(wanted)


def _images(official: Official) -> Json:
    """Its processor cuts tiles whatever the image processor's own setting is."""
    return {**composite.image_settings(official, IMAGES), "crop_to_patches": True}


def _media(official: Official, vision: Json, merge: int) -> TilesConfig:
    images = _images(official)
    return TilesConfig(
        patch=square(vision["patch_size"], LAYOUT),
        merge=merge,
        tile=square(images.get("size", vision["image_size"]), LAYOUT),
        min_tiles=images["min_patches"],
        max_tiles=images["max_patches"],
        mean=composite.colours(images["image_mean"]),
        std=composite.colours(images["image_std"]),
    )


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    model = spec.model
    found = intern_vit.obstacles(model, PROJECTOR)
    if isinstance(model.projector, MLPProjectorConfig):
        if model.projector.order != "rows":
            found.append(f"model.projector.order is {model.projector.order}, the layout has rows")
        if model.projector.hidden not in (None, spec.backbone["hidden_size"]):
            found.append(f"model.projector.hidden is {model.projector.hidden}, the layout has the backbone's width")
    if isinstance(model.encoder, VisionTransformerConfig):
        encoder = model.encoder
        if encoder.query_key_norm and encoder.norm_eps != QUERY_KEY_EPS:
            found.append(f"model.encoder.norm_eps is {encoder.norm_eps}, the layout has {QUERY_KEY_EPS}")
        if encoder.activation != "gelu":
            found.append(f"model.encoder.activation is {encoder.activation}, the layout has gelu")
        if encoder.position_table and encoder.position_table[0] != encoder.position_table[1]:
            found.append(f"model.encoder.position_table is {encoder.position_table}, the layout has a square one")
    if not spec.prompt.picture.token:
        found.append("prompt.picture.token names no token, the layout has one")
    return found


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    model, picture = spec.model, spec.prompt.picture
    encoder, media = model.encoder, model.media
    assert isinstance(encoder, VisionTransformerConfig), obstacles(spec)
    assert isinstance(media, TilesConfig), obstacles(spec)
    config = {
        "architectures": [LAYOUT],
        "downsample_ratio": 1 / media.merge,
        "dtype": dtype,
        "image_seq_length": media.tile_tokens,
        "image_token_id": tokenizer.special(picture.token),
        "model_type": "internvl",
        "projector_hidden_act": "gelu",
        "text_config": {**spec.backbone, "dtype": dtype},
        "tie_word_embeddings": bool(spec.backbone.get("tie_word_embeddings")),
        "vision_config": _vision_settings(encoder, media),
        "vision_feature_layer": encoder.layer,
        "vision_feature_select_strategy": "default",
    }
    end = composite.end_of_answer(spec, tokenizer)
    images = {
        **composite.IMAGES,
        "crop_to_patches": True,
        "image_mean": list(media.mean),
        "image_processor_type": "GotOcr2ImageProcessor",
        "image_std": list(media.std),
        "max_patches": media.max_tiles,
        "min_patches": media.min_tiles,
        "processor_class": "InternVLProcessor",
        "size": {"height": media.tile, "width": media.tile},
    }
    return {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end, "pad_token_id": end},
        "preprocessor_config.json": images,
        "processor_config.json": {"image_seq_length": media.tile_tokens, "processor_class": "InternVLProcessor"},
    }


def _vision_settings(encoder: VisionTransformerConfig, media: TilesConfig) -> dict[str, Any]:
    side = encoder.position_table[0] * media.patch if encoder.position_table else media.tile
    return {
        **VISION,
        "attention_bias": encoder.qkv_bias,
        "hidden_size": encoder.width,
        "image_size": [side, side],
        "intermediate_size": encoder.mlp_width,
        "layer_norm_eps": encoder.norm_eps,
        "layer_scale_init_value": encoder.layer_scale,
        "model_type": "internvl_vision",
        "norm_type": "rms_norm" if encoder.norm == "rms" else "layer_norm",
        "num_attention_heads": encoder.heads,
        "num_hidden_layers": encoder.depth,
        "patch_size": [media.patch, media.patch],
        "use_absolute_position_embeddings": encoder.position_table is not None,
        "use_mean_pooling": not encoder.final_norm,
        "use_qk_norm": encoder.query_key_norm,
    }


canonical = composite.canonical


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    patch = spec.model.pictures.patch
    if name.startswith("backbone.lm."):
        return same(name.replace("backbone.lm.", "language_model.", 1))
    match name:
        case "encoder.class_token":
            return within(f"{TOWER}embeddings.cls_token", 2)
        case "encoder.position_table":
            return within(f"{TOWER}embeddings.position_embeddings", 1)
        case "encoder.stem.weight":
            return shaped(f"{OUTSIDE['stem']}.weight", (3, patch, patch))
    return by_name(name.removeprefix("encoder."), OUTSIDE, f"{TOWER}encoder.layer", IN_BLOCK)
