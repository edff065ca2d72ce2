"""InternViT and the projector behind it, in the names of their own code: what InternVL 1.5 and NVLM-D share.

    tile -> linear stem, class token, learnt positions -> blocks -> pixel shuffle -> norm, two layers

A checkpoint may carry heads of zeros, so that a number of devices divides them: they are passed over on reading, and
written as zeros. Sources: OpenGVLab/InternVL, `modeling_intern_vit.py`, `modeling_internvl_chat.py`; vLLM, `nvlm_d.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor
from torch.nn.functional import pad

from vitrail.media.config import TilesConfig
from vitrail.models.config import MLPProjectorConfig, ModelConfig, VisionTransformerConfig
from vitrail.systems.system import (
    Json,
    KeyMap,
    ModelSpec,
    by_name,
    differences,
    in_block,
    kind_of,
    on_a_line,
    refused,
    shaped,
    within,
)

# What the official class fills in where the file says nothing.
VISION: dict[str, Any] = {
    "hidden_size": 3200,
    "intermediate_size": 12800,
    "num_hidden_layers": 48,
    "num_attention_heads": 25,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 14,
    "norm_type": "rms_norm",
    "qk_normalization": True,
    "qkv_bias": False,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "initializer_factor": 0.1,
    "attention_dropout": 0.0,
    "dropout": 0.0,
}
NORMS = {"rms_norm": "rms", "layer_norm": "layer"}
STRUCTURE: dict[str, Any] = {
    "absolute": "learnt",
    "rope": "none",
    "class_token": "dropped",
    "stem_norm": "none",
    "mlp": "plain",
    "stem_bias": True,
    "bias": True,
}
"""What is the same in every InternViT."""
FREE = (
    *(
        "width",
        "depth",
        "heads",
        "mlp_width",
        "activation",
        "position_table",
        "norm",
        "norm_eps",
        "query_key_norm",
        "qkv_bias",
    ),
    *("layer_scale", "layer", "dummy_heads", "rope_theta"),
)
"""What the layout says of an encoder."""

OUTSIDE = {
    "stem.bias": "vision_model.embeddings.patch_embedding.bias",
    "projector.norm": "mlp1.0",
    "projector.first": "mlp1.1",
    "projector.second": "mlp1.3",
}
IN_BLOCK = {
    "attention_norm": "norm1",
    "query_key_value": "attn.qkv",
    "query_norm": "attn.q_norm",
    "key_norm": "attn.k_norm",
    "attention_out": "attn.proj",
    "attention_scale": "ls1",
    "mlp_norm": "norm2",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
    "mlp_scale": "ls2",
}


def encoder_of(vision: Json, layer: int, dummy_heads: int = 0) -> VisionTransformerConfig:
    """The encoder in our words. layer: whose output is taken, as the official code counts."""
    side = vision["image_size"] // vision["patch_size"]
    return VisionTransformerConfig(
        **STRUCTURE,
        width=vision["hidden_size"],
        depth=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        mlp_width=vision["intermediate_size"],
        activation=vision["hidden_act"],
        position_table=(side, side),
        norm="rms" if vision["norm_type"] == "rms_norm" else "layer",
        norm_eps=vision["layer_norm_eps"],
        query_key_norm=vision["qk_normalization"],
        qkv_bias=vision["qkv_bias"],
        layer_scale=vision["initializer_factor"],
        layer=layer if layer < 0 else layer - vision["num_hidden_layers"] - 1,
        dummy_heads=dummy_heads,
    )


def unknown(vision: Json) -> list[str]:
    """Settings of the encoder that ours does not have, each in a few words."""
    return refused(
        [
            ("vision_config.hidden_act", vision["hidden_act"], ("gelu",)),
            ("vision_config.norm_type", vision["norm_type"], tuple(NORMS)),
            ("vision_config.num_channels", vision["num_channels"], (3,)),
            ("vision_config.attention_dropout", vision["attention_dropout"], (0,)),
            ("vision_config.dropout", vision["dropout"], (0,)),
        ]
    )


def media_of(config: Json, vision: Json, **changes: Any) -> TilesConfig:
    """The tiles of an official configuration, with ImageNet's mean and deviation."""
    return TilesConfig(
        patch=vision["patch_size"],
        merge=round(1 / config.get("downsample_ratio", 0.5)),
        tile=config.get("force_image_size") or vision["image_size"],
        min_tiles=config.get("min_dynamic_patch", 1),
        max_tiles=config.get("max_dynamic_patch", 6) if config.get("dynamic_image_size", False) else 1,
        thumbnail=config.get("use_thumbnail", False),
        **changes,
    )


def projector_of(config: Json, hidden: int, *, bias: bool) -> MLPProjectorConfig:
    """`mlp1`, with the order of tokens that `ps_version` names."""
    order: Literal["rows", "columns"] = "rows" if config.get("ps_version", "v1") == "v2" else "columns"
    return MLPProjectorConfig(hidden=hidden, bias=bias, norm="layer", norm_at="merged", order=order)


