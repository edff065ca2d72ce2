"""The layout of Mistral Small 3.1: transformers' `Mistral3ForConditionalGeneration`.

    pictures -> Pixtral vision transformer -> RMSNorm, patch merger, two layers -> splice -> language model

Names here are those on disk (`language_model.model...`), which published checkpoints have and transformers writes; the
ones of its modules (`model.language_model...`), which some of its versions wrote, are read too.
Source: transformers 5.23, `models/mistral3`, `models/pixtral`; the block is arXiv 2410.07073's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from torch import Tensor

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.media.config import NativeResolutionConfig
from vitrail.models.config import DecoderConfig, ModelConfig, PatchMergerConfig, VisionTransformerConfig
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.systems import composite
from vitrail.systems.composite import HEAD, NOTES, ties_embeddings
from vitrail.systems.system import (
    Json,
    KeyMap,
    ModelSpec,
    Official,
    by_name,
    differences,
    kind_of,
    on_a_line,
    refused,
    same,
    shaped,
    square,
)

LAYOUT = "Mistral3ForConditionalGeneration"

# What transformers' classes fill in where the files say nothing.
VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "patch_size": 16,
    "hidden_act": "gelu",
    "attention_dropout": 0.0,
}
IMAGES: dict[str, Any] = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "size": {"longest_edge": 1024},
}
SPECIALS = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
ENCODER_EPS = 1e-5
"""Fixed in transformers' `modeling_pixtral.py`, and in ours."""
ACTIVATIONS = ("silu", "gelu")
SIZES = ("width", "depth", "heads", "mlp_width", "activation", "rope_theta")
"""What the layout says of an encoder; in all else it is our default, which is Pixtral's."""
PLAIN_ROPE = ("default", "axial")
"""Names of the rotary positions we have; transformers calls them axial since 5.2x."""

OUTSIDE = {
    "stem_norm": "vision_tower.ln_pre",
    "projector.norm": "multi_modal_projector.norm",
    "projector.first": "multi_modal_projector.linear_1",
    "projector.second": "multi_modal_projector.linear_2",
}
IN_BLOCK = {
    "attention_norm": ("attention_norm",),
    "query_key_value": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attention_out": ("attention.o_proj",),
    "mlp_norm": ("ffn_norm",),
    "mlp.gate_up": ("feed_forward.gate_proj", "feed_forward.up_proj"),
    "mlp.down": ("feed_forward.down_proj",),
}


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    config = official.config
    vision = {**VISION, **config.get("vision_config", {})}
    text = dict(config.get("text_config", {}))
    unknown = [*_unknown(config, vision), *_unknown_pictures(composite.image_settings(official, IMAGES))]
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    tied = ties_embeddings(official, config.get("tie_word_embeddings", True))
    for key in NOTES:
        text.pop(key, None)
    backbone = {"model_type": "mistral", **text, "tie_word_embeddings": tied}
    model = ModelConfig(
        backbone=DecoderConfig(config=backbone, tokenizer="bytes"),
        media=_media(official, vision, config.get("spatial_merge_size", 2)),
        encoder=VisionTransformerConfig(
            width=vision["hidden_size"],
            depth=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            mlp_width=vision["intermediate_size"],
            activation=vision["hidden_act"],
            rope_theta=float(_rope(vision).get("rope_theta", 10_000.0)),
        ),
        projector=PatchMergerConfig(
            bias=config.get("multimodal_projector_bias", False), norm_eps=text.get("rms_norm_eps", 1e-6)
        ),
    )
    processor = {**SPECIALS, **official.files.get("processor_config.json", {})}
    picture = PictureConfig(*(processor[name] for name in SPECIALS))
    redundant = frozenset({HEAD}) if tied else frozenset[str]()
    return ModelSpec(model, PromptConfig(picture=picture), backbone, redundant)


