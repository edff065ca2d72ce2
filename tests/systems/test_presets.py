"""Published encoders, projectors and systems at full size: their parameters are the official number."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitrail.build.starting import unfilled
from vitrail.models.config import VisionTransformerConfig
from vitrail.models.encoders.vision_transformer import VisionTransformer
from vitrail.models.projectors.mlp import MLPProjector
from vitrail.systems import folder, internvl, internvl_1_5, mllama, nvlm
from vitrail.systems.encoders import presets, qwen_vit
from vitrail.systems.system import Official

# Of the official configurations; 2 x width less where a norm of the official class is not on the way to the features.
ENCODERS = {
    "clip_large": (14, 303_179_776 - 2 * 1024),
    "siglip_large": (16, 303_688_704),
    "siglip_so400m": (14, 412_987_248),
    "sam_base": (16, 89_670_912),
    "eva_clip_g": (14, 985_952_256 - 2 * 1408),
    "openclip_big_g": (14, 1_842_770_688),
    "intern_vit_6b": (14, 5_536_496_000),
    "intern_vit_300m": (14, 304_012_288),
    "pixtral_large": (16, 403_489_792),
    "qwen2_vit": (14, 675_759_104 - 44_575_744),
    "qwen2_5_vit": (14, 631_975_680),
    "moon_vit": (14, 416_866_032),
}


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def encoder_of(config: VisionTransformerConfig, patch: int) -> VisionTransformer:
    with torch.device("meta"):
        return VisionTransformer(config, 3 * patch**2)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_encoders_parameters_are_the_official_number(name: str) -> None:
    patch, count = ENCODERS[name]
    assert parameters(encoder_of(getattr(presets, name)(), patch)) == count


def test_every_preset_is_counted() -> None:
    functions = {name for name, value in vars(presets).items() if callable(value) and name.islower()}
    assert {name for name in functions if not name.startswith("_")} == set(ENCODERS)


def test_internvits_first_version_has_three_more_blocks() -> None:
    assert parameters(encoder_of(presets.intern_vit_6b(48, 224), 14)) == 5_902_793_600


def test_readers_of_official_settings_make_the_presets() -> None:
    """Two ways to the same configuration."""
    settings = {**internvl_1_5.intern_vit.VISION, "num_hidden_layers": 45, "image_size": 448}
    assert internvl_1_5.intern_vit.encoder_of(settings, -1) == presets.intern_vit_6b()
    assert qwen_vit.encoder_2(qwen_vit.VISION_2) == presets.qwen2_vit()
    windowed = {**qwen_vit.VISION_2_5, "hidden_size": 1280}
    assert qwen_vit.encoder_2_5(windowed) == presets.qwen2_5_vit()


def test_qwen2_vls_merger_has_the_official_number() -> None:
    encoder = presets.qwen2_vit()
    with torch.device("meta"):
        merger = MLPProjector(qwen_vit.merger(encoder, 2), encoder.width, 3584, 4)
    assert parameters(merger) == 44_575_744


def official_shapes(system: Any, config: dict[str, Any]) -> dict[str, torch.Size]:
    """Of the tensors that a system of these settings has on disk."""
    spec = system.read(Official({"config.json": config}, {}))
    with torch.device("meta"):
        model = unfilled(spec.model, spec.backbone)
    return {name: one.shape for name, one in folder.to_official(system, spec, model.state_dict()).items()}


def test_internvl_1_5_has_the_official_number() -> None:
    """25.51 billion: encoder, projector and InternLM2-20B."""
    language = {
        "architectures": ["InternLM2ForCausalLM"],
        "hidden_size": 6144,
        "intermediate_size": 16384,
        "num_hidden_layers": 48,
        "num_attention_heads": 48,
        "num_key_value_heads": 8,
        "vocab_size": 92553,
        "max_position_embeddings": 32768,
        "rope_theta": 1_000_000,
        "rope_scaling": {"type": "dynamic", "factor": 3.0},
        "rms_norm_eps": 1e-5,
        "bias": False,
    }
    shapes = official_shapes(
        internvl_1_5,
        {
            "llm_config": language,
            "vision_config": {"num_hidden_layers": 45, "image_size": 448},
            "force_image_size": 448,
            "ps_version": "v2",
        },
    )
    parts = {"vision_model": 5_536_496_000, "mlp1": 116_429_824, "language_model": 19_861_260_288}
    for part, count in parts.items():
        assert sum(shape.numel() for name, shape in shapes.items() if name.startswith(part)) == count
    assert shapes["language_model.model.layers.0.attention.wqkv.weight"] == (8192, 6144)


def test_nvlm_d_has_the_official_number() -> None:
    """79.38 billion, heads of zeros included."""
    language = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 152064,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
    }
    shapes = official_shapes(
        nvlm,
        {
            "llm_config": language,
            "vision_config": {"num_hidden_layers": 45, "image_size": 448},
            "force_image_size": 448,
            "ps_version": "v2",
        },
    )
    assert shapes["vision_model.encoder.layers.0.attn.qkv.weight"] == (3 * 4096, 3200)
    assert shapes["vision_model.encoder.layers.0.attn.proj.weight"] == (3200, 4096)
    assert shapes["vision_model.encoder.layers.0.attn.q_norm.weight"] == (4096,)
    assert round(sum(shape.numel() for shape in shapes.values()) / 1e9, 2) == 79.38


def test_llama_3_2_vision_has_its_number() -> None:
    """transformers' own class at its defaults, with the tiles of 560 px that were released: 10.67 billion."""
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    config = MllamaConfig(vision_config={"image_size": 560})
    spec = mllama.read(Official({"config.json": config.to_dict()}, {}))
    with torch.device("meta"):
        ours = unfilled(spec.model, spec.backbone)
        theirs = MllamaForConditionalGeneration(config)
    assert parameters(ours) == parameters(theirs)
    assert round(parameters(ours) / 1e9, 2) == 10.67
    assert list(ours.fusion.layers) == [3, 7, 11, 15, 19, 23, 27, 31]


def test_internvl_in_transformers_has_its_number() -> None:
    """transformers' own class at its defaults."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    config = InternVLConfig(tie_word_embeddings=False)
    spec = internvl.read(Official({"config.json": config.to_dict()}, {}))
    with torch.device("meta"):
        ours = unfilled(spec.model, spec.backbone)
        theirs = InternVLForConditionalGeneration(config)
    assert parameters(ours) == parameters(theirs)
