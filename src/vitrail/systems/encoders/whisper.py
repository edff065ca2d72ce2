"""The layout of Whisper's encoder: that of transformers' `WhisperModel` and `WhisperForConditionalGeneration`.

    log-mel frames -> two convolutions, the second of stride 2 -> sinusoidal positions -> blocks -> LayerNorm

A folder of the whole Whisper is read, its decoder passed over. Files are written under the names of the hub. Keys have
no bias. The positions are fixed, but part of the checkpoint.
Source: transformers 5.23, `models/whisper`; arXiv 2212.04356, table 1, for the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vitrail.contracts.errors import WeightsError
from vitrail.media.config import FRAMES_A_SECOND, LogMelConfig
from vitrail.models.config import WhisperEncoderConfig
from vitrail.models.encoders.whisper import KERNEL
from vitrail.systems.encoders.clip import ACTIVATIONS
from vitrail.systems.system import EncoderSpec, KeyMap, Official, before, by_name, refused

LAYOUT = "WhisperModel"

# What transformers' class fills in where the file says nothing.
CONFIG: dict[str, Any] = {
    "num_mel_bins": 80,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "d_model": 384,
    "max_source_positions": 1500,
    "activation_function": "gelu",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}
# What the feature extractor fills in, and all that our media rule can do.
SOUND: dict[str, Any] = {"sampling_rate": 16_000, "n_fft": 400, "hop_length": 160, "dither": 0.0, "do_normalize": False}

SIZES = {
    "tiny": (384, 4, 6),
    "base": (512, 6, 8),
    "small": (768, 12, 12),
    "medium": (1024, 24, 16),
    "large": (1280, 32, 20),
}
"""Width, depth and heads of the published sizes; an MLP is four times as wide."""

TOWER = "model.encoder."
OTHERS = ("decoder.", "proj_out.")
"""Starts of the names in a whole Whisper that are not of its encoder."""

OUTSIDE = {
    "first.bias": "conv1.bias",
    "second.bias": "conv2.bias",
    "position_table": "embed_positions.weight",
    "final_norm": "layer_norm",
}
CONVOLUTIONS = {"first.weight": "conv1.weight", "second.weight": "conv2.weight"}
IN_BLOCK: dict[str, str | tuple[str, ...]] = {
    "attention_norm": "self_attn_layer_norm",
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "query_key_value.bias": ("self_attn.q_proj.bias", "self_attn.v_proj.bias"),
    "attention_out": "self_attn.out_proj",
    "mlp_norm": "final_layer_norm",
    "mlp.up": "fc1",
    "mlp.down": "fc2",
}


def published(size: str) -> WhisperEncoderConfig:
    """The encoder of that size, a name in SIZES; `large` reads 80 bands, from its third version on 128."""
    width, depth, heads = SIZES[size]
    return WhisperEncoderConfig(width=width, depth=depth, heads=heads, mlp_width=4 * width)


def read(official: Official) -> EncoderSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    config = {**CONFIG, **official.config}
    sound = {**SOUND, **official.files.get("preprocessor_config.json", {})}
    unknown = refused(
        [
            ("activation_function", config["activation_function"], tuple(ACTIVATIONS)),
            *((name, config[name], (0,)) for name in ("dropout", "attention_dropout", "activation_dropout")),
            *((f"feature extractor's {name}", sound[name], (value,)) for name, value in SOUND.items()),
        ]
    )
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    encoder = WhisperEncoderConfig(
        width=config["d_model"],
        depth=config["encoder_layers"],
        heads=config["encoder_attention_heads"],
        mlp_width=config["encoder_ffn_dim"],
        max_positions=config["max_source_positions"],
        activation=ACTIVATIONS[config["activation_function"]],
    )
    seconds = encoder.stride * encoder.max_positions / FRAMES_A_SECOND
    return EncoderSpec(encoder, LogMelConfig(bands=config["num_mel_bins"], seconds=seconds))


def canonical(name: str) -> str | None:
    """The hub's name, of which transformers may leave the first part out. None for the decoder."""
    inside = name.removeprefix("model.")
    if inside.startswith(OTHERS):
        return None
    return TOWER + inside.removeprefix("encoder.")


def key_map(name: str, spec: EncoderSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    inside = name.removeprefix("encoder.")
    if inside in CONVOLUTIONS:
        return KeyMap((TOWER + CONVOLUTIONS[inside],), _joined, _split)
    return before(TOWER, by_name(inside, OUTSIDE, "layers", IN_BLOCK))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """[out, in, 3] to [out, 3 * in]: neighbour by neighbour, as our product takes them."""
    return tensors[0].transpose(1, 2).flatten(1)


def _split(tensor: Tensor) -> list[Tensor]:
    return [tensor.unflatten(1, (KERNEL, -1)).transpose(1, 2)]
