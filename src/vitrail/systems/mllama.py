"""The layout of Llama 3.2 Vision in transformers: `MllamaForConditionalGeneration`.

    canvas of tiles -> two encoders -> linear layer -> gated blocks between the layers of Llama

The official layers are counted with the blocks among them, ours without. Its embeddings have eight rows beyond the
vocabulary, of which one is the picture's token. Source: transformers 5.23, `models/mllama`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.media.config import CanvasConfig
from vitrail.models.backbones.checks import EXTRA
from vitrail.models.config import (
    DecoderConfig,
    GatedCrossAttentionConfig,
    LinearProjectorConfig,
    MllamaEncoderConfig,
    ModelConfig,
)
from vitrail.prompts.config import PICTURES, PromptConfig
from vitrail.systems import composite
from vitrail.systems.composite import NOTES
from vitrail.systems.system import (
    Json,
    KeyMap,
    ModelSpec,
    Official,
    before,
    by_name,
    differences,
    kind_of,
    refused,
    same,
    shaped,
    square,
)

LAYOUT = "MllamaForConditionalGeneration"

# What transformers' classes fill in where the files say nothing.
TEXT: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "hidden_act": "silu",
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072,
    "initializer_range": 0.02,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    "tie_word_embeddings": False,
    "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
    "dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "pad_token_id": 128004,
    "use_cache": True,
}
VISION: dict[str, Any] = {
    "hidden_size": 1280,
    "hidden_act": "gelu",
    "num_hidden_layers": 32,
    "num_global_layers": 8,
    "attention_heads": 16,
    "num_channels": 3,
    "intermediate_size": 5120,
    "vision_output_dim": 7680,
    "image_size": 448,
    "patch_size": 14,
    "norm_eps": 1e-5,
    "max_num_tiles": 4,
    "intermediate_layers_indices": [3, 7, 15, 23, 30],
}
IMAGES: dict[str, Any] = {
    "resample": 2,
    "image_mean": CanvasConfig.mean,
    "image_std": CanvasConfig.std,
    "do_pad": True,
}
EXTRA_ROWS = 8
"""Of the embedding table, fixed in transformers."""
OURS = ("cross_attention_layers", "dropout", "model_type")
"""Settings of the official language model that ours does not have."""
FUSION = GatedCrossAttentionConfig(sees="last", blind="attends", query_key_norm=True)
PROJECTOR = LinearProjectorConfig()
TOWER, TEXT_MODEL = "vision_model.", "language_model.model."
MODULES = {
    "model.language_model.": TEXT_MODEL,
    "model.vision_model.": TOWER,
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}
OUTSIDE = {
    "class_token": f"{TOWER}class_embedding",
    "position_table": f"{TOWER}gated_positional_embedding.embedding",
    "position_gate": f"{TOWER}gated_positional_embedding.gate",
    "tile_position_table": f"{TOWER}gated_positional_embedding.tile_embedding.weight",
    "tile_table_before": f"{TOWER}pre_tile_positional_embedding.embedding.weight",
    "tile_gate_before": f"{TOWER}pre_tile_positional_embedding.gate",
    "tile_table_after": f"{TOWER}post_tile_positional_embedding.embedding.weight",
    "tile_gate_after": f"{TOWER}post_tile_positional_embedding.gate",
    "norm_before": f"{TOWER}layernorm_pre",
    "norm_after": f"{TOWER}layernorm_post",
}
IN_TOWER: dict[str, str | tuple[str, ...]] = {
    "attention_norm": "input_layernorm",
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": "self_attn.o_proj",
    "attention_gate": "gate_attn",
    "mlp_norm": "post_attention_layernorm",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
    "mlp_gate": "gate_ffn",
}
IN_BLOCK: dict[str, str | tuple[str, ...]] = {
    "attention_norm": "input_layernorm",
    "query": "cross_attn.q_proj",
    "key": "cross_attn.k_proj",
    "value": "cross_attn.v_proj",
    "query_norm": "cross_attn.q_norm",
    "key_norm": "cross_attn.k_norm",
    "attention_out": "cross_attn.o_proj",
    "attention_gate": "cross_attn_attn_gate",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down": "mlp.down_proj",
    "mlp_gate": "cross_attn_mlp_gate",
}


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    text = {**TEXT, **official.config.get("text_config", {})}
    vision = {**VISION, **official.config.get("vision_config", {})}
    # Weights alone: the processor is taken for the one that they were made for.
    images = composite.image_settings(official, {**IMAGES, "max_image_tiles": vision["max_num_tiles"]})
    media, encoder = _media(vision, images), _encoder(vision)
    unknown = _unknown(text, vision, images, media)
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    crossed = sorted(text["cross_attention_layers"])
    rest = {key: value for key, value in text.items() if key not in (*NOTES, *OURS)}
    layers = text["num_hidden_layers"] - len(crossed)
    backbone = {"model_type": "llama", **rest, "num_hidden_layers": layers, EXTRA: EXTRA_ROWS}
    model = ModelConfig(
        backbone=DecoderConfig(config=backbone, tokenizer="bytes"),
        media=media,
        encoder=encoder,
        projector=PROJECTOR,
        fusion=GatedCrossAttentionConfig(
            at=tuple(number - before for before, number in enumerate(crossed)),
            sees=FUSION.sees,
            blind=FUSION.blind,
            query_key_norm=True,
        ),
    )
    return ModelSpec(model, PromptConfig(picture=PICTURES["llama3_vision"]), backbone)


def _media(vision: Json, images: Json) -> CanvasConfig:
    return CanvasConfig(
        patch=square(vision["patch_size"], LAYOUT),
        tile=square(vision["image_size"], LAYOUT),
        max_tiles=vision["max_num_tiles"],
        mean=composite.colours(images["image_mean"]),
        std=composite.colours(images["image_std"]),
    )


def _encoder(vision: Json) -> MllamaEncoderConfig:
    return MllamaEncoderConfig(
        width=vision["hidden_size"],
        depth=vision["num_hidden_layers"],
        global_depth=vision["num_global_layers"],
        heads=vision["attention_heads"],
        mlp_width=vision["intermediate_size"],
        norm_eps=vision["norm_eps"],
        kept=tuple(vision["intermediate_layers_indices"]),
        side=square(vision["image_size"], LAYOUT) // square(vision["patch_size"], LAYOUT),
        max_tiles=vision["max_num_tiles"],
    )


def _unknown(text: Json, vision: Json, images: Json, media: CanvasConfig) -> list[str]:
    """Settings that our components do not have."""
    grids = [list(grid) for grid in media.grids]
    width = vision["hidden_size"] * (1 + len(vision["intermediate_layers_indices"]))
    wanted: list[tuple[str, Any, Sequence[Any]]] = [
        ("text_config.hidden_act", text["hidden_act"], ("silu",)),
        ("text_config.dropout", text["dropout"], (0,)),
        ("text_config.tie_word_embeddings", text["tie_word_embeddings"], (False,)),
        ("vision_config.hidden_act", vision["hidden_act"], ("gelu",)),
        ("vision_config.num_channels", vision["num_channels"], (3,)),
        ("vision_config.vision_output_dim", vision["vision_output_dim"], (width,)),
        ("vision_config.supported_aspect_ratios", vision.get("supported_aspect_ratios") or grids, (grids,)),
        ("image processor's resample", images["resample"], (2,)),
        ("image processor's max_image_tiles", images["max_image_tiles"], (media.max_tiles,)),
    ]
    flags = [name for name in (*composite.IMAGES, "do_pad") if name.startswith("do_")]
    return refused([*wanted, *((f"image processor's {name}", images[name], (True,)) for name in flags)])


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    model = spec.model
    found = [f"model.streams has {name}, the layout has vision alone" for name in model.streams]
    if model.positions.kind != "line":
        found.append(f"model.positions is {model.positions.kind}, the layout has line")
    if not isinstance(model.encoder, MllamaEncoderConfig):
        found.append(f"model.encoder is {kind_of(model.encoder)}, the layout has mllama")
    if not isinstance(model.projector, LinearProjectorConfig):
        found.append(f"model.projector is {model.projector.kind}, the layout has linear")
    else:
        found += differences(model.projector, PROJECTOR, (), "model.projector")
    if not isinstance(model.fusion, GatedCrossAttentionConfig):
        found.append(f"model.fusion is {model.fusion.kind}, the layout has gated_cross_attention")
    else:
        found += differences(model.fusion, FUSION, ("every", "first", "at"), "model.fusion")
    if spec.backbone.get("model_type") != "llama":
        found.append(f"the language model is a {spec.backbone.get('model_type')}, the layout has a llama")
    if spec.backbone.get(EXTRA) != EXTRA_ROWS:
        found.append(f"model.backbone.config.{EXTRA} is {spec.backbone.get(EXTRA, 0)}, the layout has {EXTRA_ROWS}")
    if not spec.prompt.picture.start:
        found.append("prompt.picture.start names no token, the layout has one that stands for a picture")
    return found


def _before(spec: ModelSpec) -> tuple[int, ...]:
    """The layers, counted without the blocks, that a block stands before."""
    fusion = spec.model.fusion
    assert isinstance(fusion, GatedCrossAttentionConfig), "obstacles come first"
    return fusion.layers(spec.backbone["num_hidden_layers"])


def _crossed(spec: ModelSpec) -> list[int]:
    """The official numbers of the blocks, counted among the layers."""
    return [layer + number for number, layer in enumerate(_before(spec))]


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    encoder, media, crossed = spec.model.encoder, spec.model.media, _crossed(spec)
    assert isinstance(encoder, MllamaEncoderConfig), obstacles(spec)
    assert isinstance(media, CanvasConfig), obstacles(spec)
    known = {key: value for key, value in spec.backbone.items() if key in TEXT}
    config = {
        "architectures": [LAYOUT],
        "dtype": dtype,
        "image_token_index": tokenizer.special(spec.prompt.picture.start),
        "model_type": "mllama",
        "text_config": {
            **TEXT,
            **known,
            "cross_attention_layers": crossed,
            "dtype": dtype,
            "model_type": "mllama_text_model",
            "num_hidden_layers": spec.backbone["num_hidden_layers"] + len(crossed),
        },
        "tie_word_embeddings": False,
        "vision_config": {
            **VISION,
            "attention_heads": encoder.heads,
            "hidden_size": encoder.width,
            "image_size": media.tile,
            "intermediate_layers_indices": list(encoder.kept),
            "intermediate_size": encoder.mlp_width,
            "max_num_tiles": encoder.max_tiles,
            "model_type": "mllama_vision_model",
            "norm_eps": encoder.norm_eps,
            "num_global_layers": encoder.global_depth,
            "num_hidden_layers": encoder.depth,
            "patch_size": media.patch,
            "supported_aspect_ratios": [list(grid) for grid in media.grids],
            "vision_output_dim": encoder.width * (1 + len(encoder.kept)),
        },
    }
    end = composite.end_of_answer(spec, tokenizer)
    images = {
        **composite.IMAGES,
        "do_pad": True,
        "image_mean": list(media.mean),
        "image_processor_type": "MllamaImageProcessor",
        "image_std": list(media.std),
        "max_image_tiles": media.max_tiles,
        "processor_class": "MllamaProcessor",
        "resample": 2,
        "size": {"height": media.tile, "width": media.tile},
    }
    return {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end, "pad_token_id": end},
        "preprocessor_config.json": images,
        "processor_config.json": {"processor_class": "MllamaProcessor"},
    }


def canonical(name: str) -> str | None:
    """The name on disk; see `composite.canonical`."""
    return composite.canonical(name, MODULES)


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    media, crossed = spec.model.media, _crossed(spec)
    assert isinstance(media, CanvasConfig), "obstacles come first"
    component, _, inside = name.partition(".")
    match component:
        case "projector":
            return same(f"multi_modal_projector.{inside.removeprefix('linear.')}")
        case "fusion":
            _, number, part = inside.split(".", 2)
            return by_name(f"blocks.{crossed[int(number)]}.{part}", {}, f"{TEXT_MODEL}layers", IN_BLOCK)
        case "encoder" if inside == "stem.weight":
            return shaped(f"{TOWER}patch_embedding.weight", (3, media.patch, media.patch))
        case "encoder" if inside.startswith("global_blocks."):
            within = inside.removeprefix("global_")
            return by_name(within, {}, f"{TOWER}global_transformer.layers", IN_TOWER)
        case "encoder":
            return by_name(inside, OUTSIDE, f"{TOWER}transformer.layers", IN_TOWER)
    inside = inside.removeprefix("lm.")
    if not inside.startswith("model.layers."):
        return before("language_model.", same(inside))
    _, _, layer, part = inside.split(".", 3)
    own = [number for number in range(spec.backbone["num_hidden_layers"] + len(crossed)) if number not in crossed]
    return same(f"{TEXT_MODEL}layers.{own[int(layer)]}.{part}")
