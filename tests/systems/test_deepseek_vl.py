"""DeepSeek-VL at full size, and what its layouts refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vitrail.build.starting import unfilled
from vitrail.contracts.errors import WeightsError
from vitrail.models.config import DownsampleConfig, JoinedConfig, ModelConfig, StreamConfig
from vitrail.systems import deepseek_vl, deepseek_vl_hybrid, deepseek_vl_official, folder
from vitrail.systems.encoders import presets
from vitrail.systems.system import ModelSpec, Official

LANGUAGE = {"model_type": "llama", "vocab_size": 102400, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
SMALL = {
    **LANGUAGE,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}
LARGE = {
    **LANGUAGE,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
SIGLIP = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 384,
    "patch_size": 16,
    "hidden_act": "gelu",
    "vision_use_head": False,
}
TOWER = {"model_name": "siglip_large_patch16_384", "image_size": 384, "select_feature": "same", "select_layer": -1}
HYBRID = 7_331_390_721
HALF, CLIP = {"pixel_mean": [0.5] * 3, "pixel_std": [0.5] * 3}, {"pixel_mean": [0.48] * 3, "pixel_std": [0.27] * 3}


def aligner(kind: str, width: int) -> dict[str, Any]:
    params = {"depth": 2, "input_dim": 1024, "n_embed": width, "projector_type": kind}
    return {"cls": "MlpProjector", "model_type": "aligner", "params": params}


CONFIGS: dict[Any, dict[str, Any]] = {
    deepseek_vl: {"text_config": SMALL, "vision_config": SIGLIP, "tie_word_embeddings": False},
    deepseek_vl_hybrid: {
        "text_config": LARGE,
        "vision_config": SIGLIP,
        "high_res_vision_config": {},
        "tie_word_embeddings": False,
    },
}
OFFICIAL: dict[str, dict[str, Any]] = {
    "plain": {
        "language_config": SMALL,
        "vision_config": {"cls": "CLIPVisionTower", "params": TOWER},
        "aligner_config": aligner("mlp_gelu", 2048),
    },
    "hybrid": {
        # Sizes of the language model that are Llama's own are left out of the published file.
        "language_config": {"model_type": "llama", "num_hidden_layers": 30, "vocab_size": 102400},
        "vision_config": {
            "cls": "HybridVisionTower",
            "params": {
                "concat_type": "tuple",
                "low_res_cfg": {**TOWER, **HALF},
                "high_res_cfg": {**TOWER, **CLIP, "model_name": "sam_b_downsample", "image_size": 1024},
            },
        },
        "aligner_config": aligner("low_high_hybrid_split_mlp_gelu", 4096),
    },
}


def read(system: Any, config: dict[str, Any]) -> ModelSpec:
    spec: ModelSpec = system.read(Official({"config.json": config}, {}))
    return spec


def count(spec: ModelSpec) -> int:
    with torch.device("meta"):
        model = unfilled(spec.model, spec.backbone)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("system", CONFIGS)
def test_parameters_are_the_number_of_transformers_class(system: Any) -> None:
    import transformers

    spec, name = read(system, CONFIGS[system]), system.LAYOUT.removesuffix("ForConditionalGeneration")
    kinds = {"vision_config": "siglip_vision_model", "high_res_vision_config": "sam_vision_model"}
    parts = {key: {**value, "model_type": kinds[key]} for key, value in CONFIGS[system].items() if key in kinds}
    config = getattr(transformers, f"{name}Config")(**{**CONFIGS[system], **parts})
    with torch.device("meta"):
        theirs = getattr(transformers, system.LAYOUT)(config)
    assert count(spec) == sum(parameter.numel() for parameter in theirs.parameters())


def test_the_published_sizes() -> None:
    """7.3 billion of the hybrid; of both in their own code, an attention pool that is never asked comes along."""
    pool = 12_595_200
    for system, kind, parameters in ((deepseek_vl, "plain", 1_962_640_384), (deepseek_vl_hybrid, "hybrid", HYBRID)):
        assert count(read(system, CONFIGS[system])) == parameters
        assert count(read(deepseek_vl_official, OFFICIAL[kind])) == parameters + pool
    assert round(HYBRID / 1e9, 1) == 7.3


def test_readers_of_official_settings_make_the_presets() -> None:
    """Two ways to the same configuration."""
    spec = read(deepseek_vl_hybrid, CONFIGS[deepseek_vl_hybrid])
    assert spec.model.encoder == presets.siglip_large()
    assert spec.model.streams["high"].encoder == replace(presets.sam_base(), early=True)
    assert spec.model.streams["high"].projector == DownsampleConfig()
    assert spec.model.projector == JoinedConfig()
    theirs = read(deepseek_vl_official, OFFICIAL["hybrid"]).model
    assert theirs.encoder == replace(presets.siglip_large(), pooling="attention")
    assert theirs.streams["high"].encoder == spec.model.streams["high"].encoder
    assert theirs.streams["high"].projector == DownsampleConfig()


@pytest.mark.parametrize("system", [deepseek_vl, deepseek_vl_hybrid])
def test_what_was_read_can_be_written_in_both_layouts(system: Any) -> None:
    spec = read(system, CONFIGS[system])
    assert system.obstacles(spec) == []
    assert folder.fitting(spec) is system
    assert deepseek_vl_official.obstacles(spec) == []


def changed(spec: ModelSpec, part: str, **changes: Any) -> ModelSpec:
    """Another model, of which a component of the stream `high` has other settings."""
    high = spec.model.streams["high"]
    stream: StreamConfig = replace(high, **{part: replace(getattr(high, part), **changes)})
    return replace(spec, model=replace(spec.model, streams={"high": stream}))


def test_what_no_layout_says_stands_in_the_way() -> None:
    spec = read(deepseek_vl_hybrid, CONFIGS[deepseek_vl_hybrid])
    for system, other, says in (
        (deepseek_vl_hybrid, changed(spec, "projector", channels=(256, 1024)), "channels is [256, 1024]"),
        (deepseek_vl_official, changed(spec, "encoder", mlp_width=100), "mlp_width is 100"),
        (deepseek_vl_hybrid, changed(spec, "media", background=(0, 0, 0)), "background is [0, 0, 0]"),
        (deepseek_vl_hybrid, changed(spec, "encoder", early=False), "early is False"),
        (deepseek_vl, spec, "model.streams has high"),
    ):
        found = system.obstacles(other)
        assert any(says in one for one in found), (says, found)


def test_settings_that_we_do_not_have_are_named() -> None:
    hybrid = OFFICIAL["hybrid"]
    params = hybrid["vision_config"]["params"]
    for changes, says in (
        ({"concat_type": "feature"}, "concat_type is 'feature', supported: tuple"),
        ({"low_res_cfg": {**params["low_res_cfg"], "select_layer": -2}}, "low_res_cfg.select_layer is -2"),
        ({"low_res_cfg": {**params["low_res_cfg"], "model_name": "vit"}}, "an encoder 'vit', known: siglip_large"),
    ):
        vision = {**hybrid["vision_config"], "params": {**params, **changes}}
        with pytest.raises(WeightsError) as raised:
            read(deepseek_vl_official, {**hybrid, "vision_config": vision})
        assert says in str(raised.value)
    twice = {"config.json": hybrid, "preprocessor_config.json": {"do_normalize": True}}
    with pytest.raises(WeightsError, match="normalises pixels twice"):
        deepseek_vl_official.read(Official(twice, {}))


def test_tokens_that_do_not_pair_up_are_refused() -> None:
    model = read(deepseek_vl_hybrid, CONFIGS[deepseek_vl_hybrid]).model
    high = model.streams["high"]
    for changes, says in (
        ({"streams": {}}, "projector.joins is 'high', no other stream of model.streams; there: none"),
        ({"streams": {"high": replace(high, projector=DownsampleConfig(grid=(8, 8)))}}, "576 and 64"),
    ):
        with pytest.raises(ValueError, match="joins") as raised:
            ModelConfig(**{**vars(model), **changes})
        assert says in str(raised.value)