def obstacles(model: ModelConfig, projector: MLPProjectorConfig) -> list[str]:
    """Why encoder, projector and pictures of a model cannot be written in these names, each in a few words."""
    found = on_a_line(model)
    if not isinstance(model.encoder, VisionTransformerConfig):
        found.append(f"model.encoder is {kind_of(model.encoder)}, the layout has vision_transformer")
    else:
        layout = VisionTransformerConfig(**STRUCTURE, position_table=(1, 1))
        found += differences(model.encoder, layout, FREE, "model.encoder")
        if model.encoder.layer_scale is None:
            found.append("model.encoder.layer_scale is None, the layout has one")
    if not isinstance(model.projector, MLPProjectorConfig):
        found.append(f"model.projector is {model.projector.kind}, the layout has mlp")
    else:
        found += differences(model.projector, projector, ("order", "hidden"), "model.projector")
    if not isinstance(model.media, TilesConfig):
        found.append(f"model.media is {model.media.kind}, the layout has tiles")
    return found


def vision_settings(encoder: VisionTransformerConfig, media: TilesConfig) -> dict[str, Any]:
    """`vision_config` as the official code has it, for a model without obstacles."""
    assert encoder.position_table is not None, "obstacles come first"
    return {
        **VISION,
        "architectures": ["InternVisionModel"],
        "model_type": "intern_vit_6b",
        "hidden_size": encoder.width,
        "intermediate_size": encoder.mlp_width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "image_size": encoder.position_table[0] * media.patch,
        "patch_size": media.patch,
        "norm_type": "rms_norm" if encoder.norm == "rms" else "layer_norm",
        "qk_normalization": encoder.query_key_norm,
        "qkv_bias": encoder.qkv_bias,
        "layer_norm_eps": encoder.norm_eps,
        "initializer_factor": encoder.layer_scale,
    }


def outer_settings(model: ModelConfig) -> dict[str, Any]:
    """What config.json says of tiles, shuffle and layer, for a model without obstacles."""
    encoder, media, projector = model.encoder, model.media, model.projector
    assert isinstance(encoder, VisionTransformerConfig), "obstacles come first"
    assert isinstance(media, TilesConfig), "obstacles come first"
    assert isinstance(projector, MLPProjectorConfig), "obstacles come first"
    return {
        "downsample_ratio": 1 / media.merge,
        "dynamic_image_size": media.max_tiles > 1,
        "force_image_size": media.tile,
        "max_dynamic_patch": media.max_tiles,
        "min_dynamic_patch": media.min_tiles,
        "pad2square": False,
        "ps_version": "v2" if projector.order == "rows" else "v1",
        "select_layer": encoder.layer,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": media.thumbnail,
        "vision_config": vision_settings(encoder, media),
    }


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where a tensor of encoder or projector is kept."""
    encoder, media = spec.model.encoder, spec.model.pictures
    assert isinstance(encoder, VisionTransformerConfig), "obstacles come first"
    match name:
        case "encoder.class_token":
            return within("vision_model.embeddings.class_embedding", 2)
        case "encoder.position_table":
            return within("vision_model.embeddings.position_embedding", 1)
        case "encoder.stem.weight":
            return shaped("vision_model.embeddings.patch_embedding.weight", (3, media.patch, media.patch))
    kept = by_name(name.removeprefix("encoder."), OUTSIDE, "vision_model.encoder.layers", IN_BLOCK)
    dummies = encoder.dummy_heads * (encoder.width // encoder.heads)
    if dummies and name.startswith("encoder.blocks."):
        part = in_block(name)[1]
        module = part.rpartition(".")[0]
        if module in ("query_key_value", "query_norm", "key_norm") or part == "attention_out.weight":
            return _padded(kept.names[0], encoder.width, dummies, module)
    return kept


def _padded(name: str, width: int, dummies: int, part: str) -> KeyMap:
    """Kept with so many channels of dummy heads: after ours, or after those of queries, of keys and of values."""
    last = part == "attention_out"
    if part == "query_key_value":
        return KeyMap((name,), partial(_three_cut, width=width), partial(_three_padded, dummies=dummies))

    def cut(tensors: Sequence[Tensor]) -> Tensor:
        return tensors[0][..., :width] if last else tensors[0][:width]

    def padded(tensor: Tensor) -> list[Tensor]:
        # A padding is named from the last axis on.
        return [pad(tensor, (0, dummies))]

    return KeyMap((name,), cut, padded)


def _three_cut(tensors: Sequence[Tensor], width: int) -> Tensor:
    ours: Tensor = tensors[0].unflatten(0, (3, -1))[:, :width].flatten(0, 1)
    return ours


def _three_padded(tensor: Tensor, dummies: int) -> list[Tensor]:
    apart = tensor.unflatten(0, (3, -1))
    after = (0, dummies) if apart.ndim == 2 else (0, 0, 0, dummies)
    return [pad(apart, after).flatten(0, 1)]
