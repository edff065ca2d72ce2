"""What a folder may say that we do not have: one line, which names it. What stands in the way of writing: another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import vitrail
from vitrail.contracts.errors import WeightsError
from vitrail.media.config import NativeResolutionConfig
from vitrail.models.config import MLPProjectorConfig, PatchMergerConfig, VisionTransformerConfig
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.systems import folder, internvl, internvl_1_5, nvlm
from vitrail.systems.encoders import clip, siglip
from vitrail.systems.settings import ignored
from vitrail.systems.system import ModelSpec, Official

VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
LANGUAGE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIGS: dict[Any, dict[str, Any]] = {
    internvl: {"vision_config": {**VISION, "image_size": 8, "patch_size": 4}, "text_config": LANGUAGE},
    internvl_1_5: {
        "vision_config": {**VISION, "image_size": 8, "patch_size": 4},
        "llm_config": {
            **LANGUAGE,
            "num_key_value_heads": 1,
            "vocab_size": 20,
            "architectures": ["InternLM2ForCausalLM"],
        },
    },
    nvlm: {
        "vision_config": {**VISION, "image_size": 8, "patch_size": 4},
        "llm_config": {**LANGUAGE, "num_key_value_heads": 1, "vocab_size": 20, "architectures": ["Qwen2ForCausalLM"]},
    },
}


def read(system: Any, **changes: Any) -> ModelSpec:
    config = {**CONFIGS[system]}
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    found: ModelSpec = system.read(Official({"config.json": config}, {}))
    return found


@pytest.mark.parametrize(
    ("system", "changes", "says"),
    [
        (internvl, {"vision_config": {"hidden_act": "relu"}}, "vision_config.hidden_act is 'relu', supported: gelu"),
        (internvl, {"vision_config": {"norm_type": "none"}}, "vision_config.norm_type"),
        (internvl, {"vision_config": {"attention_dropout": 0.1}}, "vision_config.attention_dropout is 0.1"),
        (internvl, {"vision_config": {"use_qk_norm": True, "layer_norm_eps": 1e-5}}, "layer_norm_eps is 1e-05"),
        (internvl, {"vision_config": {"use_mean_pooling": False, "norm_type": "rms_norm"}}, "norm_type is 'rms_norm'"),
        (internvl, {"vision_config": {"image_size": [8, 16]}}, "supported: squares"),
        (internvl, {"vision_feature_layer": [-1, -2]}, "vision_feature_layer"),
        (internvl, {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy is 'full'"),
        (internvl_1_5, {"vision_config": {"norm_type": "batch_norm"}}, "vision_config.norm_type is 'batch_norm'"),
        (
            internvl_1_5,
            {"llm_config": {"architectures": ["Phi3ForCausalLM"]}},
            "is 'Phi3ForCausalLM', supported: Intern",
        ),
        (internvl_1_5, {"pad2square": True}, "pad2square is True"),
        (nvlm, {"vision_config": {"dropout": 0.1}}, "vision_config.dropout is 0.1"),
    ],
)
def test_settings_that_we_do_not_have_are_named(system: Any, changes: dict[str, Any], says: str) -> None:
    read(system)
    with pytest.raises(WeightsError, match=r"settings that are not supported|squares") as raised:
        read(system, **changes)
    assert says in str(raised.value)


@pytest.mark.parametrize("system", [internvl, internvl_1_5, nvlm])
def test_what_was_read_can_be_written(system: Any) -> None:
    assert system.obstacles(read(system)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"encoder": VisionTransformerConfig(width=16, heads=2)},
            "model.encoder.absolute is none, the layout has learnt",
        ),
        ({"projector": PatchMergerConfig()}, "model.projector is patch_merger, the layout has mlp"),
        ({"projector": MLPProjectorConfig()}, "model.projector.norm is rms, the layout has layer"),
        ({"media": NativeResolutionConfig()}, "model.media is native, the layout has tiles"),
    ],
)
@pytest.mark.parametrize("system", [internvl, internvl_1_5, nvlm])
def test_what_stands_in_the_way_of_writing_is_named(system: Any, changes: dict[str, Any], says: str) -> None:
    spec = read(system)
    found = system.obstacles(replace(spec, model=replace(spec.model, **changes)))
    assert says in found


@pytest.mark.parametrize("system", [internvl, internvl_1_5, nvlm])
def test_a_prompt_without_a_token_for_pictures_cannot_be_written(system: Any) -> None:
    spec = replace(read(system), prompt=PromptConfig(picture=PictureConfig()))
    assert "prompt.picture.token names no token, the layout has one" in system.obstacles(spec)


def test_layers_may_be_counted_from_the_first() -> None:
    """Those after the one that is read are kept, and not run."""
    encoders = [read(internvl, vision_feature_layer=layer).model.encoder for layer in (1, [-1])]
    assert [encoder.layer for encoder in encoders] == [-2, -1]  # type: ignore[union-attr]


@pytest.mark.parametrize(("layout", "kind"), [(clip, "clip_vision_model"), (siglip, "siglip_vision_model")])
def test_an_encoder_alone_is_no_model_to_talk_to(layout: Any, kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}', encoding="utf-8")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="taken for its encoder alone, without a language model"):
        vitrail.load(tmp_path, "cpu")
    assert folder.encoder_of(tmp_path) is layout


def test_an_unknown_encoder_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip_vision_modle"}', encoding="utf-8")
    with pytest.raises(WeightsError, match="did you mean 'clip_vision_model'"):
        folder.encoder_of(tmp_path)


@pytest.mark.parametrize("layout", [clip, siglip])
def test_a_whole_folder_of_two_towers_gives_the_one_for_pictures(layout: Any) -> None:
    assert layout.canonical("text_model.encoder.layers.0.mlp.fc1.weight") is None
    assert layout.canonical("logit_scale") is None
    for name in ("post_layernorm.weight", "vision_model.post_layernorm.weight"):
        assert layout.canonical(name) == "vision_model.post_layernorm.weight"
    nested = layout.read(Official({"config.json": {"vision_config": {**VISION, "image_size": 32}}}, {}))
    assert nested.encoder.width == 16


@pytest.mark.parametrize("layout", [clip, siglip])
def test_an_encoder_with_an_unknown_activation_is_refused(layout: Any) -> None:
    with pytest.raises(WeightsError, match="hidden_act is 'relu'"):
        layout.read(Official({"config.json": {"hidden_act": "relu"}}, {}))


def test_settings_of_an_encoder_that_nothing_reads_are_named() -> None:
    """Those of every published folder are read, or known to change nothing."""
    files = {"config.json": {"vision_config": {"hidden_size": 16, "deepstack_visual_indexes": [5], "use_head": None}}}
    assert ignored(files) == ["vision_config: deepstack_visual_indexes is not read"]
    fixtures = sorted((Path(__file__).parents[1] / "golden" / "fixtures").glob("*/config.json"))
    assert len(fixtures) > 8
    for path in fixtures:
        config = json.loads(path.read_text(encoding="utf-8"))
        assert ignored({"config.json": config}) == [], path


def test_settings_of_videos_that_are_not_ours_are_named() -> None:
    ours = {"fps": 2.0, "min_frames": 4, "max_frames": 768, "do_sample_frames": False, "patch_size": 14}
    pictures = {"patch_size": 14, "image_mean": [0.5]}
    name = "video_preprocessor_config.json"
    assert ignored({name: ours, "preprocessor_config.json": pictures}) == []
    (said,) = ignored({name: {**ours, "fps": 4, "patch_size": 16}, "preprocessor_config.json": pictures})
    assert said.startswith("video_preprocessor_config.json: fps 4, patch_size 16 not read: videos are looked at alike")
