"""The layout of DeepSeek-VL's own code, `MultiModalityCausalLM` (`model_type: multi_modality`): the plain model and the
hybrid.

Its encoders are named, and its code has their sizes in tables. Sizes that no table has are written, and read, under
`model_tables`, which is ours. An attention pool that the code makes and never asks is kept; two norms of the hybrid
that it makes and never applies are passed over, and not written.
Source: deepseek-ai/DeepSeek-VL, `deepseek_vl/models`; arXiv 2403.05525.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    VisionTransformerConfig,
)
from vitrail.systems import composite, deepseek_vl, deepseek_vl_hybrid, internvl_1_5
from vitrail.systems.deepseek_vl_hybrid import HIGH, high_of, name_of
from vitrail.systems.encoders import deepseek_towers as towers
from vitrail.systems.system import Json, KeyMap, ModelSpec, Official, before, refused, same

LAYOUT = "MultiModalityCausalLM"

PLAIN, HYBRID = "CLIPVisionTower", "HybridVisionTower"
ALIGNERS = {PLAIN: "mlp_gelu", HYBRID: "low_high_hybrid_split_mlp_gelu"}
# What the classes of language model and image processor fill in where the files say nothing.
LANGUAGE: dict[str, Any] = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
IMAGES: dict[str, Any] = {
    "min_size": 14,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "rescale_factor": 1 / 255,
}
GREY = (127, 127, 127)
"""What fills the square where there is no mean."""
UNUSED = tuple(f"vision_model.{name}_layer_norm.{kind}" for name in ("high", "low") for kind in ("weight", "bias"))
OUTSIDE = {
    PLAIN: {"projector.first": "aligner.layers.0", "projector.second": "aligner.layers.2"},
    HYBRID: {
        "projector.beside": "aligner.high_up_proj",
        "projector.own": "aligner.low_up_proj",
        "projector.out": "aligner.layers.1",
    },
}


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    config = official.config
    kind = config["vision_config"].get("cls", PLAIN)
    unknown = refused([("vision_config.cls", kind, tuple(ALIGNERS))])
    if not unknown:
        unknown = _unknown(config, kind)
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    given = {"architectures": ["LlamaForCausalLM"], **LANGUAGE, **config["language_config"]}
    backbone = DecoderConfig(config=internvl_1_5.language_settings(given), tokenizer="bytes")
    params = config["vision_config"]["params"]
    model = _plain(official, params, backbone) if kind == PLAIN else _hybrid(official, params, backbone)
    redundant = frozenset(UNUSED) if kind == HYBRID else frozenset[str]()
    return replace(deepseek_vl.spec_of(model), redundant=redundant)


def _unknown(config: Json, kind: str) -> list[str]:
    """Settings that our components do not have."""
    params, aligner = config["vision_config"]["params"], config["aligner_config"]["params"]
    wanted: list[tuple[str, Any, Sequence[Any]]] = [
        ("aligner_config.params.projector_type", aligner.get("projector_type"), (ALIGNERS[kind],)),
        ("aligner_config.params.depth", aligner.get("depth", 1), (2,)),
    ]
    settings = {"params": params}
    if kind == HYBRID:
        wanted.append(("vision_config.params.concat_type", params.get("concat_type"), ("tuple",)))
        settings = {name: params[name] for name in ("low_res_cfg", "high_res_cfg")}
    for name, tower in settings.items():
        wanted += [
            (f"{name}.select_feature", tower.get("select_feature", "same"), ("same",)),
            (f"{name}.select_layer", tower.get("select_layer", -1), (-1,)),
        ]
    return refused(wanted)


def _table(config: Json, name: str, known: Json) -> dict[str, Any]:
    """Sizes of the encoder of that name. Raises WeightsError for an unknown one."""
    tables = {**known, **config.get("model_tables", {})}
    if name not in tables:
        raise WeightsError(f"this model of {LAYOUT} has an encoder '{name}', known: {', '.join(tables)}")
    return dict(tables[name])


def _siglip(official: Official, tower: Json, prefix: str) -> tuple[VisionTransformerConfig, int]:
    """The encoder, and the side of its patches, px. prefix: of the names of its tensors."""
    table = _table(official.config, tower["model_name"], towers.SIGLIP_TABLES)
    pooled = table.get("global_pool") == "map"
    if official.tensors:
        pooled = f"{prefix}{towers.POOL}latent" in official.tensors
    return towers.siglip_of(table, LAYOUT, pooled=pooled), int(table["patch_size"])


def _normalised(official: Official, tower: Json) -> dict[str, Any]:
    """Mean and deviation of pixels, which the tower subtracts or the processor; one of them must."""
    images, said = _images(official), "preprocessor_config.json" in official.files
    own = tower.get("pixel_mean") is not None
    if images.get("do_normalize", not own) and own:
        raise WeightsError(
            f"this model of {LAYOUT} normalises pixels twice: do_normalize is true, and so is pixel_mean"
        )
    if own:
        mean, std = tower["pixel_mean"], tower["pixel_std"]
    elif images.get("do_normalize", True):
        mean, std = images["image_mean"], images["image_std"]
    else:
        mean, std = (0.0,) * 3, (1.0,) * 3
    assert said or not images.get("do_normalize"), "a class's own settings do not say so"
    return {"mean": composite.colours(mean), "std": composite.colours(std)}


def _images(official: Official) -> dict[str, Any]:
    return {**IMAGES, **official.files.get("preprocessor_config.json", {})}


def _square(official: Official, side: int) -> dict[str, Any]:
    """What is the same in all squares that are made of a picture: how it is scaled, and what fills the rest."""
    images = _images(official)
    mean = images["image_mean"]
    colour = GREY if mean is None else PaddedConfig(mean=composite.colours(mean)).colour
    return {"sides": "down", "least": min(images["min_size"], side), "background": colour}


def _plain(official: Official, params: Json, backbone: DecoderConfig) -> ModelConfig:
    encoder, patch = _siglip(official, params, "vision_model.vision_tower.")
    side = int(_images(official).get("image_size") or params.get("image_size", 336))
    return ModelConfig(
        backbone=backbone,
        media=PaddedConfig(patch=patch, side=side, **_normalised(official, params), **_square(official, side)),
        encoder=encoder,
        projector=deepseek_vl.PROJECTOR,
    )


def _hybrid(official: Official, params: Json, backbone: DecoderConfig) -> ModelConfig:
    low, high = params["low_res_cfg"], params["high_res_cfg"]
    encoder, patch = _siglip(official, low, "vision_model.vision_tower_low.vision_tower.")
    table = _table(official.config, high["model_name"], towers.SAM_TABLES)
    side = int(high["image_size"])
    square = _square(official, side)
    large = PaddedConfig(patch=table["patch_size"], side=side, **_normalised(official, high), **square)
    return ModelConfig(
        backbone=backbone,
        media=PaddedConfig(
            patch=patch, side=low["image_size"], larger=side, shrink="bilinear", **_normalised(official, low), **square
        ),
        encoder=encoder,
        projector=JoinedConfig(joins=HIGH),
        streams={HIGH: towers.high_of(table, large, LAYOUT)},
    )


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    model = spec.model
    hybrid = isinstance(model.projector, JoinedConfig)
    found = deepseek_vl_hybrid.two_stream_obstacles(spec) if hybrid else deepseek_vl.obstacles(spec)
    if found:
        return found
    encoder = model.encoder
    assert isinstance(encoder, VisionTransformerConfig), "said above"
    for setting, wanted in (("activation", "gelu"), ("norm_eps", towers.EPS)):
        if getattr(encoder, setting) != wanted:
            found.append(f"model.encoder.{setting} is {getattr(encoder, setting)}, the layout has {wanted}")
    if not hybrid:
        return found
    high, where = high_of(model), f"model.streams.{name_of(model)}"
    assert isinstance(high.encoder, VisionTransformerConfig), "said above"
    assert isinstance(high.projector, DownsampleConfig), "said above"
    if high.encoder.mlp_width != towers.MLP_RATIO * high.encoder.width:
        found.append(
            f"{where}.encoder.mlp_width is {high.encoder.mlp_width}, the layout has {towers.MLP_RATIO} times the width"
        )
    rows, columns = high.projector.grid
    if rows != columns:
        found.append(f"{where}.projector.grid is {rows} x {columns}, the layout has a square")
    return found


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    model, media = spec.model, spec.model.media
    hybrid = isinstance(model.projector, JoinedConfig)
    assert isinstance(media, PaddedConfig), obstacles(spec)
    vision, tables = _vision(model)
    encoder = model.encoder
    assert isinstance(encoder, VisionTransformerConfig), obstacles(spec)
    aligner = {
        "depth": 2,
        "input_dim": encoder.width,
        "n_embed": spec.backbone["hidden_size"],
        "projector_type": ALIGNERS[HYBRID if hybrid else PLAIN],
    }
    config: dict[str, Any] = {
        "aligner_config": {"cls": "MlpProjector", "model_type": "aligner", "params": aligner},
        "architectures": [LAYOUT],
        "language_config": {**internvl_1_5.written_language(spec.backbone, dtype), "model_type": "llama"},
        "model_type": "multi_modality",
        "torch_dtype": dtype,
        "vision_config": {"cls": HYBRID if hybrid else PLAIN, "model_type": "vision", "params": vision},
    }
    if tables:
        config["model_tables"] = tables
    # What fills the square is said as a mean, which is cut to a whole number again.
    exact = PaddedConfig(mean=media.mean).colour == media.colour and not hybrid
    images = {
        "do_normalize": not hybrid,
        "image_mean": list(media.mean) if exact else [(value + 0.5) / 255 for value in media.colour],
        "image_processor_type": "VLMImageProcessor",
        "image_size": media.larger or media.side,
        "image_std": list(media.std),
        "min_size": media.least,
        "processor_class": "VLChatProcessor",
        "rescale_factor": 1 / 255,
    }
    processor = {
        "add_special_token": False,
        "ignore_id": -100,
        "image_tag": spec.prompt.picture.token,
        "mask_prompt": True,
        "num_image_tokens": media.max_tokens,
        "processor_class": "VLChatProcessor",
        "sft_format": "deepseek",
    }
    end = composite.end_of_answer(spec, tokenizer)
    return {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end, "pad_token_id": end},
        "preprocessor_config.json": images,
        "processor_config.json": processor,
    }


def _vision(model: ModelConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the vision tower, and the sizes that no official table has."""
    encoder, media = model.encoder, model.media
    assert isinstance(encoder, VisionTransformerConfig), "obstacles come first"
    assert isinstance(media, PaddedConfig), "obstacles come first"
    siglip_name, sam_name = towers.OWN
    found = {siglip_name: towers.siglip_table(encoder, media.patch)}
    low = {"image_size": media.side, "model_name": siglip_name, "select_feature": "same", "select_layer": -1}
    params: dict[str, Any] = low
    if isinstance(model.projector, JoinedConfig):
        high = high_of(model)
        assert isinstance(high.media, PaddedConfig), "obstacles come first"
        found[sam_name] = towers.sam_table(high)
        large = {**low, "image_size": high.media.side, "model_name": sam_name}
        params = {
            "concat_type": "tuple",
            "freeze_high": True,
            "freeze_low": True,
            "high_res_cfg": {**large, "pixel_mean": list(high.media.mean), "pixel_std": list(high.media.std)},
            "low_res_cfg": {**low, "pixel_mean": list(media.mean), "pixel_std": list(media.std)},
        }
    known = {**towers.SIGLIP_TABLES, **towers.SAM_TABLES}
    return params, {name: table for name, table in found.items() if table != known[name]}


canonical = internvl_1_5.canonical


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    if name.startswith("backbone.lm."):
        return same(name.replace("backbone.lm.", "language_model.", 1))
    model = spec.model
    kind, stream = (HYBRID if isinstance(model.projector, JoinedConfig) else PLAIN), name_of(model)
    module, _, ending = name.rpartition(".")
    if module in OUTSIDE[kind]:
        return same(f"{OUTSIDE[kind][module]}.{ending}")
    large = "vision_model.vision_tower_high.vision_tower."
    if kind == HYBRID and name.startswith(f"{stream}_projector."):
        return before(large, towers.in_high_projector(name.removeprefix(f"{stream}_projector.")))
    if kind == HYBRID and name.startswith(f"{stream}_encoder."):
        return before(large, towers.in_sam(name.removeprefix(f"{stream}_encoder."), high_of(model)))
    small = "vision_model.vision_tower_low.vision_tower." if kind == HYBRID else "vision_model.vision_tower."
    return before(small, towers.in_siglip(name.removeprefix("encoder."), model.pictures.patch))
