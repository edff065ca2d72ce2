"""The layout of DeepSeek-VL 1.3B in transformers: `DeepseekVLForConditionalGeneration`, and what the hybrid's shares.

    picture in a square -> SigLIP-L -> two layers -> splice -> language model (a Llama)

The hybrid, of the 7B, is `systems/deepseek_vl_hybrid.py`; the layout of the system's own code, of both,
`systems/deepseek_vl_official.py`.
Source: transformers 5.23, `models/deepseek_vl`; arXiv 2403.05525.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.media.config import PaddedConfig
from vitrail.models.config import DecoderConfig, MLPProjectorConfig, ModelConfig, VisionTransformerConfig
from vitrail.prompts.config import PICTURES, PromptConfig
from vitrail.systems import composite
from vitrail.systems.composite import NOTES
from vitrail.systems.encoders import siglip
from vitrail.systems.encoders.clip import vision_settings
from vitrail.systems.system import (
    EncoderSpec,
    Json,
    KeyMap,
    ModelSpec,
    Official,
    before,
    differences,
    on_a_line,
    refused,
    same,
    square,
)

LAYOUT = "DeepseekVLForConditionalGeneration"

# What transformers' image processor fills in where the files say nothing.
IMAGES: dict[str, Any] = {
    "size": {"height": 384, "width": 384},
    "min_size": 14,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "do_pad": True,
}
PROJECTOR = MLPProjectorConfig(norm="none")
HEAD, EMBEDDINGS = "lm_head.weight", "model.language_model.embed_tokens.weight"
MODULES = {"model.vision_model.vision_model.": "model.vision_model."}
"""Starts of names that some versions of transformers wrote -> on disk."""
TOWER = "model."
"""Before the names of the encoder alone."""
OUTSIDE = {"projector.first": "model.aligner.linear1", "projector.second": "model.aligner.linear2"}


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    vision, images = vision_settings(official.config, siglip.VISION, LAYOUT), image_settings(official, IMAGES)
    unknown = [*unknown_vision(vision), *unknown_images(images)]
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    media = PaddedConfig(
        patch=square(vision["patch_size"], LAYOUT),
        side=square(images["size"], LAYOUT),
        least=images["min_size"],
        mean=composite.colours(images["image_mean"]),
        std=composite.colours(images["image_std"]),
    )
    model = ModelConfig(
        backbone=DecoderConfig(config=language_settings(official), tokenizer="bytes"),
        media=media,
        encoder=siglip.encoder_of(vision, LAYOUT),
        projector=PROJECTOR,
    )
    return spec_of(model)


def spec_of(model: ModelConfig) -> ModelSpec:
    """A model whose backbone has settings, with the prompt of pictures and what its checkpoint says twice."""
    assert isinstance(model.backbone, DecoderConfig), "the language model is a decoder"
    settings = model.backbone.config or {}
    redundant = frozenset({HEAD}) if settings["tie_word_embeddings"] else frozenset[str]()
    return ModelSpec(model, PromptConfig(picture=PICTURES["deepseek_vl"]), settings, redundant)


def language_settings(official: Official) -> dict[str, Any]:
    """`text_config` as transformers' settings of the language model."""
    config = official.config
    text = {key: value for key, value in config.get("text_config", {}).items() if key not in NOTES}
    setting = config.get("tie_word_embeddings", True)
    tied = composite.ties_embeddings(official, setting, HEAD, EMBEDDINGS, MODULES)
    return {"model_type": "llama", **text, "tie_word_embeddings": tied}


def unknown_vision(vision: Json) -> list[str]:
    """Settings of SigLIP that are another encoder's."""
    kind = vision.get("model_type", "siglip_vision_model")
    return refused([("vision_config.model_type", kind, ("siglip_vision_model",))])


def image_settings(official: Official, defaults: Json) -> dict[str, Any]:
    """Settings of the image processor; without a file of it, the square is the one that the encoder's table is for."""
    images = dict(composite.image_settings(official, defaults))
    if not any(name in official.files for name in ("preprocessor_config.json", "processor_config.json")):
        side = square(official.config.get("vision_config", {}).get("image_size", siglip.VISION["image_size"]), LAYOUT)
        images["size"] = {"height": side, "width": side}
    return images


