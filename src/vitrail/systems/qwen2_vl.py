"""The layout of Qwen2-VL: `Qwen2VLForConditionalGeneration`.

    pictures of any shape, videos as pairs of frames -> vision transformer -> merger -> splice -> Qwen2 with M-RoPE

Its language model is Qwen2's but for rotary positions of three axes. Published files have all settings at the top,
those that transformers writes today have the language model's under `text_config`: both are read.
Source: transformers 5.23, `models/qwen2_vl`; arXiv 2409.12191.
"""

from __future__ import annotations

from typing import Any

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.media.config import NativeResolutionConfig
from vitrail.models.config import (
    DecoderConfig,
    MLPProjectorConfig,
    ModelConfig,
    VisionTransformerConfig,
)
from vitrail.prompts.config import PICTURES, MRopePositionsConfig, PictureConfig, PromptConfig
from vitrail.systems import composite
from vitrail.systems.composite import NOTES
from vitrail.systems.encoders import qwen_vit
from vitrail.systems.system import (
    Json,
    KeyMap,
    ModelSpec,
    Official,
    differences,
    kind_of,
    refused,
    same,
    spliced_vision,
)

LAYOUT = "Qwen2VLForConditionalGeneration"

# What transformers' class of the language model fills in where the file says nothing.
TEXT: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 80,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "pad_token_id": None,
    "layer_types": None,
}
SECTIONS, SPEED = "mrope_section", "tokens_per_second"
THETA = 1_000_000.0
SIZES = ("width", "depth", "heads", "mlp_width", "activation", "rope_theta", "frames")
"""What the layout says of an encoder."""

HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"
# Names of transformers' modules -> names on disk.
MODULES = {"model.visual.": "visual.", "model.language_model.": "model."}
SPECIALS = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    vision = {**qwen_vit.VISION_2, **official.config.get("vision_config", {})}
    return spec_of(official, LAYOUT, vision, qwen_vit.encoder_2(vision))


def spec_of(official: Official, layout: str, vision: Json, encoder: VisionTransformerConfig) -> ModelSpec:
    """What Qwen2-VL and Qwen2.5-VL say in the same words. Raises WeightsError for what we have no component for."""
    config, images = official.config, composite.image_settings(official, qwen_vit.IMAGES)
    text = {**TEXT, **{key: value for key, value in config.items() if key in TEXT}, **config.get("text_config", {})}
    rope = _rope(config)
    unknown = [
        *qwen_vit.unknown(vision),
        *qwen_vit.unknown_images(images, vision),
        *composite.unknown_images(images),
        *_unknown_language(text, rope),
    ]
    if unknown:
        raise WeightsError(f"this model of {layout} has settings that are not supported: {'; '.join(unknown)}")
    setting = config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings", False))
    tied = composite.ties_embeddings(official, setting, HEAD, EMBEDDINGS, MODULES)
    patch, merge = vision["patch_size"], vision["spatial_merge_size"]
    language = {key: value for key, value in text.items() if key not in (*NOTES, *ROPE) and value is not None}
    backbone = {
        **language,
        "model_type": "qwen2",
        "tie_word_embeddings": tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": float(rope.get("rope_theta", THETA))},
    }
    model = ModelConfig(
        backbone=DecoderConfig(config=backbone, tokenizer="bytes"),
        media=qwen_vit.media_of(images, patch, merge),
        encoder=encoder,
        projector=qwen_vit.merger(encoder, merge),
        positions=MRopePositionsConfig(sections=tuple(rope[SECTIONS]), tokens_per_second=vision.get(SPEED)),
    )
    redundant = frozenset({HEAD}) if tied else frozenset[str]()
    return ModelSpec(model, PromptConfig(picture=PICTURES["qwen2_vl"]), backbone, redundant)


ROPE = ("rope_parameters", "rope_scaling", "rope_theta")


def _rope(config: Json) -> dict[str, Any]:
    """Of any age: `rope_parameters`, or `rope_scaling` beside `rope_theta`, at the top or under `text_config`."""
    found: dict[str, Any] = {}
    for settings in (config, config.get("text_config", {})):
        if settings.get("rope_theta") is not None:
            found["rope_theta"] = settings["rope_theta"]
        found |= settings.get("rope_scaling") or {}
        found |= settings.get("rope_parameters") or {}
    return found