def _unknown(config: Json, vision: Json) -> Iterator[str]:
    """Settings that our components do not have."""
    wanted: list[tuple[str, Any, Sequence[Any]]] = [
        ("vision_feature_layer", config.get("vision_feature_layer", -1), (-1, [-1])),
        ("projector_hidden_act", config.get("projector_hidden_act", "gelu"), ("gelu",)),
        ("vision_config.model_type", vision.get("model_type", "pixtral"), ("pixtral",)),
        ("vision_config.hidden_act", vision["hidden_act"], ACTIVATIONS),
        ("vision_config.num_channels", vision["num_channels"], (3,)),
        ("vision_config.attention_dropout", vision["attention_dropout"], (0,)),
        ("vision_config.rope_parameters.rope_type", _rope(vision).get("rope_type", "default"), PLAIN_ROPE),
    ]
    width, heads = vision["hidden_size"], vision["num_attention_heads"]
    if width % heads or width // heads % 4:
        yield f"vision_config.hidden_size {width} is not num_attention_heads {heads} times a multiple of 4"
    else:
        wanted.append(("vision_config.head_dim", vision.get("head_dim") or width // heads, (width // heads,)))
    yield from refused(wanted)


def _unknown_pictures(images: Json) -> Iterator[str]:
    """Settings of the image processor that our media rule does not have."""
    sides = images["size"]
    if not (sides.get("longest_edge") or sides.get("height") == sides.get("width") is not None):
        yield f"image processor's size is {dict(sides)}, supported: longest_edge"
    yield from composite.unknown_images(images)


def _rope(vision: Json) -> dict[str, Any]:
    """Since 5.0 transformers keeps rope_theta among `rope_parameters`, before it stood by itself."""
    outside = {"rope_theta": vision["rope_theta"]} if "rope_theta" in vision else {}
    return {**outside, **(vision.get("rope_parameters") or {})}


def _media(official: Official, vision: Json, merge: int) -> NativeResolutionConfig:
    """Pixtral's rule: the longer side is held to a limit, then both are rounded up to whole tokens."""
    images = composite.image_settings(official, IMAGES)
    if not any(name in official.files for name in ("preprocessor_config.json", "processor_config.json")):
        # Weights alone: the largest picture they were made for is in the configuration.
        images = {**images, "size": {"longest_edge": square(vision.get("image_size", 1024), LAYOUT)}}
    patch = square(vision["patch_size"], LAYOUT)
    longest = images["size"].get("longest_edge") or images["size"]["height"]
    return NativeResolutionConfig(
        patch=patch,
        merge=merge,
        min_tokens=1,
        max_tokens=math.ceil(longest / (patch * merge)) ** 2,
        sides="up",
        max_side=longest,
        mean=composite.colours(images["image_mean"]),
        std=composite.colours(images["image_std"]),
    )


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    model, picture, found = spec.model, spec.prompt.picture, on_a_line(spec.model)
    if not isinstance(model.encoder, VisionTransformerConfig):
        found.append(f"model.encoder is {kind_of(model.encoder)}, the layout has vision_transformer")
    else:
        found += differences(model.encoder, VisionTransformerConfig(), SIZES, "model.encoder")
        if model.encoder.activation not in ACTIVATIONS:
            found.append(f"model.encoder.activation is {model.encoder.activation}, the layout has silu and gelu")
    if not isinstance(model.media, NativeResolutionConfig):
        found.append(f"model.media is {model.media.kind}, the layout has native")
    if not isinstance(model.projector, PatchMergerConfig):
        found.append(f"model.projector is {model.projector.kind}, the layout has patch_merger")
    # The settings of some language models went through float32 (GGUF): nearly the same number is the same number.
    elif not math.isclose(model.projector.norm_eps, eps := spec.backbone["rms_norm_eps"], rel_tol=1e-6):
        found.append(
            f"model.projector.norm_eps is {model.projector.norm_eps:g}, the layout takes the backbone's rms_norm_eps, "
            f"which is {eps:g}"
        )
    missing = [name for name in ("token", "row_break", "end") if not getattr(picture, name)]
    if missing:
        found.append(f"prompt.picture.{missing[0]} names no token, the layout has one around every picture")
    return found


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    model, picture = spec.model, spec.prompt.picture
    assert isinstance(model.encoder, VisionTransformerConfig), obstacles(spec)
    assert isinstance(model.projector, PatchMergerConfig), obstacles(spec)
    assert isinstance(model.media, NativeResolutionConfig), obstacles(spec)
    encoder, media, longest = model.encoder, model.media, _longest_side(model.media)
    tied = bool(spec.backbone.get("tie_word_embeddings"))
    config = {
        "architectures": [LAYOUT],
        "dtype": dtype,
        "image_token_index": tokenizer.special(picture.token),
        "model_type": "mistral3",
        "multimodal_projector_bias": model.projector.bias,
        "projector_hidden_act": "gelu",
        "spatial_merge_size": media.merge,
        "text_config": {**spec.backbone, "dtype": dtype},
        "tie_word_embeddings": tied,
        # Readers take a folder of this layout that does not say so for one with a faulty tokenizer of before 5.0.
        "transformers_version": version("transformers"),
        "vision_config": {
            "attention_dropout": 0.0,
            "head_dim": encoder.width // encoder.heads,
            "hidden_act": encoder.activation,
            "hidden_size": encoder.width,
            "image_size": longest,
            "intermediate_size": encoder.mlp_width,
            "model_type": "pixtral",
            "num_attention_heads": encoder.heads,
            "num_channels": 3,
            "num_hidden_layers": encoder.depth,
            "patch_size": media.patch,
            # Each reader fills in the name that it has for this kind of position.
            "rope_theta": encoder.rope_theta,
        },
        "vision_feature_layer": -1,
    }
    end = composite.end_of_answer(spec, tokenizer)
    return {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end, "pad_token_id": end},
        **_processor(media, picture, longest),
    }


def _processor(media: NativeResolutionConfig, picture: PictureConfig, longest: int) -> dict[str, Json]:
    """Two files, as readers of before transformers 5 expect them; those of after read both."""
    images = {
        **composite.IMAGES,
        "do_pad": True,
        "image_mean": list(media.mean),
        "image_processor_type": "PixtralImageProcessor",
        "image_std": list(media.std),
        "patch_size": {"height": media.patch, "width": media.patch},
        "processor_class": "PixtralProcessor",
        "size": {"longest_edge": longest},
    }
    processor = {
        "image_break_token": picture.row_break,
        "image_end_token": picture.end,
        "image_token": picture.token,
        "patch_size": media.patch,
        "processor_class": "PixtralProcessor",
        "spatial_merge_size": media.merge,
    }
    return {"preprocessor_config.json": images, "processor_config.json": processor}


def _longest_side(media: NativeResolutionConfig) -> int:
    """The longest side the official rule may leave, so that no picture gets more tokens than ours allows, px."""
    within = math.isqrt(media.max_tokens) * media.patch * media.merge
    return within if media.max_side is None else min(media.max_side, within)


canonical = composite.canonical


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    module = name.rpartition(".")[0]
    media, encoder = spec.model.pictures, spec.model.encoder
    if name.startswith("backbone.lm."):
        return same(name.replace("backbone.lm.", "language_model.", 1))
    if module == "encoder.stem":
        return shaped("vision_tower.patch_conv.weight", (3, media.patch, media.patch))
    if module == "projector.merger":
        assert isinstance(encoder, VisionTransformerConfig), "obstacles come first"
        official = "multi_modal_projector.patch_merger.merging_layer.weight"
        join, split = partial(_by_patch, width=encoder.width), partial(_by_channel, width=encoder.width)
        return KeyMap((official,), join, split)
    return by_name(name.removeprefix("encoder."), OUTSIDE, "vision_tower.transformer.layers", IN_BLOCK)


def _by_patch(tensors: Sequence[Tensor], width: int) -> Tensor:
    """The merger's columns: channel after channel there (torch's unfold), patch after patch here (see its module)."""
    ours: Tensor = tensors[0].unflatten(1, (width, -1)).transpose(1, 2).flatten(1)
    return ours


def _by_channel(tensor: Tensor, width: int) -> list[Tensor]:
    return [tensor.unflatten(1, (-1, width)).transpose(1, 2).flatten(1)]