def unknown_images(images: Json) -> list[str]:
    """Settings of the image processor that our media rule does not have."""
    wanted = [("image processor's do_pad", images["do_pad"], (True,))]
    return [*composite.unknown_images({"do_convert_rgb": True, **images}), *refused(wanted)]


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    model = spec.model
    found = [*on_a_line(model), *siglip.obstacles(model.encoder, "model.encoder"), *language_obstacles(spec)]
    if not isinstance(model.projector, MLPProjectorConfig):
        found.append(f"model.projector is {model.projector.kind}, the layout has mlp")
    else:
        # With a single patch a token, where the norm would stand and how tokens are ordered have no effect.
        found += differences(model.projector, PROJECTOR, ("hidden", "norm_at", "norm_eps", "order"), "model.projector")
        if model.projector.hidden not in (None, spec.backbone["hidden_size"]):
            found.append(f"model.projector.hidden is {model.projector.hidden}, the layout has the backbone's width")
    return [*found, *media_obstacles(model.media, "model.media", ("larger",))]


def language_obstacles(spec: ModelSpec) -> list[str]:
    """The same of language model and prompt."""
    family = spec.backbone.get("model_type")
    found = [] if family == "llama" else [f"the language model is a {family}, the layout has llama"]
    if not spec.prompt.picture.token:
        found.append("prompt.picture.token names no token, the layout has one")
    return found


def media_obstacles(
    media: Any, where: str, fixed: tuple[str, ...], colour: tuple[int, int, int] | None = None
) -> list[str]:
    """The same of pictures. fixed: settings that the layout does not say. colour: what fills the square; None for what
    follows from `mean`. Whether sides are rounded down or to the nearest px is each reader's own habit."""
    if not isinstance(media, PaddedConfig):
        return [f"{where} is {media.kind}, the layout has padded"]
    free = ("patch", "side", "sides", "least", "background", "mean", "std", "larger", "shrink")
    found = differences(media, PaddedConfig(), tuple(name for name in free if name not in fixed), where)
    wanted = colour or PaddedConfig(mean=media.mean).colour
    if media.colour != wanted:
        found.append(f"{where}.background is {list(media.colour)}, the layout has {list(wanted)}")
    return found


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    media = spec.model.media
    assert isinstance(media, PaddedConfig), obstacles(spec)
    images = {"image_processor_type": "DeepseekVLImageProcessor", "processor_class": "DeepseekVLProcessor"}
    return {
        **written(spec, tokenizer, dtype, LAYOUT, "deepseek_vl"),
        "preprocessor_config.json": {**image_files(media, media.least), **images},
        "processor_config.json": {"num_image_tokens": media.max_tokens, "processor_class": "DeepseekVLProcessor"},
    }


def written(spec: ModelSpec, tokenizer: Tokenizer, dtype: str, layout: str, model_type: str) -> dict[str, Json]:
    """What `config.json` and `generation_config.json` have in both of transformers' classes."""
    encoder, media = spec.model.encoder, spec.model.pictures
    assert isinstance(encoder, VisionTransformerConfig), obstacles(spec)
    config = {
        "architectures": [layout],
        "dtype": dtype,
        "image_token_id": tokenizer.special(spec.prompt.picture.token),
        "model_type": model_type,
        "text_config": {**spec.backbone, "dtype": dtype},
        "tie_word_embeddings": bool(spec.backbone.get("tie_word_embeddings")),
        "vision_config": siglip.written(encoder, media.patch),
    }
    end = composite.end_of_answer(spec, tokenizer)
    return {"config.json": config, "generation_config.json": {"eos_token_id": end, "pad_token_id": end}}


def image_files(media: PaddedConfig, least: int) -> dict[str, Any]:
    """Settings of the image processor for the stream that both classes have."""
    return {
        **composite.IMAGES,
        "do_pad": True,
        "image_mean": list(media.mean),
        "image_std": list(media.std),
        "min_size": least,
        "size": {"height": media.side, "width": media.side},
    }


def canonical(name: str) -> str | None:
    """The name on disk."""
    return composite.canonical(name, MODULES)


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    return in_layout(name, spec, OUTSIDE)


def in_layout(name: str, spec: ModelSpec, outside: Mapping[str, str]) -> KeyMap:
    """Where a tensor is kept of what both classes have. outside: modules of the projector."""
    if name.startswith("backbone.lm.model."):
        return same(name.replace("backbone.lm.model.", "model.language_model.", 1))
    if name.startswith("backbone.lm."):
        return same(name.removeprefix("backbone.lm."))
    module, _, kind = name.rpartition(".")
    if module in outside:
        return same(f"{outside[module]}.{kind}")
    assert isinstance(spec.model.encoder, VisionTransformerConfig), "obstacles come first"
    return before(TOWER, siglip.key_map(name, EncoderSpec(spec.model.encoder, spec.model.media)))