def _unknown_language(text: Json, rope: Json) -> list[str]:
    """Settings of the language model that ours does not have, each in a few words."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    found = refused(
        [
            ("hidden_act", text["hidden_act"], ("silu",)),
            ("use_sliding_window", text["use_sliding_window"], (False, None)),
            ("attention_dropout", text["attention_dropout"], (0,)),
            ("rope_parameters.rope_type", kind, ("default", "mrope")),
        ]
    )
    width = text["hidden_size"] // text["num_attention_heads"]
    if 2 * sum(rope.get(SECTIONS, ())) != width:
        found.append(
            f"{SECTIONS} is {rope.get(SECTIONS)}, supported: half the width of a head, {width}, in three parts"
        )
    return found


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    found = obstacles_to(spec, qwen_vit.encoder_2(qwen_vit.VISION_2), SIZES)
    positions = spec.model.positions
    if isinstance(positions, MRopePositionsConfig) and positions.tokens_per_second:
        found.append(f"model.positions.{SPEED} is {positions.tokens_per_second}, the layout has none")
    return found


def obstacles_to(spec: ModelSpec, layout: VisionTransformerConfig, free: tuple[str, ...]) -> list[str]:
    """The same for an encoder of that structure. free: its settings that may be others."""
    model, found = spec.model, spliced_vision(spec.model)
    if not isinstance(model.encoder, VisionTransformerConfig):
        found.append(f"model.encoder is {kind_of(model.encoder)}, the layout has vision_transformer")
    else:
        found += differences(model.encoder, layout, free, "model.encoder")
        if not isinstance(model.projector, MLPProjectorConfig):
            found.append(f"model.projector is {model.projector.kind}, the layout has mlp")
        else:
            merger = qwen_vit.merger(model.encoder, model.media.merge)
            found += differences(model.projector, merger, (), "model.projector")
    if not isinstance(model.media, NativeResolutionConfig):
        found.append(f"model.media is {model.media.kind}, the layout has native")
    else:
        if model.media.max_side is not None:
            found.append(f"model.media.max_side is {model.media.max_side}, the layout has none")
        if model.media.sides != "nearest":
            found.append(f"model.media.sides is {model.media.sides}, the layout has nearest")
    if not isinstance(model.positions, MRopePositionsConfig):
        found.append(f"model.positions is {model.positions.kind}, the layout has mrope")
    if spec.backbone.get("model_type") != "qwen2":
        found.append(f"the language model is a {spec.backbone.get('model_type')}, the layout has qwen2")
    if spec.prompt.picture != PICTURES["qwen2_vl"]:
        found += differences(spec.prompt.picture, PICTURES["qwen2_vl"], (), "prompt.picture")
    return found


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    encoder = spec.model.encoder
    assert isinstance(encoder, VisionTransformerConfig), obstacles(spec)
    vision = {
        "embed_dim": encoder.width,
        "hidden_size": spec.backbone["hidden_size"],
        "mlp_ratio": encoder.mlp_width / encoder.width,
    }
    if vision["mlp_ratio"] == int(vision["mlp_ratio"]):
        vision["mlp_ratio"] = int(vision["mlp_ratio"])
    return written(spec, tokenizer, dtype, (LAYOUT, "qwen2_vl"), vision)


def written(
    spec: ModelSpec, tokenizer: Tokenizer, dtype: str, names: tuple[str, str], vision: dict[str, Any]
) -> dict[str, Json]:
    """The files of both layouts. names: the class and its model_type. vision: what is not the same of the encoder."""
    encoder, media, picture = spec.model.encoder, spec.model.media, spec.prompt.picture
    assert isinstance(encoder, VisionTransformerConfig), "obstacles come first"
    assert isinstance(media, NativeResolutionConfig), "obstacles come first"
    positions = spec.model.positions
    assert isinstance(positions, MRopePositionsConfig), "obstacles come first"
    backbone = dict(spec.backbone)
    theta = (backbone.pop("rope_parameters", None) or {"rope_theta": backbone.get("rope_theta", THETA)})["rope_theta"]
    rotary = {"rope_theta": theta, "rope_scaling": {"type": "mrope", SECTIONS: list(positions.sections)}}
    config = {
        "architectures": [names[0]],
        "dtype": dtype,
        "image_token_id": tokenizer.special(picture.token),
        "model_type": names[1],
        "text_config": {**backbone, **rotary, "dtype": dtype, "model_type": f"{names[1]}_text"},
        "tie_word_embeddings": bool(backbone.get("tie_word_embeddings")),
        "video_token_id": _video_token(tokenizer, picture),
        "vision_config": {
            "depth": encoder.depth,
            "hidden_act": encoder.activation,
            "in_channels": 3,
            "model_type": names[1],
            "num_heads": encoder.heads,
            "patch_size": media.patch,
            "rope_theta": encoder.rope_theta,
            "spatial_merge_size": media.merge,
            "temporal_patch_size": encoder.frames,
            **vision,
        },
        "vision_end_token_id": tokenizer.special(picture.end),
        "vision_start_token_id": tokenizer.special(picture.start),
    }
    end, token = composite.end_of_answer(spec, tokenizer), (media.patch * media.merge) ** 2
    least, most = media.min_pixels or media.min_tokens * token, media.max_pixels or media.max_tokens * token
    images = {
        **composite.IMAGES,
        "image_mean": list(media.mean),
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": list(media.std),
        "max_pixels": most,
        "merge_size": media.merge,
        "min_pixels": least,
        "patch_size": media.patch,
        "processor_class": "Qwen2VLProcessor",
        "size": {"longest_edge": most, "shortest_edge": least},
        "temporal_patch_size": encoder.frames,
    }
    return {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end, "pad_token_id": end},
        "preprocessor_config.json": images,
    }


def _video_token(tokenizer: Tokenizer, picture: PictureConfig) -> int:
    """The id of the token for videos; that of pictures in a vocabulary without one, which then has no videos."""
    try:
        return tokenizer.special(SPECIALS["video_token_id"])
    except WeightsError:
        return tokenizer.special(picture.token)


def canonical(name: str) -> str | None:
    """The name on disk; see `composite.canonical`."""
    return composite.canonical(name, MODULES)


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    if name.startswith("backbone.lm."):
        return same(name.removeprefix("backbone.lm."))
    encoder = spec.model.encoder
    assert isinstance(encoder, VisionTransformerConfig), "obstacles come first"
    return qwen_vit.key_map(name, encoder, spec.model.pictures.patch)
